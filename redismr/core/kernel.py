"""What a map task and a reduce task do: group, combine, partition, merge, reduce.

Generators in, generators out; where records come from and blocks go to is the callers' affair.
Results depend on the records, the functions and the options only: flushes are triggered by counts
and sizes of the data, never by time or free memory.

The loops over pairs are written for speed, and are the reason why this module looks as it does:
one ``try`` a task, no call a pair, and of the checks only those that an exception cannot do later.
Ratios in the comments are of the loop alone to ``for k, v in mapfn(...): d[k] = d.get(k, 0) + v``
over 1.5 million words in one process, CPython 3.11 / 3.13. With partitioning and encoding, 300 MB
of words in tasks of 16 MB measured 1.16 to 1.23 / 1.18 to 1.19.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableSequence
from functools import partial
from types import GeneratorType
from typing import Any

from redismr.context import uncountable
from redismr.core.aggregate import Reducer
from redismr.core.codec import Block
from redismr.core.frozen import FIXED
from redismr.core.functions import Program
from redismr.core.grouped import Repeats, Scale, run
from redismr.core.merge import add_ints, failed, results, share_of
from redismr.core.ones import Outputs, counted, keys_alone
from redismr.core.pairs import (
    UserCodeError,
    check_pair,
    closing,
    keeper,
    key_kept,
    named,
    pairs_of,
)
from redismr.core.placing import checked, is_trusted, placements
from redismr.core.scatter import Scattered, cut, partitions_by, scatter, scatter_groups

__all__ = ["Block", "UserCodeError", "map_task", "reduce_task"]

FLUSH_KEYS = 1_000_000
"""Distinct keys a map task holds at most."""

FLUSH_VALUES = 2_000_000
"""Values a map task holds at most where they cannot be added up as they come."""

FLUSH_BYTES = 128 << 20
"""About how many bytes of values are held at most, going by samples."""

FULL_MEMORY = 1 << 30
"""With so much memory, or none given, a map task holds all of that; with less, its share of it."""

_PLAIN = frozenset((GeneratorType, list, tuple))


def map_task(
    program: Program,
    records: Iterable[tuple[Any, Any]],
    partitions: int,
    cursor: MutableSequence[int],
) -> Iterator[tuple[int, Block]]:
    """Yield (partition, block); a key's values keep their input order within its partition.

    With a user's partitionfn there are more blocks than those of values: see ``placing``.

    ``cursor[0]`` is the ordinal of the record that mapfn is working on (-1 before the first),
    ``cursor[1]`` counts the records in the blocks yielded.

    Raises:
        UserCodeError: mapfn, combinefn, partitionfn or a named reducer failed.
        Exception: whatever ``records`` raises.
    """
    cursor[0], cursor[1] = -1, 0
    reducer = program.reduce
    if keyfn := keys_alone(program.mapfn):
        outputs = Outputs(keyfn, records, by_value=program.by_value)
        flushes = _map_ones(program, outputs, partitions, cursor)
    elif isinstance(reducer, Reducer) and reducer.fold and program.combine is None:
        fold = _map_folding if reducer.fold == "values" else _map_counting
        flushes = fold(program, reducer, records, partitions, cursor)
    else:
        flushes = _map_grouping(program, records, partitions, cursor)
    tells = not is_trusted(program)
    for columns in flushes:
        for partition, (keys, values) in columns:
            for block in cut(keys, values):
                cursor[1] += len(block[0])
                yield partition, block
        if tells:
            yield from placements(columns, partitions)


def reduce_task(
    program: Program,
    blocks: Iterable[Block],
    cursor: MutableSequence[int],
    partition: int,
    partitions: int,
    sub_pass: tuple[int, int] = (0, 1),
    *,
    repeats: Repeats | None = None,
) -> Iterator[tuple[Block, bool]]:
    """Yield result blocks, each with whether it may hold a key of another partition.

    With ``repeats``, one for all passes, also whether it may hold a key that was yielded before.

    ``blocks`` are those of this partition from all map tasks, in task order. ``cursor[0]`` is the
    ordinal of the key that reducefn is working on, ``cursor[1]`` counts the records yielded.
    ``sub_pass=(i, n)`` takes the i-th of n shares of the keys, for a partition larger than memory;
    all passes of a partition must run in one process.

    Raises:
        UserCodeError: reducefn or a named reducer failed, keys cannot be sorted, or partitionfn
            sent equal keys to two partitions.
        Exception: whatever ``blocks`` raises.
    """
    cursor[0], cursor[1] = -1, 0
    if not is_trusted(program):
        blocks = checked(blocks, *sub_pass)
    for keys, values, renamed in results(program, share_of(blocks, *sub_pass), cursor):
        foreign = renamed and _has_foreign(program, keys, partition, partitions)
        if repeats is not None:
            foreign |= repeats.saw(keys, renamed=renamed)
        for block in cut(keys, values):
            cursor[1] += len(block[0])
            yield block, foreign


def _map_ones(
    program: Program, outputs: Outputs, partitions: int, cursor: MutableSequence[int]
) -> Iterator[Scattered]:
    """Count keys whose values are all 1; these are written out where a function is to see them."""
    reducer, (most_keys, most_values, _) = program.reduce, _most(program.memory)
    count = partial(counted, outputs, cursor, may_change=program.partitionfn is not None)
    if isinstance(reducer, Reducer) and reducer.fold and program.combine is None:
        for totals in count(most_keys=most_keys, most=None):
            yield _flush_totals(program, reducer, totals, {}, partitions)
    else:
        for totals in count(most_keys=most_keys, most=most_values):
            groups = {key: [1] * number for key, number in totals.items()}
            totals.clear()
            yield _flush_groups(program, groups, partitions)


def _map_folding(  # noqa: C901, PLR0912 - one flat loop, see the module's docstring
    program: Program,
    reducer: Reducer,
    records: Iterable[tuple[Any, Any]],
    partitions: int,
    cursor: MutableSequence[int],
) -> Iterator[Scattered]:
    """Add ints up as they come; of a key with anything else keep a list, its total so far first."""
    mapfn, by_value = _mapper(program)
    totals: dict[Any, int | None] = {}  # None for a key that has a list in others
    others: dict[Any, list[Any]] = {}
    get, get_others, keep = totals.get, others.get, keeper(program)
    most_keys, most_values, most_bytes = _most(program.memory)
    scale = Scale(most_values, most_bytes)
    # Locals of what the loop names: 0.05 less.
    type_, tuple_, int_, generator, fixed = type, tuple, int, GeneratorType, FIXED
    ordinal, kept, weigh_at, mapping, out = -1, 0, 1, False, None
    pair = key = value = None
    try:
        for key, value in records:
            cursor[0] = ordinal = ordinal + 1
            mapping = True
            out = mapfn(value) if by_value else mapfn(key, value)
            if type_(out) is not generator and type_(out) not in _PLAIN:
                out = pairs_of(out) if others else _add_mapping(totals, out)
                if len(totals) >= most_keys:
                    yield _flush_totals(program, reducer, totals, others, partitions)
            for pair in out:
                # Both types checked in full, for every pair: 1.14 / 1.15 in all. A batch of pairs
                # checked at C speed costs more (1.19 / 1.16), as do lists for sum() (1.33).
                if type_(pair) is not tuple_:
                    check_pair(pair)
                k, v = pair
                if type_(v) is int_ and (total := get(k)) is not None:
                    totals[k] = total + v
                    continue
                if type_(v) is int_ and k not in others:
                    totals[k if type_(k) in fixed else key_kept(k)] = v
                else:
                    v = v if type_(v) in fixed else keep(v)
                    if (values := get_others(k)) is None:
                        k = k if type_(k) in fixed else key_kept(k)
                        values = others[k] = [] if (total := get(k)) is None else [total]
                        totals[k] = None
                    values.append(v)
                    kept += 1
                enough = kept >= weigh_at and not (weigh_at := scale.weigh(kept, v))
                if enough or len(totals) >= most_keys:
                    yield _flush_totals(program, reducer, totals, others, partitions)
                    kept, weigh_at = 0, 1
            mapping = False
    except UserCodeError:
        raise
    except BaseException as error:
        if not mapping or closing(error):
            raise
        raise UserCodeError("mapfn", ordinal, key, value) from named(error, pair, out=out)
    yield _flush_totals(program, reducer, totals, others, partitions)


def _map_counting(
    program: Program,
    reducer: Reducer,
    records: Iterable[tuple[Any, Any]],
    partitions: int,
    cursor: MutableSequence[int],
) -> Iterator[Scattered]:
    """Count pairs. A loop of its own: as a test in the one that adds it would cost that 0.09."""
    mapfn, by_value = _mapper(program)
    totals: dict[Any, int] = {}
    get, (most_keys, _, _) = totals.get, _most(program.memory)
    type_, tuple_, generator, fixed = type, tuple, GeneratorType, FIXED
    ordinal, mapping, out, pair, key, value = -1, False, None, None, None, None
    try:
        for key, value in records:
            ordinal += 1
            cursor[0] = ordinal
            mapping = True
            out = mapfn(value) if by_value else mapfn(key, value)
            if type_(out) is not generator and type_(out) not in _PLAIN:
                out = pairs_of(out)
            for pair in out:
                if type_(pair) is not tuple_:
                    check_pair(pair)
                k, _ = pair
                total = get(k)
                if total is not None:
                    totals[k] = total + 1
                    continue
                totals[k if type_(k) in fixed else key_kept(k)] = 1
                if len(totals) >= most_keys:
                    yield _flush_totals(program, reducer, totals, {}, partitions)
            mapping = False
    except UserCodeError:
        raise
    except BaseException as error:
        if not mapping or closing(error):
            raise
        raise UserCodeError("mapfn", ordinal, key, value) from named(error, pair, out=out)
    yield _flush_totals(program, reducer, totals, {}, partitions)


def _map_grouping(  # noqa: C901 - as above
    program: Program,
    records: Iterable[tuple[Any, Any]],
    partitions: int,
    cursor: MutableSequence[int],
) -> Iterator[Scattered]:
    """Keep each key's values in a list until enough are there to combine."""
    mapfn, by_value = _mapper(program)
    groups: dict[Any, list[Any]] = {}
    get, keep = groups.get, keeper(program)
    most_keys, most_values, most_bytes = _most(program.memory)
    scale = Scale(most_values, most_bytes)
    type_, tuple_, generator, fixed = type, tuple, GeneratorType, FIXED
    ordinal, kept, weigh_at, mapping, out = -1, 0, 1, False, None
    pair = key = value = None
    try:
        for key, value in records:
            ordinal += 1
            cursor[0] = ordinal
            mapping = True
            out = mapfn(value) if by_value else mapfn(key, value)
            if type_(out) is not generator and type_(out) not in _PLAIN:
                out = pairs_of(out)
            for pair in out:
                if type_(pair) is not tuple_:
                    check_pair(pair)
                k, v = pair
                if type_(v) not in fixed:
                    v = keep(v)
                values = get(k)
                if values is not None:
                    values.append(v)
                else:
                    groups[k if type_(k) in fixed else key_kept(k)] = [v]
                kept += 1
                if kept >= weigh_at:
                    weigh_at = scale.weigh(kept, v)
                    if not weigh_at or len(groups) >= most_keys:
                        yield _flush_groups(program, groups, partitions)
                        kept, weigh_at = 0, 1
            mapping = False
    except UserCodeError:
        raise
    except BaseException as error:
        if not mapping or closing(error):
            raise
        raise UserCodeError("mapfn", ordinal, key, value) from named(error, pair, out=out)
    yield _flush_groups(program, groups, partitions)


