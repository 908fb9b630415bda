"""Combines the values that a map task has buffered, and divides them among the partitions."""

from functools import partial
from typing import Any

from redismr.context import forbid_counting
from redismr.engine.call_reducer import run_group_function
from redismr.engine.merge import reducer_error
from redismr.engine.partitioner import (
    PartitionedColumns,
    choose_partitions,
    partition_groups,
    partition_pairs,
)
from redismr.engine.program import Program
from redismr.engine.reducers import Reducer


def flush_totals(
    program: Program,
    reducer: Reducer,
    totals: dict[Any, Any],
    value_lists: dict[Any, list[Any]],
    partitions: int,
) -> PartitionedColumns:
    """Return the columns of a reducer that adds up, and empty both buffers.

    Keys keep the order of ``totals``; a key whose total is None has its values in ``value_lists``.
    """
    if value_lists:
        keys = list(totals)
        groups = [value_lists[key] if total is None else [total] for key, total in totals.items()]
        condensed = _condense_groups(reducer, keys, groups)
        key_partitions = choose_partitions(program, partitions, "mapfn", keys)
        columns = partition_groups(keys, condensed, key_partitions)
    else:
        choose_key_partitions = partial(choose_partitions, program, partitions, "mapfn")
        columns = partition_pairs(totals, totals.values(), choose_key_partitions, partitions)
    totals.clear()
    value_lists.clear()
    return columns


def flush_groups(
    program: Program, keys: list[Any], lists: list[list[Any]], partitions: int
) -> PartitionedColumns:
    """Return the columns of keys and the lists of their values, combined if possible."""
    if program.combine is not None:
        # combinefn sees each value once, and never its own results. So a combinefn that turns
        # values into something else (their number, a list) stays right however often a task
        # flushes.
        with forbid_counting():
            groups = zip(keys, lists, strict=True)
            columns = list(run_group_function(program.combine, "combinefn", groups, [0, 0]))
        keys = [key for column in columns for key in column.keys]
        values = [value for column in columns for value in column.values]
        choose_key_partitions = partial(choose_partitions, program, partitions, "combinefn")
        return partition_pairs(keys, values, choose_key_partitions, partitions)
    if isinstance(program.reduce, Reducer):
        lists = _condense_groups(program.reduce, keys, lists)
    return partition_groups(keys, lists, choose_partitions(program, partitions, "mapfn", keys))


def _condense_groups(reducer: Reducer, keys: list[Any], groups: list[list[Any]]) -> list[list[Any]]:
    condense, condensed = reducer.condense, list[list[Any]]()
    try:
        for group in groups:
            condensed.append(condense(group))
    except BaseException as error:
        index = len(condensed)
        raise reducer_error(reducer, -1, keys[index], groups[index]) from error
    return condensed
