"""Options as frozen dataclasses, with their defaults, units and checks.

Nothing here reads the environment or files: ``settings.py`` does that.
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
MAX_NAME_LENGTH = 1000  # of a name or txn, in characters: every listing and event holds them
MAX_EXECUTORS = 1024
MAX_PORT = 65535
LEAP_YEAR_SECONDS = 366 * 86400
Number = TypeVar("Number", int, float)
_PLAIN_LITERAL_TYPES = (int, float, str, bool, type(None))


@dataclass(frozen=True, slots=True)
class OptionRule:
    """The rule for the values of one option."""

    description: str  #: The allowed values in words: "<name>=<value> must be <description>".
    #: Returns the value to keep; raises TypeError, ValueError or OverflowError for a wrong one.
    convert: Callable[[Any], Any]

    def check(self, name: str, value: Any) -> Any:
        """Return the value to keep, or raise a ConfigError that names option and value."""
        try:
            return self.convert(value)
        except (TypeError, ValueError, OverflowError):
            raise ConfigError(f"{name}={show_value(value)} must be {self.description}") from None


def show_value(value: Any) -> str:
    """Return a value for a message: cut if it is long, with its type if that is not plain.

    >>> show_value(2.0), show_value("no"), show_value([1])
    ('2.0', "'no'", '[1] (list)')
    """
    if type(value) is int and value.bit_length() > 128:
        return f"<an int of {value.bit_length()} bits>"
    is_plain = type(value) in _PLAIN_LITERAL_TYPES
    return short(value) if is_plain else f"{short(value)} ({type(value).__name__})"


def int_rule(low: int, high: int, description: str = "") -> OptionRule:
    """Return a rule for whole numbers from ``low`` to ``high``, NumPy's too, but no bools."""

    def convert(value: Any) -> int:
        return _check_range(operator.index(_reject_bool(value)), low, high)

    return OptionRule(description or f"a whole number (int) between {low} and {high}", convert)


def seconds_rule(low: float, high: float, description: str) -> OptionRule:
    """Return a rule for numbers from ``low`` to ``high``; neither bools nor NaN."""

    def convert(value: Any) -> float:
        if not isinstance(_reject_bool(value), Real):
            raise TypeError
        return _check_range(float(value), low, high)

    return OptionRule(description, convert)


def text_rule(max_length: int) -> OptionRule:
    """Return a rule for text that can be written as UTF-8."""

    def convert(value: Any) -> str:
        if not isinstance(value, str):
            raise TypeError
        value.encode()
        _check_range(len(value), 0, max_length)
        return str(value)

    description = f"UTF-8 text (no lone surrogates) of at most {max_length} characters"
    return OptionRule(description, convert)


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
    """The options of one job by name, for type checkers; ``JobOptions`` has defaults and checks."""

    name: str | None  #: Clear text of at most 1000 characters, for listings and progress rows.
    #: The caller's own label, in clear text: several jobs may share one. None: the id of the job.
    txn: str | None
    partitions: int | None  #: Reduce tasks; None: chosen by the source's size and the executors.
    sort: bool  #: True gives results in key order.
    #: For records on which mapfn fails, and keys on which reducefn does: "fail", "skip", or how
    #: many may be skipped, as a count (int) or as a fraction of all records (float).
    on_error: str | int | float
    retries: int  #: How often a task is tried again after an error in user code.
    task_timeout: float | None  #: Seconds that an attempt may take; None: as long as it needs.
    lease: float  #: Seconds after which the tasks of a lost worker are given to others.
    lost_leases: int  #: How often a task is tried again after its worker was lost.
    #: Bytes that an executor should take at most, Python's own 44 MB included; None: no limit. Map
    #: tasks write what they hold sooner, and a large partition of an unsorted job is reduced in
    #: several passes, each of which reads all of it. An estimate, from 64 MB on: with small keys
    #: that all differ, reducers take up to twice as much; long keys and groups are not bounded.
    memory: int | None
    chunk: int | None  #: Items, or whole files, in each map task; None: chosen by their size.
    priority: int  #: Jobs with a larger number go first.
    seed: int  #: Seeds the ``random`` module in every task, so that a job can be repeated exactly.
    backup: bool  #: True lets an idle executor run a second attempt beside a slow one.
    #: True gives each worker that is there, or comes before the others are done, exactly one map
    #: task: one item of the source, or ``chunk`` of them. The rest of the source is not read, so it
    #: may be endless. The output of a worker that vanishes is left out.
    each_worker: bool
    ttl: float  #: Seconds for which the job stays on the server.
    wait_for_workers: float | None  #: Seconds to wait for a first worker; None: without end.
    #: Seconds that the submitter waits for a server that is away; None: as long as it takes. A
    #: server that keeps the connection open but does not answer counts as away after 20 s.
    wait_for_server: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """The options of one job, with defaults; a ConfigError names all that are wrong."""

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


