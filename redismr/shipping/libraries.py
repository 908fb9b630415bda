"""Which libraries data was made with, and whether this process has the same.

An array that one version of a library has pickled may not load with another, or without it. That
is a fault of a machine, never of the user's code: it is told by the names of both versions.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from traceback import walk_tb
from types import ModuleType

from redismr.core.model import Provenance
from redismr.errors import CodeError, LibraryMismatch

SUBMITTER = "the submitter"

REPORTED_LIBRARIES = {
    "numpy": "numpy",
    "pandas": "pandas",
    "polars": "polars",
    "pyarrow": "pyarrow",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "torch": "torch",
}
"""Libraries that data is made of most often -> their distributions: workers tell their versions."""

_UNKNOWN_VERSION = "of a version that is not known"
_baseline: set[str] = set()
_version_cache: tuple[int, dict[str, str]] = 0, {}
_LOADING_PACKAGES = {"redismr", "cloudpickle", "pickle"}


def loaded_versions() -> dict[str, str]:
    """The libraries that this process has imported and that tell their version; name -> version.

    Those are left out that it had when ``set_baseline`` was called.
    """
    global _version_cache  # noqa: PLW0603  a walk over a thousand modules, and nothing is ever unloaded
    if _version_cache[0] != len(sys.modules):
        found = {
            name: version
            for name, module in list(sys.modules.items())
            if "." not in name
            and name not in _baseline
            and (version := _module_version(name, module))
        }
        _version_cache = len(sys.modules), found
    return _version_cache[1]


def reported_versions() -> str:
    """Those of ``REPORTED_LIBRARIES`` with their versions here, as ``numpy=2.4.6 torch=``: none of the latter."""  # noqa: E501
    versions = dict.fromkeys(REPORTED_LIBRARIES, "")
    for name, distribution in REPORTED_LIBRARIES.items():
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(distribution)
    return " ".join(f"{name}={version}" for name, version in versions.items())


def set_baseline() -> None:
    """From here on what this process has loaded already goes without saying."""
    global _version_cache  # noqa: PLW0603  see loaded_versions
    _baseline.update(loaded_versions())
    _version_cache = 0, {}


@contextmanager
def explain_library_errors(
    label: str, provenance: Provenance, data: bytes | memoryview = b"", worker: str = ""
) -> Iterator[None]:
    """Loading ``label`` in the body: where a library is the cause of an error, that is said.

    Args:
        label: its name, for people.
        provenance: who made it, and with what.
        data: the bytes that are loaded: which libraries they may name.
        worker: the name of this worker; empty for whoever reads a result.

    Raises:
        LibraryMismatch: a library that it needs is missing here, or of another version.
    """
    try:
        yield
    except LibraryMismatch:
        raise
    except Exception as error:
        if (text := describe_library_error(error, label, provenance, data, worker)) is None:
            raise
        raise LibraryMismatch(text) from error


def describe_library_error(
    error: BaseException,
    label: str,
    provenance: Provenance,
    data: bytes | memoryview = b"",
    worker: str = "",
) -> str | None:
    """Which libraries are to blame for the error, and what to do; None if none is."""
    cause = error.__cause__ if isinstance(error, CodeError) and error.__cause__ else error
    blamed, data = _failing_package(cause), bytes(data)
    suspects = [blamed]
    if blamed in _LOADING_PACKAGES:  # the loading itself failed, in C
        suspects = [
            name
            for name in provenance.libraries
            if name.encode() in data and name not in _LOADING_PACKAGES
        ]
    mismatched = {
        name: (provenance.libraries[name], present)
        for name in suspects
        if name in provenance.libraries
        and (present := _version_at_failure(name, cause)) != provenance.libraries[name]
    }
    if not mismatched:
        return None
    place, there_or_here = (f"worker {worker}", "there") if worker else ("this process", "here")
    required = ", ".join(f"{name} {version}" for name, (version, _) in mismatched.items())
    present = ", ".join(f"no {n}" if not v else f"{n} {v}" for n, (_, v) in mismatched.items())
    install = " ".join(f"{name}=={version}" for name, (version, _) in mismatched.items())
    return (
        f"{label} cannot be loaded by {place}, which has {present}; {provenance.made_by} has {required}. Install the "  # noqa: E501
        f"same {there_or_here} (pip install {install}), or send plain Python values\n"
        f"({type(cause).__name__}: {cause})"
    )


def _version_at_failure(name: str, cause: BaseException) -> str:
    """None where the import has found none, whatever is installed: something may hide it."""
    absent = isinstance(cause, ModuleNotFoundError) and cause.name == name
    return "" if absent else available_version(name)


def available_version(name: str) -> str:
    """The version of a library that this process has loaded, or would; empty if it has none."""
    module = sys.modules.get(name)
    if module is None:
        try:
            if importlib.util.find_spec(name) is None:
                return ""
        except (ImportError, ValueError):
            return ""
    elif version := _module_version(name, module):
        return version
    for distribution in (name, *metadata.packages_distributions().get(name, ())):
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return _UNKNOWN_VERSION


def _module_version(name: str, module: object) -> str:
    """What the module itself says, without running an attribute hook of it."""
    if not isinstance(module, ModuleType) or name in sys.stdlib_module_names:
        return ""
    version: object = vars(module).get("__version__")
    return version if isinstance(version, str) and 0 < len(version) <= 40 else ""


def _failing_package(error: BaseException) -> str:
    """The top-level package that an import or a look-up failed in, or whose code has raised."""
    name: object = ""
    if isinstance(error, ImportError):
        name = error.name
    elif isinstance(error, AttributeError) and isinstance(error.obj, ModuleType):
        name = error.obj.__name__
    if not name:
        for frame, _ in walk_tb(error.__traceback__):
            name = frame.f_globals.get("__name__")
    return str(name or "").partition(".")[0]
