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

from redismr.core.model import Made
from redismr.errors import CodeError, LibraryMismatch

SUBMITTER = "the submitter"

TOLD = {
    "numpy": "numpy",
    "pandas": "pandas",
    "polars": "polars",
    "pyarrow": "pyarrow",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "torch": "torch",
}
"""Libraries that data is made of most often -> their distributions: workers tell their versions."""

_UNKNOWN = "of a version that is not known"
_born_with: set[str] = set()
_seen: tuple[int, dict[str, str]] = 0, {}
_OURS = {"redismr", "cloudpickle", "pickle"}


def loaded() -> dict[str, str]:
    """The libraries that this process has imported and that tell their version; name -> version.

    Those are left out that it had when ``settle`` was called.
    """
    global _seen  # noqa: PLW0603  a walk over a thousand modules, and nothing is ever unloaded
    if _seen[0] != len(sys.modules):
        found = {
            name: version
            for name, module in list(sys.modules.items())
            if "." not in name and name not in _born_with and (version := _version_of(name, module))
        }
        _seen = len(sys.modules), found
    return _seen[1]


def told() -> str:
    """Those of ``TOLD`` with their versions here, as ``numpy=2.4.6 torch=``: none of the latter."""
    versions = dict.fromkeys(TOLD, "")
    for name, distribution in TOLD.items():
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(distribution)
    return " ".join(f"{name}={version}" for name, version in versions.items())


def settle() -> None:
    """From here on what this process has loaded already goes without saying."""
    global _seen  # noqa: PLW0603  see loaded
    _born_with.update(loaded())
    _seen = 0, {}


@contextmanager
def told_apart(
    what: str, made: Made, data: bytes | memoryview = b"", here: str = ""
) -> Iterator[None]:
    """Loading ``what`` in the body: where a library is the cause of an error, that is said.

    Args:
        what: its name, for people.
        made: who made it, and with what.
        data: the bytes that are loaded: which libraries they may name.
        here: the name of this worker; empty for whoever reads a result.

    Raises:
        LibraryMismatch: a library that it needs is missing here, or of another version.
    """
    try:
        yield
    except LibraryMismatch:
        raise
    except Exception as error:
        if (text := explain(error, what, made, data, here)) is None:
            raise
        raise LibraryMismatch(text) from error


def explain(
    error: BaseException, what: str, made: Made, data: bytes | memoryview = b"", here: str = ""
) -> str | None:
    """Which libraries are to blame for the error, and what to do; None if none is."""
    cause = error.__cause__ if isinstance(error, CodeError) and error.__cause__ else error
    blamed, data = _place_of(cause), bytes(data)
    suspects = [blamed]
    if blamed in _OURS:  # the loading itself failed, in C
        suspects = [name for name in made.libraries if name.encode() in data and name not in _OURS]
    wrong = {
        name: (made.libraries[name], mine)
        for name in suspects
        if name in made.libraries and (mine := _version_met(name, cause)) != made.libraries[name]
    }
    if not wrong:
        return None
    place, there_or_here = (f"worker {here}", "there") if here else ("this process", "here")
    there = ", ".join(f"{name} {version}" for name, (version, _) in wrong.items())
    mine = ", ".join(f"no {n}" if not v else f"{n} {v}" for n, (_, v) in wrong.items())
    install = " ".join(f"{name}=={version}" for name, (version, _) in wrong.items())
    return (
        f"{what} cannot be loaded by {place}, which has {mine}; {made.by} has {there}. Install the "
        f"same {there_or_here} (pip install {install}), or send plain Python values\n"
        f"({type(cause).__name__}: {cause})"
    )


def _version_met(name: str, cause: BaseException) -> str:
    """None where the import has found none, whatever is installed: something may hide it."""
    absent = isinstance(cause, ModuleNotFoundError) and cause.name == name
    return "" if absent else version_here(name)


def version_here(name: str) -> str:
    """The version of a library that this process has loaded, or would; empty if it has none."""
    module = sys.modules.get(name)
    if module is None:
        try:
            if importlib.util.find_spec(name) is None:
                return ""
        except (ImportError, ValueError):
            return ""
    elif version := _version_of(name, module):
        return version
    for distribution in (name, *metadata.packages_distributions().get(name, ())):
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return _UNKNOWN


def _version_of(name: str, module: object) -> str:
    """What the module itself says, without running an attribute hook of it."""
    if not isinstance(module, ModuleType) or name in sys.stdlib_module_names:
        return ""
    version: object = vars(module).get("__version__")
    return version if isinstance(version, str) and 0 < len(version) <= 40 else ""


def _place_of(error: BaseException) -> str:
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