def _most(memory: int | None) -> tuple[int, int, int]:
    """How many keys, values, and bytes of values a map task holds."""
    if not memory or memory >= FULL_MEMORY:
        return FLUSH_KEYS, FLUSH_VALUES, FLUSH_BYTES
    share = memory / FULL_MEMORY
    keys, values, size = (int(most * share) for most in (FLUSH_KEYS, FLUSH_VALUES, FLUSH_BYTES))
    return max(1, keys), max(1, values), size


def _flush_totals(
    program: Program,
    reducer: Reducer,
    totals: dict[Any, Any],
    others: dict[Any, list[Any]],
    partitions: int,
) -> Scattered:
    if others:
        keys = list(totals)
        groups = [others[key] if total is None else [total] for key, total in totals.items()]
        condensed = _condensed(reducer, keys, groups)
        parts = _parts(program, keys, partitions, "mapfn")
        columns = scatter_groups(keys, condensed, parts)
    else:
        parts_of = partial(_parts, program, partitions=partitions, emitter="mapfn")
        columns = scatter(totals, totals.values(), parts_of, partitions)
    totals.clear()
    others.clear()
    return columns


def _flush_groups(program: Program, groups: dict[Any, list[Any]], partitions: int) -> Scattered:
    if program.combine is not None:
        # A combinefn sees each value once, never its own results: one that turns values into
        # something else (their number, a list) stays right however often a large task flushes.
        with uncountable():
            columns = list(run(program.combine, "combinefn", groups.items(), [0, 0]))
        keys = [key for column in columns for key in column[0]]
        values = [value for column in columns for value in column[1]]
        groups.clear()
        parts_of = partial(_parts, program, partitions=partitions, emitter="combinefn")
        return scatter(keys, values, parts_of, partitions)
    keys = list(groups)
    lists = list(groups.values())
    groups.clear()
    if isinstance(program.reduce, Reducer):
        lists = _condensed(program.reduce, keys, lists)
    return scatter_groups(keys, lists, _parts(program, keys, partitions, "mapfn"))


