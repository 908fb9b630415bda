"""Irregular keys: those of another partition, and those that a reducer yields twice."""

from __future__ import annotations

import pytest
from engine.in_memory import run_in_memory

from redismr.engine.buffer_limit import RESULT_RECORDS
from redismr.engine.call_reducer import DuplicateKeyDetector
from redismr.engine.kernel import reduce_task
from redismr.engine.key_hash import partition_of
from redismr.engine.program import prepare_program


def test_another_key_of_the_same_partition_is_not_irregular():
    key = "a"
    sister = next(k for k in map(str, range(99)) if partition_of(k, 3) == partition_of(key, 3))
    irregular = []
    run_in_memory(
        prepare_program(None, lambda _k, _v: iter([(sister, 1)])), [[(key, 1)]], irregular=irregular
    )
    assert not any(irregular)


def test_another_key_without_stable_hash_is_irregular_but_accepted():
    irregular = []
    pairs = run_in_memory(
        prepare_program(None, lambda _k, _v: iter([(len, 1)])), [[("a", 1)]], irregular=irregular
    )
    assert pairs == [(len, 1)]
    assert any(irregular)


OWN, OTHER = "own", "other"


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ([(["a", "b"], OWN), (["c"], OWN)], [False, False]),
        ([(["a", "a"], OWN)], [True]),
        ([(["a"], OWN), (["a", "b"], OWN)], [False, True]),
        ([([], OWN), (["a"], OWN)], [False, False]),
        ([(["x", "y"], OTHER), (["z"], OTHER), (["x"], OTHER)], [False, False, True]),
        ([(["x", "y", "x"], OTHER)], [True]),
        ([(["x"], OTHER), (["a"], OWN), (["x"], OWN)], [False, False, True]),
        # The detector did not keep "a", so "x" may repeat it.
        ([(["a"], OWN), (["x"], OTHER)], [False, True]),
    ],
)
def test_a_repeated_key_is_detected(columns, expected):
    duplicate_detector = DuplicateKeyDetector()
    assert [
        duplicate_detector.add_and_check(keys, has_other_keys=whose is OTHER)
        for keys, whose in columns
    ] == expected


def test_a_key_repeated_in_the_next_block_is_detected():
    def reducefn(key, values):
        return ((key, value) for value in values)

    program, duplicate_detector = prepare_program(None, reducefn), DuplicateKeyDetector()
    block = ["a"] * (RESULT_RECORDS + 1), list(range(RESULT_RECORDS + 1))
    once = [(["b"], [0]), (["c"], [0])]
    duplicates = [
        [
            is_irregular
            for _, is_irregular in reduce_task(
                program, some, [0, 0], 0, 1, duplicate_detector=duplicate_detector
            )
        ]
        for some in (once, [block])
    ]
    assert not any(duplicates[0])
    assert any(duplicates[1])
