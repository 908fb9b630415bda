"""Values of NumPy and pandas as records, keys and results, compared with a plain loop."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import redismr

TABLE = pd.DataFrame({"ship": list("abac"), "tons": [1, 2, 3, 4], "knots": [1.5, 2, 0.5, 1]})


@pytest.fixture
def run(embedded):
    """Run a job on a worker and inline, and check that the results are the same."""

    def both(*args, **options):
        there = embedded.run(*args, **options)
        here = redismr.run(*args, **options, inline=True)
        assert sorted(map(typed, there.items())) == sorted(map(typed, here.items()))
        return there

    return both


def typed(value):
    """Return a value with the properties that ``==`` ignores: types, shapes, NaN."""
    return type(value).__name__, repr(value)


# -- records ---------------------------------------------------------------------------------------

SOURCES = {
    "array": np.arange(7),
    "array of float32": np.linspace(0, 1, 7, dtype=np.float32),
    "rows of an array": np.arange(6).reshape(3, 2),
    "records of an array": np.array([(1, 2.5), (3, 4.5)], dtype="i4,f8"),
    "series": TABLE.knots,
    "index": TABLE.index,
    "rows of a frame": list(TABLE.itertuples(name=None)),
    "groups of a frame": [group for _, group in TABLE.groupby("ship")],
}


def numbered(number, record):
    yield number, typed(record)


@pytest.mark.parametrize("source", SOURCES)
def test_arrays_and_frames_are_sources(source):
    records = SOURCES[source]
    got = redismr.run(records, numbered, "first", chunk=2, inline=True)
    assert dict(got.items()) == dict(enumerate(map(typed, records)))


def test_values_as_records(run):
    records = [record for source in SOURCES.values() for record in source]
    got = run(records, numbered, "first", chunk=5)
    assert dict(got.items()) == dict(enumerate(map(typed, records)))


def test_a_frame_is_read_as_its_columns():
    got = redismr.run(TABLE, lambda name, column: [(name, column.max())], "first", inline=True)
    assert {name: typed(most) for name, most in got.items()} == {
        name: typed(TABLE[name].max()) for name in TABLE
    }


# -- keys ------------------------------------------------------------------------------------------

KEYS = [
    np.int64(3), np.uint8(4), np.float64(0.5), np.float32(0.1), np.str_("a"), np.bytes_(b"x"),
    np.True_, (np.int64(1), "a"),
]  # fmt: skip


def test_values_as_keys(run):
    got = run(range(4), lambda _n: [(key, 1) for key in KEYS], "sum", chunk=1)
    assert sorted(map(typed, got)) == sorted(map(typed, KEYS))
    assert [got[key] for key in KEYS] == [4] * len(KEYS)


def test_groups_of_a_frame_as_keys():
    groups = redismr.pairs(TABLE.groupby("tons"))
    got = redismr.run(groups, lambda tons, group: [(tons, group.knots.sum())], "sum", inline=True)
    assert dict(got.items()) == TABLE.groupby("tons").knots.sum().to_dict()


# -- results ---------------------------------------------------------------------------------------

RESULTS = [
    lambda values: np.mean(values),
    lambda values: np.array(values).reshape(2, -1),
    lambda values: np.array(values) > 1,
    lambda values: np.array([(n, str(n)) for n in values], dtype="i8,U3"),
    lambda values: pd.Series(values, name="n"),
    lambda values: pd.DataFrame({"n": values, "when": pd.Timestamp("2026-11-29")}),
    lambda _values: [pd.Timestamp("2026-11-29", tz="UTC"), pd.NaT, pd.NA],
    lambda values: [np.datetime64(2020 + n, "Y") for n in values],
    lambda values: pd.Categorical(list(map(str, values))),
]  # fmt: skip


def made(number, values):
    return RESULTS[number](values)


def test_values_as_results(run):
    kinds = range(len(RESULTS))
    got = run(range(4), lambda n: [(kind, n) for kind in kinds], made, chunk=1)
    assert {kind: typed(value) for kind, value in got.items()} == {
        kind: typed(made(kind, [0, 1, 2, 3])) for kind in kinds
    }


VALUES = {
    "truths": [np.int64(n) > 3 for n in (1, 5, 7, 9)],
    "ints": list(np.arange(9)),
    "bytes": list(np.arange(9, dtype=np.uint8)),
    "float32": list(np.linspace(0, 1e8, 9, dtype=np.float32)),
    "float16": list(np.linspace(0, 3, 9, dtype=np.float16)),
    "histograms": [np.bincount([n % 3], minlength=3) for n in range(9)],
}


def test_values_as_values(run):
    """Named reducers give the same for them as for Python's own numbers."""
    source = [(family, value) for family, values in VALUES.items() for value in values]
    got = run(redismr.pairs(source), None, "sum", chunk=5)
    assert {family: typed(value) for family, value in got.items()} == {
        family: typed(sum(values)) for family, values in VALUES.items()
    }
