"""Options as frozen dataclasses, with their defaults, units and checks.

Pure data: reading the environment or files into these is ``settings.py``'s business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any

from redismr.confidential import Confined, confide, passwords_in
from redismr.errors import ConfigError

DEFAULT_NAMESPACE = "redismr"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """What a caller may choose about one job. Times in seconds, sizes in bytes.

    ``memory`` is what an executor should take at most, Python's own 44 MB included: map tasks hand
    on what they hold sooner, and of an unsorted job a larger partition is reduced in several
    passes, each of which reads it all. It is an estimate, from 64 MB on: of small keys that all
    differ, reducers take up to twice as much, and long keys or groups take what they take.

    ``on_error`` says what becomes of records that mapfn fails on (and keys, for reducefn): "fail",
    "skip", or how many may be skipped: a count, or a fraction of all records.

    ``each_worker`` gives each worker that is there, or comes before the others are done, just one
    map task: one item of the source, or ``chunk`` of them. The rest of the source is not read, so
    it may be endless. What a worker that vanishes would have given is left out.

    ``wait_for_workers`` and ``wait_for_server`` are how long the process that submits waits for a
    first worker, and for a server that is away meanwhile; None: as long as it takes.

    Raises:
        ConfigError: an option is out of its range; the message names it.
    """

    name: str | None = None
    txn: str | None = None
    partitions: int | None = None
    sort: bool = False
    on_error: str | int | float = "fail"
    retries: int = 3
    task_timeout: float | None = None
    lease: float = 15.0
    lost_leases: int = 3
    memory: int | None = None
    chunk: int | None = None
    priority: int = 0
    seed: int = 0
    backup: bool = True
    each_worker: bool = False
    ttl: float = 86400.0
    wait_for_workers: float | None = None
    wait_for_server: float | None = 30.0

    def __post_init__(self) -> None:
        """Refuse what cannot work, all faults in one message."""
        faults = [
            f"{name}={getattr(self, name)!r} must be {rule}"
            for name, rule, ok in (
                ("partitions", "between 1 and 4096", _within(self.partitions, 1, 4096)),
                (
                    "on_error",
                    '"fail", "skip", a count of records, or a fraction of them (0.01)',
                    _on_error(self.on_error),
                ),
                ("retries", "between 0 and 100", _within(self.retries, 0, 100)),
                ("task_timeout", "a positive number of seconds", _positive(self.task_timeout)),
                ("lease", "between 0.1 and 3600 seconds", _within(self.lease, 0.1, 3600)),
                ("lost_leases", "between 0 and 100", _within(self.lost_leases, 0, 100)),
                ("memory", "at least 16 MiB", _within(self.memory, 16 << 20, 1 << 50)),
                ("chunk", "at least 1 item a task", _within(self.chunk, 1, 1 << 40)),
                ("priority", "between -1000 and 1000", _within(self.priority, -1000, 1000)),
                ("backup", "True or False", isinstance(self.backup, bool)),
                ("each_worker", "True or False", isinstance(self.each_worker, bool)),
                ("ttl", "between 1 second and 366 days", _within(self.ttl, 1, 366 * 86400)),
                (
                    "wait_for_workers",
                    "a positive number of seconds",
                    _positive(self.wait_for_workers),
                ),
                (
                    "wait_for_server",
                    "a positive number of seconds",
                    _positive(self.wait_for_server),
                ),
            )
            if not ok
        ]
        if faults:
            raise ConfigError("; ".join(faults))


def job_options(given: Mapping[str, Any]) -> JobOptions:
    """The options that a caller gave by name.

    Raises:
        ConfigError: a name that is no option, or a value out of range.
    """
    known = [field.name for field in fields(JobOptions)]
    unknown = sorted(given.keys() - set(known))
    if unknown:
        near = [close[0] for name in unknown if (close := get_close_matches(name, known, 1))]
        hint = f"did you mean {', '.join(near)}?" if near else f"there are: {', '.join(known)}"
        raise ConfigError(f"no such option: {', '.join(unknown)}; {hint}")
    return JobOptions(**given)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection(Confined):
    """Where the server is, and what proves that we belong to it.

    ``secret`` is the shared secret as the user gave it; ``embedded`` says that we started the
    server ourselves (its secret is 32 random bytes, and it ends with us). This process keeps the
    secret, and the URL's password, out of all that it sends.
    """

    url: str = field(repr=False)  # it may hold a password
    secret: str = field(repr=False)
    namespace: str = "redismr"
    embedded: bool = False

    def __post_init__(self) -> None:
        """Remember what must not leave this process."""
        self.confide()

    def confide(self) -> None:
        """Remember it once more: a process that has many servers forgets the oldest words."""
        confide(self.secret, *passwords_in(self.url), private=self.embedded)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """What one ``redismr worker`` process may choose. Times in seconds."""

    executors: int = 1
    burst: bool = False
    max_tasks: int | None = None
    parent_pipe: int | None = None
    quiet: bool = False


def _within(value: float | None, low: float, high: float) -> bool:
    return value is None or (_is_number(value) and low <= value <= high)


def _on_error(value: object) -> bool:
    if isinstance(value, float):
        return 0 < value <= 1
    return value in ("fail", "skip") or (_is_number(value) and 0 <= value <= 1 << 50)  # type: ignore[operator]


def _positive(value: float | None) -> bool:
    return value is None or (_is_number(value) and value > 0)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
