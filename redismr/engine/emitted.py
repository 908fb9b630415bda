"""The pairs that the user's functions emit: checks, snapshots, and errors that name a bad pair."""

from collections.abc import Callable, Iterable, Mapping
from types import GeneratorType, TracebackType
from typing import Any

from redismr.core.failure_capture import NOT_GIVEN
from redismr.core.pickled_snapshots import CannotSnapshot
from redismr.core.printable import short_repr
from redismr.core.value_snapshots import IMMUTABLE_TYPES, Snapshotter, private_copy
from redismr.engine.program import GroupFunction, Program
from redismr.errors import BadKey, BadPair, BadValue, RecordError


class UserCodeError(Exception):
    """A function of the user raised, or emitted what redismr cannot use; see ``__cause__``.

    ``ordinal`` is that of the record of the split, or of the group of a reduce task; -1 for none.
    """

    def __init__(
        self, function: str, ordinal: int = -1, key: Any = NOT_GIVEN, value: Any = NOT_GIVEN
    ) -> None:
        super().__init__(f"{function} failed")
        self.function, self.ordinal, self.key, self.value = function, ordinal, key, value


def must_reraise(error: BaseException) -> bool:
    """True if a loop of the kernel must not blame the user's function for ``error``.

    Either ``error`` names a function already, or the reader has closed the loop at its ``yield``.
    """
    traceback = error.__traceback__
    is_close = isinstance(error, GeneratorExit) and traceback is not None and not traceback.tb_next
    return isinstance(error, UserCodeError) or is_close


def iterate_pairs(out: Any, role: str = "mapfn") -> Iterable[Any]:
    """Return the pairs of an output: an iterable of pairs, a mapping, or None; or raise BadPair."""
    if out is None:
        return ()
    if isinstance(out, Mapping):
        return out.items()
    if isinstance(out, Iterable):
        return out
    raise BadPair(
        f"{role} must yield (key, value) pairs or return an iterable of them, a mapping or None;"
        f" it returned {short_repr(out)}, of type {type(out).__qualname__}"
    )


def check_pair(pair: Any, role: str = "mapfn") -> None:
    """Raise BadPair but for a tuple or list of length 2: a str of length 2 would unpack, too."""
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise BadPair(
            f"{role} must yield (key, value) pairs, tuples or lists of length 2, and yielded"
            f" {short_repr(pair)}, of type {type(pair).__qualname__}. A function that returns pairs"
            " must return a list of them, also for a single pair"
        )


def choose_value_snapshot(program: Program) -> Callable[[Any], Any]:
    """Return the function that fixes each value of mapfn at the moment when mapfn emits it."""
    if program.mapfn is None:  # no user function sees the source's values before they are written
        return lambda value: value
    reducer = program.reduce
    is_sent_as_is = isinstance(reducer, GroupFunction) or reducer.name in ("list", "first")
    return Snapshotter().take if is_sent_as_is and program.combine is None else private_copy


def snapshot_key(key: Any) -> Any:
    """Return a copy of the key as it is now; the key itself if no copy equals it."""
    if type(key) in IMMUTABLE_TYPES:
        return key
    try:
        copy = private_copy(key)
        return copy if copy is key or (copy == key and hash(copy) == hash(key)) else key
    except Exception:  # noqa: BLE001 - hashing or encoding the key will name the error
        return key


def map_error(
    error: BaseException, pair: Any, out: object, ordinal: int, key: Any, value: Any
) -> UserCodeError:
    """Return the error of mapfn, with its cause, for a record on which ``error`` was raised.

    ``pair`` and ``out`` are the last pair and the output of mapfn, see ``explain_output_error``.
    """
    failed = UserCodeError("mapfn", ordinal, key, value)
    failed.__cause__ = explain_output_error(error, pair, out=out)
    return failed


def explain_output_error(
    error: BaseException, pair: Any, role: str = "mapfn", out: object = None
) -> BaseException:
    """Return an error that names the bad pair if a statement of the kernel raised ``error``.

    The loops check little, because unpacking and hashing raise anyway. An exception from the
    kernel's own frame is due to ``pair``. If the generator ``out`` yielded that pair, the traceback
    of the result ends at its ``yield``. Any other error is returned unchanged.
    """
    explained = _as_output_error(error, pair, role)
    frame = out.gi_frame if isinstance(out, GeneratorType) else None
    if frame is None or (explained is error and not isinstance(error, RecordError)):
        return explained
    return explained.with_traceback(TracebackType(None, frame, frame.f_lasti, frame.f_lineno))


def _as_output_error(error: BaseException, pair: Any, role: str) -> BaseException:
    if isinstance(error, CannotSnapshot):
        key, value = pair
        return BadValue(
            f"the value of key {short_repr(key)}, of type {type(value).__qualname__}, cannot be"
            f" pickled: {error}"
        )
    traceback = error.__traceback__
    if pair is None or traceback is None or traceback.tb_next is not None:
        return error
    try:
        check_pair(pair, role)
        hash(pair[0])
    except BadPair as bad:
        return bad
    except TypeError:
        key = pair[0]
        return BadKey(
            f"{role} emitted a key of type {type(key).__qualname__}, which is not hashable:"
            f" {short_repr(key)}. Emit a tuple or a str instead"
        )
    return error
