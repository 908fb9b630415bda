"""The same job gives the same result inline, embedded and on a shared server."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import random

import pytest

import redismr

TEXT = "the whale and the sea and the ship and a man and the sea"
WORDS = TEXT.split()
PAIRS = [(word, number) for number, word in enumerate(WORDS)]


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: int


def per_word(word):
    yield word, 1


def numbered(number, word):
    return [(word, number)]


def odd_keys(number, _word):
    keys = [1, 1.0, True, "1", b"1", None, (1, "a"), Colour.RED, Point(1, 2), frozenset({1, 2}),
            dt.date(2026, 1, 1), -0.0, 0, 2**80]  # fmt: skip
    return [(key, number) for key in keys]


def total(_key, values):
    return sum(values)


def joined(_key, values):
    return [*values]


def totals(items):
    for key, values in items:
        yield key, sum(values)


def renaming(key, values):
    yield key[0], len(values)
    yield key, values


def drawn(number, _word):
    return [(number % 3, random.random())]


def refilled_rows():
    row = [0, {"n": [0]}]
    for row[0] in range(50):
        row[1]["n"][0] = row[0]
        yield row


def refilling(_number, row):
    out = [0, row]
    for out[0] in range(2):
        yield out[0], out
        yield out[0], (out, row)


def refilling_results(items):
    out = [0]
    for key, values in items:
        for out[0] in values:
            yield key, out


def summary(results):
    return {key: list(value) for key, value in results.items()}


JOBS = {
    "sum": lambda run: run(WORDS, per_word, "sum", chunk=2),
    "own reducer": lambda run: run(WORDS, per_word, total, chunk=2),
    "reducer of items": lambda run: run(WORDS, per_word, totals, chunk=2),
    "combiner": lambda run: run(WORDS, per_word, total, combinefn=total, chunk=5),
    "combiner of items": lambda run: run(WORDS, per_word, "sum", combinefn=totals, chunk=5),
    "values in input order": lambda run: run(WORDS * 20, numbered, joined, chunk=3),
    "list": lambda run: run(WORDS * 20, numbered, "list", chunk=3),
    "map only": lambda run: run(WORDS, numbered),
    "reduce only": lambda run: run(redismr.pairs(PAIRS), None, joined),
    "mapping": lambda run: run(dict.fromkeys(WORDS, 2), lambda k, v: {k: v}, "sum"),
    "count": lambda run: run(WORDS, per_word, "count", chunk=2),
    "min": lambda run: run(WORDS, numbered, "min", chunk=2),
    "max": lambda run: run(WORDS, numbered, "max", chunk=2),
    "mean": lambda run: run(WORDS, numbered, "mean", chunk=2),
    "set": lambda run: run(WORDS, numbered, "set", chunk=2),
    "first": lambda run: run(WORDS, numbered, "first", chunk=2),
    "any": lambda run: run(WORDS, numbered, "any", chunk=2),
    "all": lambda run: run(WORDS, numbered, "all", chunk=2),
    "builtin": lambda run: run(WORDS, numbered, max, chunk=2),
    "exact sums of floats": lambda run: run([0.1] * 10, lambda x: [(0, x)], "sum", chunk=3),
    "sort": lambda run: run(WORDS, per_word, "sum", sort=True, chunk=2),
    "partitionfn": lambda run: run(WORDS, per_word, "sum", partitionfn=lambda k, n: len(k) % n),
    "odd keys": lambda run: run([0, 1, 2], odd_keys, chunk=1),
    "renaming": lambda run: run(WORDS, numbered, renaming, chunk=4, partitions=4),
    "seeded random": lambda run: run(range(9), drawn, seed=7, chunk=2),
    "finishfn": lambda run: run(WORDS, numbered, finishfn=summary, chunk=2),
    "counters": lambda run: run(
        WORDS, lambda w: [redismr.count(w) or (w, 1)], "sum", chunk=2
    ).counters,
    "params": lambda run: run(
        WORDS, lambda w: [(w, redismr.param("n"))], "sum", params={"n": 3}
    ),
    "refilled records": lambda run: run(refilled_rows(), refilling),
    "refilled, combined": lambda run: run(refilled_rows(), refilling, len, combinefn="list"),
    "refilled results": lambda run: run(refilled_rows(), refilling, refilling_results),
    "refilled, skipping": lambda run: run(refilled_rows(), refilling, on_error="skip"),
    "nothing emitted": lambda run: run(WORDS, lambda _word: None, "sum"),
    "empty source": lambda run: run([], per_word, "sum"),
    "None as a value": lambda run: run([1, 2], lambda x: [(x, None)]),
}  # fmt: skip


@pytest.fixture(params=JOBS)
def job(request):
    return JOBS[request.param]


def contents(outcome):
    """Return keys with their types and values; the order of keys depends on the partitions."""
    return sorted(((repr(key), repr(value)) for key, value in outcome.items()), key=repr)


def inline(*args, **options):
    return redismr.run(*args, inline=True, **options)


def test_on_a_shared_server(job, client_with_worker):
    assert contents(job(client_with_worker.run)) == contents(job(inline))


def test_embedded(job, embedded):
    assert contents(job(embedded.run)) == contents(job(inline))


@pytest.mark.parametrize("partitions", [1, 2, 7])
def test_any_number_of_partitions(client_with_worker, partitions):
    options = {"partitions": partitions, "sort": True, "chunk": 3}
    there = client_with_worker.run(WORDS * 5, numbered, joined, **options)
    here = inline(WORDS * 5, numbered, joined, **options)
    assert list(there.items()) == list(here.items())
