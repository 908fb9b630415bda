"""Options as frozen dataclasses, with their defaults, units and checks.

Pure data: reading the environment or files into these is ``settings.py``'s business.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from numbers import Integral, Real
from reprlib import repr as short
from typing import Any, TypedDict, TypeVar

from redismr.confidential import Unpicklable, passwords_in, remember_secrets
from redismr.errors import ConfigError

DEFAULT_NAMESPACE = "redismr"

Number = TypeVar("Number", int, float)


MAX_NAME_LENGTH = 1000
"""The longest name and txn, in characters: every listing and event has them."""

MAX_EXECUTORS = 1024

MAX_PORT = 65535

LEAP_YEAR_SECONDS = 366 * 86400

_PLAIN_LITERAL_TYPES = (int, float, str, bool, type(None))


@dataclass(frozen=True, slots=True)
class OptionRule:
    """What an option may be: in words, and as what makes the value that is kept.

    ``convert`` raises TypeError, ValueError or OverflowError for what the option cannot be.
    """

    description: str
    convert: Callable[[Any], Any]

    def check(self, name: str, value: Any) -> Any:
        """The value as it is kept.

        Raises:
            ConfigError: the option cannot be that; the message names it.
        """
        try:
            return self.convert(value)
        except (TypeError, ValueError, OverflowError):
            raise ConfigError(f"{name}={show_value(value)} must be {self.description}") from None


def show_value(value: Any) -> str:
    """A value in a message: cut where it is long, with its type where people could not tell it.

    >>> show_value(2.0), show_value("no"), show_value([1])
    ('2.0', "'no'", '[1] (list)')
    """
    if type(value) is int and value.bit_length() > 128:
        return f"<an int of {value.bit_length()} bits>"
    return (
        short(value)
        if type(value) in _PLAIN_LITERAL_TYPES
        else f"{short(value)} ({type(value).__name__})"
    )


def int_rule(low: int, high: int, description: str = "") -> OptionRule:
    """Whole numbers from ``low`` to ``high``, NumPy's too; no floats and no bools."""

    def convert(value: Any) -> int:
        number = operator.index(_reject_bool(value))
        return _check_range(number, low, high)

    return OptionRule(description or f"a whole number (int) between {low} and {high}", convert)


def seconds_rule(low: float, high: float, description: str) -> OptionRule:
    """Numbers from ``low`` to ``high``, whole or not; neither bools nor NaN."""

    def convert(value: Any) -> float:
        if not isinstance(_reject_bool(value), Real):
            raise TypeError
        return _check_range(float(value), low, high)

    return OptionRule(description, convert)


def text_rule(longest: int) -> OptionRule:
    """Text that can be written as UTF-8, so without halves of surrogate pairs."""

    def convert(value: Any) -> str:
        if not isinstance(value, str):
            raise TypeError
        value.encode()
        _check_range(len(value), 0, longest)
        return str(value)

    return OptionRule(f"UTF-8 text (no lone surrogates) of at most {longest} characters", convert)


LABEL_RULE = text_rule(MAX_NAME_LENGTH)


def _convert_flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


FLAG_RULE = OptionRule("True or False", _convert_flag)


def _convert_on_error(value: Any) -> str | int | float:
    if isinstance(value, str):
        return ("fail", "skip")[("fail", "skip").index(value)]
    if isinstance(_reject_bool(value), Integral):
        return _check_range(int(value), 0, 1 << 50)
    if isinstance(value, Real) and float(value) > 0:
        return _check_range(float(value), 0, 1)
    raise TypeError


def _check_range(number: Number, low: Number, high: Number) -> Number:
    if not low <= number <= high:
        raise ValueError
    return number


def _reject_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise TypeError
    return value


class JobOptionsDict(TypedDict, total=False):
    """The options of one job as a caller gives them by name: for editors and type checkers.

    ``JobOptions`` has the same fields, with defaults and checks.
    """

    #: What people see in listings and progress rows, in clear text; at most 1000 characters.
    name: str | None
    #: The caller's own label, in clear text: several jobs may share one. None: the id of the job.
    txn: str | None
    #: How many reduce tasks; None: chosen by the size of the source and the number of executors.
    partitions: int | None
    #: True gives results in key order.
    sort: bool
    #: For records on which mapfn fails, and keys on which reducefn does: "fail", "skip", or how
    #: many may be skipped, as a count (int) or as a fraction of all records (float).
    on_error: str | int | float
    #: How often a task is tried again after an error in user code.
    retries: int
    #: Seconds that one attempt of a task may take; None: as long as it needs.
    task_timeout: float | None
    #: Seconds after which the tasks of a lost worker are given to others.
    lease: float
    #: How often a task is tried again after its worker was lost.
    lost_leases: int
    #: Bytes that an executor should take at most, Python's own 44 MB included; None: no limit.
    memory: int | None
    #: Items, or whole files, in each map task; None: chosen by their size.
    chunk: int | None
    #: Jobs with a larger number go first.
    priority: int
    #: Seeds the ``random`` module in every task, so that a job can be repeated exactly.
    seed: int
    #: True lets an idle executor run a second attempt beside a slow one.
    backup: bool
    #: True gives each worker exactly one map task.
    each_worker: bool
    #: Seconds for which the job stays on the server.
    ttl: float
    #: Seconds that the submitter waits for a first worker; None: as long as it takes.
    wait_for_workers: float | None
    #: Seconds that the submitter waits for a server that is away; None: as long as it takes.
    wait_for_server: float | None


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
    first worker, and for a server that is away meanwhile; None: as long as it takes. One that holds
    the line and says nothing is noticed after 20 s.

    Raises:
        ConfigError: an option is of a wrong type or out of its range; the message names it.
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
        """Refuse what cannot work, all faults in one message; keep plain ints, floats and bools."""
        faults = []
        for name, rule in OPTION_RULES.items():
            if (given := getattr(self, name)) is None and name in _NONE_ALLOWED:
                continue
            try:
                object.__setattr__(self, name, rule.check(name, given))
            except ConfigError as fault:
                faults.append(str(fault))
        if faults:
            raise ConfigError("; ".join(faults))


