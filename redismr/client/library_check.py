"""A check that the workers have the libraries that a job's data needs, with warnings."""

from __future__ import annotations

import pickletools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from redismr.core.model import JobSpec
from redismr.core.printable import printable_text
from redismr.user_warnings import warn_user

_TEXT_OPCODES = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
_MEMO_OPCODES = {"BINGET", "LONG_BINGET"}
_MAX_SCANNED_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class MissingLibraries:
    """Libraries of the submitter that a worker lacks, or has in another major version.

    Data that one major version has pickled may not load in another. Workers come and go, so jobs
    are never refused for this.
    """

    libraries: Mapping[str, str]  #: By name, the version that the submitter has.
    #: By name, a worker that lacks the library, and the worker's version or "".
    workers: Mapping[str, tuple[str, str]]
    warned: set[str] = field(default_factory=set)  #: Names for which a warning was given.

    @classmethod
    def from_worker_rows(
        cls, rows: Mapping[str, Mapping[str, Any]], spec: JobSpec, key_id: str
    ) -> MissingLibraries:
        """Compare the libraries in the rows of the workers that can run the job."""
        found: dict[str, tuple[str, str]] = {}
        for row in rows.values():
            if row.get("key_id") != key_id or row.get("python") != spec.python:
                continue
            worker = printable_text(f"{row.get('host')}:{row.get('pid')}", 80)
            for entry in str(row.get("libraries", "")).split():
                name, _, version = entry.partition("=")
                ours = spec.libraries.get(name)
                if ours is not None and version.partition(".")[0] != ours.partition(".")[0]:
                    found.setdefault(name, (worker, printable_text(version, 40)))
        return cls(spec.libraries, found)

    def warn(self, names: Iterable[str]) -> None:
        """Warn of those of these libraries that a worker lacks or has in another version."""
        for name in sorted({name.partition(".")[0] for name in names} & self.workers.keys()):
            if name in self.warned:
                continue
            self.warned.add(name)
            worker, version = self.workers[name]
            warn_user(
                f"the job's data needs {name} {self.libraries[name]}, as here; worker {worker} has "
                f"{f'{name} {version}' if version else f'no {name}'} and may not load it. Install "
                f"the same there (pip install {name}=={self.libraries[name]}), or send plain "
                "Python values"
            )

    def check_pickle(self, data: bytes) -> None:
        """Warn of libraries as ``warn`` does: those that pickled data names."""
        if any(name.encode() in data for name in self.workers) and len(data) <= _MAX_SCANNED_BYTES:
            self.warn(modules_in_pickle(data))


def modules_in_pickle(data: bytes) -> Iterator[str]:
    """Yield the modules of the globals that a pickle of protocol 4 or 5 names; loads nothing.

    >>> import pickle, decimal
    >>> list(modules_in_pickle(pickle.dumps([decimal.Decimal(1), "json"], 5)))
    ['decimal']
    """
    memo: list[str] = []
    last, previous = "", ""
    for op, argument, _ in pickletools.genops(data):
        if op.name in _TEXT_OPCODES:
            previous, last = last, str(argument)
        elif op.name in _MEMO_OPCODES:
            previous, last = last, memo[int(str(argument))]
        elif op.name == "MEMOIZE":
            memo.append(last)
        elif op.name == "STACK_GLOBAL":
            yield previous
            previous, last = "", ""
        elif op.name not in ("FRAME", "PROTO"):
            previous, last = "", ""
