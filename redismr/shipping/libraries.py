"""The libraries that data was made with, compared with those of this process.

An array that one version of a library has pickled may not load with another version, or without the
library. Then a machine is at fault, not the user's code: the error names both versions.
"""

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

REPORTED_LIBRARIES = ("numpy", "pandas", "polars", "pyarrow", "scipy", "sklearn", "torch")
"""The most common ones: workers report their versions of these."""

_UNKNOWN_VERSION = "of a version that is not known"
_baseline: set[str] = set()
_version_cache: tuple[int, dict[str, str]] = 0, {}  # number of modules -> answer for so many
_LOADING_PACKAGES = {"redismr", "cloudpickle", "pickle"}


def loaded_versions() -> dict[str, str]:
    """Return name -> version of the libraries that this process has imported since its baseline.

    Libraries without a ``__version__`` are left out.
    """
    global _version_cache  # noqa: PLW0603  a thousand modules are searched only if there are new ones
    if _version_cache[0] != len(sys.modules):
        found = {
            name: version
            for name, module in list(sys.modules.items())
            if "." not in name and name not in _baseline
            if (version := _module_version(name, module))
        }
        _version_cache = len(sys.modules), found
    return _version_cache[1]


def reported_versions() -> str:
    """Return ``REPORTED_LIBRARIES`` with their versions here: ``numpy=2.4.6 torch=`` (no torch)."""
    versions = dict.fromkeys(REPORTED_LIBRARIES, "")
    for name in REPORTED_LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version("scikit-learn" if name == "sklearn" else name)
    return " ".join(f"{name}={version}" for name, version in versions.items())


def set_baseline() -> None:
    """Leave the libraries that are loaded now out of the later ``loaded_versions``."""
    global _version_cache  # noqa: PLW0603  see loaded_versions
    _baseline.update(loaded_versions())
    _version_cache = 0, {}


@contextmanager
def explain_library_errors(
    label: str, provenance: Provenance, data: bytes | memoryview = b"", worker: str = ""
) -> Iterator[None]:
    """Raise LibraryMismatch for an error in the body that a library is the cause of.

    ``label`` says what the body loads; ``data`` are the bytes that it loads: they hold the names of
    libraries. ``worker`` is the name of this worker; empty in a reader of a result.
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
    """Return which libraries caused the error, and what to do; None if no library did."""
    cause = error.__cause__ if isinstance(error, CodeError) and error.__cause__ else error
    suspects, data, required = [_failing_package(cause)], bytes(data), provenance.libraries
    if suspects[0] in _LOADING_PACKAGES:  # unpickling failed in C, where no frame names a library
        suspects = [n for n in required if n.encode() in data and n not in _LOADING_PACKAGES]
    # A library whose import failed is absent, whatever is installed.
    absent = cause.name if isinstance(cause, ModuleNotFoundError) else None
    present = {
        name: version
        for name in suspects
        if name in required
        if (version := "" if name == absent else available_version(name)) != required[name]
    }
    if not present:
        return None
    place, there_or_here = (f"worker {worker}", "there") if worker else ("this process", "here")
    has = ", ".join(f"{name} {v}" if v else f"no {name}" for name, v in present.items())
    made_with = ", ".join(f"{name} {required[name]}" for name in present)
    install = " ".join(f"{name}=={required[name]}" for name in present)
    return (
        f"{label} cannot be loaded by {place}, which has {has}; {provenance.made_by} has "
        f"{made_with}. Install the same {there_or_here} (pip install {install}), or send plain "
        f"Python values\n({type(cause).__name__}: {cause})"
    )


def available_version(name: str) -> str:
    """Return the version of a library that is loaded or installed here; "" if there is none."""
    module = sys.modules.get(name)
    if version := _module_version(name, module):
        return version
    try:
        if module is None and importlib.util.find_spec(name) is None:
            return ""
    except (ImportError, ValueError):
        return ""
    for distribution in (name, *metadata.packages_distributions().get(name, ())):
        with suppress(metadata.PackageNotFoundError):
            return metadata.version(distribution)
    return _UNKNOWN_VERSION


def _module_version(name: str, module: object) -> str:
    """Return the module's ``__version__``, without running its ``__getattr__``; "" if none."""
    if not isinstance(module, ModuleType) or name in sys.stdlib_module_names:
        return ""
    version: object = vars(module).get("__version__")
    return version if isinstance(version, str) and 0 < len(version) <= 40 else ""


def _failing_package(error: BaseException) -> str:
    """Return the top-level package in which an import, a look-up or a call failed."""
    name: object = ""
    if isinstance(error, ImportError):
        name = error.name
    elif isinstance(error, AttributeError) and isinstance(error.obj, ModuleType):
        name = error.obj.__name__
    if not name:
        for frame, _ in walk_tb(error.__traceback__):
            name = frame.f_globals.get("__name__")
    return str(name or "").partition(".")[0]