_ANY_SECONDS = seconds_rule(0.001, LEAP_YEAR_SECONDS, "between 0.001 seconds and 366 days")
OPTION_RULES = {
    "name": LABEL_RULE,
    "txn": LABEL_RULE,
    "partitions": int_rule(1, 4096),
    "sort": FLAG_RULE,
    "on_error": OptionRule(
        '"fail", "skip", a count of records, or a fraction of them (0.01)', _convert_on_error
    ),
    "retries": int_rule(0, 100),
    "task_timeout": _ANY_SECONDS,
    "lease": seconds_rule(0.1, 3600, "between 0.1 and 3600 seconds"),
    "lost_leases": int_rule(0, 100),
    "memory": int_rule(16 << 20, 1 << 50, "a whole number (int) of bytes, at least 16 MiB"),
    "chunk": int_rule(1, 1 << 40, "a whole number (int), at least 1 item a task"),
    "priority": int_rule(-1000, 1000),
    "seed": int_rule(-(1 << 128), 1 << 128, "a whole number (int) of at most 128 bits"),
    "backup": FLAG_RULE,
    "each_worker": FLAG_RULE,
    "ttl": seconds_rule(1, LEAP_YEAR_SECONDS, "between 1 second and 366 days"),
    "wait_for_workers": _ANY_SECONDS,
    "wait_for_server": _ANY_SECONDS,
}
"""The allowed values of each field of ``JobOptions``."""

# wait_for_server=None means for ever, but is not the default
_NONE_ALLOWED = {"wait_for_server"} | {f.name for f in fields(JobOptions) if f.default is None}


def parse_job_options(given: Mapping[str, Any]) -> JobOptions:
    """Return the options that a caller gave by name."""
    known = [field.name for field in fields(JobOptions)]
    unknown = sorted(set(map(str, given)) - set(known))
    if unknown:
        near = [close[0] for name in unknown if (close := get_close_matches(name, known, 1))]
        hint = f"did you mean {', '.join(near)}?" if near else f"there are: {', '.join(known)}"
        raise ConfigError(f"no such option: {', '.join(unknown)}; {hint}")
    return JobOptions(**given)


def check_params(params: Any) -> Mapping[str, Any]:
    """Return the params of a job; empty for None."""
    if params is None:
        return {}
    if not isinstance(params, Mapping):
        raise ConfigError(
            f"params={show_value(params)} must be a dict of names and values, for redismr.param(name)"  # noqa: E501
        )
    return params


def checked_executors(executors: Any) -> int | None:
    """Return the number of executors to start; None for the default."""
    return None if executors is None else int_rule(1, MAX_EXECUTORS).check("executors", executors)


def choose_combiner(combinefn: Any, collectfn: Any) -> Any:
    """Return the combiner, given under either of its two names."""
    if combinefn is not None and collectfn is not None:
        raise ConfigError("combinefn and collectfn are two names of one function: give one of them")
    return collectfn if combinefn is None else combinefn


def check_callable(name: str, function: Any) -> None:
    """Check that an argument is a function or None."""
    if function is not None and not callable(function):
        raise ConfigError(f"{name}={show_value(function)} must be a function")


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection(Unpicklable):
    """The address of a server, and the secret that this process shares with its workers."""

    url: str = field(repr=False)  #: Never shown in a repr, because it may hold a password.
    secret: str = field(repr=False)  #: As the user gave it.
    namespace: str = DEFAULT_NAMESPACE  #: Prefix of every key.
    embedded: bool = False  #: True if this process owns the server; then the secret is random.

    def __post_init__(self) -> None:
        self.remember_secrets()

    def remember_secrets(self) -> None:
        """Put secret and password among the words that must not leave this process.

        Called again before use: a process that meets many servers forgets the oldest words.
        """
        remember_secrets(self.secret, *passwords_in(self.url), private=self.embedded)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """The options of one ``redismr worker`` process."""

    executors: int = 1  #: How many executor processes to run.
    burst: bool = False  #: True ends the worker when no job has work for it.
    max_tasks: int | None = None  #: Of all executors, before the worker ends; None: no limit.
    #: Descriptor of a pipe; when its other end closes, the parent is dead and the worker ends.
    parent_pipe: int | None = None
    quiet: bool = False  #: True logs errors only.