def _condensed(reducer: Reducer, keys: list[Any], groups: list[list[Any]]) -> list[list[Any]]:
    condense, condensed = reducer.condense, list[list[Any]]()
    try:
        for group in groups:
            condensed.append(condense(group))
    except BaseException as error:
        at = len(condensed)
        raise failed(reducer, -1, keys[at], groups[at]) from error
    return condensed


def _parts(program: Program, keys: list[Any], partitions: int, emitter: str) -> list[int]:
    try:
        return partitions_by(program, keys, partitions)
    except UserCodeError:
        raise
    except Exception as error:
        raise UserCodeError(emitter) from error


def _has_foreign(program: Program, keys: list[Any], partition: int, partitions: int) -> bool:
    if not is_trusted(program):  # it might call the key its own in two partitions
        return True
    try:
        return any(part != partition for part in partitions_by(program, keys, partitions))
    except Exception as error:
        if not isinstance(error.__cause__ or error, Exception):
            raise  # somebody wants an end
        return True  # a key that has no partition is found by looking everywhere


def _mapper(program: Program) -> tuple[Callable[..., Any], bool]:
    return program.mapfn or _identity, program.by_value


def _identity(key: Any, value: Any) -> tuple[tuple[Any, Any]]:
    return ((key, value),)


def _add_mapping(totals: dict[Any, Any], out: Any) -> Iterable[Any]:
    """Add a mapping of ints at once; returns the pairs that are still to be added."""
    if isinstance(out, Mapping) and set(map(type, out.values())) == {int}:
        if not FIXED.issuperset(map(type, out)):
            out = {key_kept(key): number for key, number in out.items()}
        add_ints(totals, out, out.values())
        return ()
    return pairs_of(out)