OPTION_RULES = {
    "name": LABEL_RULE,
    "txn": LABEL_RULE,
    "partitions": int_rule(1, 4096),
    "sort": FLAG_RULE,
    "on_error": OptionRule(
        '"fail", "skip", a count of records, or a fraction of them (0.01)', _convert_on_error
    ),
    "retries": int_rule(0, 100),
    "task_timeout": seconds_rule(0.001, LEAP_YEAR_SECONDS, "between 0.001 seconds and 366 days"),
    "lease": seconds_rule(0.1, 3600, "between 0.1 and 3600 seconds"),
    "lost_leases": int_rule(0, 100),
    "memory": int_rule(16 << 20, 1 << 50, "a whole number (int) of bytes, at least 16 MiB"),
    "chunk": int_rule(1, 1 << 40, "a whole number (int), at least 1 item a task"),
    "priority": int_rule(-1000, 1000),
    "seed": int_rule(-(1 << 128), 1 << 128, "a whole number (int) of at most 128 bits"),
    "backup": FLAG_RULE,
    "each_worker": FLAG_RULE,
    "ttl": seconds_rule(1, LEAP_YEAR_SECONDS, "between 1 second and 366 days"),
    "wait_for_workers": seconds_rule(
        0.001, LEAP_YEAR_SECONDS, "between 0.001 seconds and 366 days"
    ),
    "wait_for_server": seconds_rule(0.001, LEAP_YEAR_SECONDS, "between 0.001 seconds and 366 days"),
}
"""What each field of ``JobOptions`` may be."""

_NONE_ALLOWED = {field.name for field in fields(JobOptions) if field.default is None}
_NONE_ALLOWED |= {"wait_for_server"}  # for ever, and not by default


def parse_job_options(given: Mapping[str, Any]) -> JobOptions:
    """The options that a caller gave by name.

    Raises:
        ConfigError: a name that is no option, or a value out of range.
    """
    known = [field.name for field in fields(JobOptions)]
    unknown = sorted(set(map(str, given)) - set(known))
    if unknown:
        near = [close[0] for name in unknown if (close := get_close_matches(name, known, 1))]
        hint = f"did you mean {', '.join(near)}?" if near else f"there are: {', '.join(known)}"
        raise ConfigError(f"no such option: {', '.join(unknown)}; {hint}")
    return JobOptions(**given)


def check_params(params: Any) -> Mapping[str, Any]:
    """The params of a job, none for None.

    Raises:
        ConfigError: they are no mapping.
    """
    if params is None:
        return {}
    if not isinstance(params, Mapping):
        raise ConfigError(
            f"params={show_value(params)} must be a dict of names and values, for redismr.param(name)"  # noqa: E501
        )
    return params


def checked_executors(executors: Any, name: str = "executors") -> int | None:
    """How many executors to have; None for the default.

    Raises:
        ConfigError: they are no number of processes.
    """
    return None if executors is None else int_rule(1, MAX_EXECUTORS).check(name, executors)


def choose_combiner(combinefn: Any, collectfn: Any) -> Any:
    """The combiner, under whichever of its two names it was given.

    Raises:
        ConfigError: it was given under both.
    """
    if combinefn is not None and collectfn is not None:
        raise ConfigError("combinefn and collectfn are two names of one function: give one of them")
    return collectfn if combinefn is None else combinefn


def check_callable(name: str, function: Any) -> None:
    """Refuse what is given as a function, and is none.

    Raises:
        ConfigError: so it is; the message names it.
    """
    if function is not None and not callable(function):
        raise ConfigError(f"{name}={show_value(function)} must be a function")


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection(Unpicklable):
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
        self.remember_secrets()

    def remember_secrets(self) -> None:
        """Remember it once more: a process that has many servers forgets the oldest words."""
        remember_secrets(self.secret, *passwords_in(self.url), private=self.embedded)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """What one ``redismr worker`` process may choose. Times in seconds."""

    executors: int = 1
    burst: bool = False
    max_tasks: int | None = None
    parent_pipe: int | None = None
    quiet: bool = False
