"""The partition of a key, and the look-up of a key in results."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address

import pytest

import redismr

WORDS = [f"w{i}" for i in range(40)]


def one(_n, word):
    yield word, 1


def by_hash(key, partitions):
    """A common mistake: strings have another hash in the submitter than in workers."""
    return hash(key) % partitions


def differing_partitionfn(answer):
    """Return a partitionfn that gives this answer here, and the right one in other processes."""
    submitter = os.getpid()

    def partitionfn(key, partitions):
        return answer(partitions) if os.getpid() == submitter else int(key[1:]) % partitions

    return partitionfn


PARTITIONFNS = {
    "hash": by_hash,
    "raises": differing_partitionfn(lambda _n: 1 / 0),
    "too large": differing_partitionfn(lambda n: n + 7),
    "no number": differing_partitionfn(lambda _n: "somewhere"),
}


@pytest.mark.parametrize("partitionfn", PARTITIONFNS.values(), ids=list(PARTITIONFNS))
def test_a_missed_key_is_looked_up_in_all_partitions(client_with_worker, partitionfn):
    with client_with_worker.run(WORDS, one, "sum", partitions=8, partitionfn=partitionfn) as counts:
        assert [counts.get(word, 0) for word in WORDS] == [1] * 40
        assert all(word in counts for word in WORDS)
        assert len(counts) == 40
        assert "w40" not in counts
        with pytest.raises(KeyError):
            counts["w40"]
        with pytest.raises(TypeError, match="unhashable"):
            assert [] not in counts


class Caseless(str):
    __slots__ = ()

    def __eq__(self, other):
        return self.lower() == other.lower()

    def __hash__(self):
        return hash(self.lower())


@pytest.mark.parametrize("inline", [False, True])
def test_a_look_up_finds_what_a_dict_finds(client_with_worker, inline):
    keys = ["a", 1, (2, None), ip_address("::1"), range(3)]
    counts = redismr.run(keys, one, "sum", partitions=7, client=client_with_worker, inline=inline)
    for key in (Caseless("A"), "a", True, 1.0, (2.0, None), ip_address("0::1"), range(0, 3, 1)):
        assert counts[key] == 1
    for key in ("b", Caseless("b"), object(), float("nan"), (1, object()), None):
        assert key not in counts
    for key in ([], ("a", []), {}):
        with pytest.raises(TypeError, match="unhashable"):
            counts[key]


def test_without_input_no_key_is_found(client_with_worker):
    for options in ({}, {"partitionfn": by_hash}):
        counts = client_with_worker.run([], one, "sum", partitions=3, **options)
        assert "a" not in counts
        with pytest.raises(TypeError, match="unhashable"):
            assert [] not in counts


turn = itertools.count()


def by_turns(_key, partitions):
    return next(turn) % partitions


def frequent(_key, values):
    if sum(values) > 30:
        yield "often", 1


@pytest.mark.parametrize("reducefn", ["sum", frequent])
@pytest.mark.parametrize("inline", [False, True])
def test_a_key_from_two_partitions_ends_the_job(client_with_worker, inline, reducefn):
    options = {"partitions": 4, "chunk": 1, "inline": inline, "client": client_with_worker}
    with pytest.raises(redismr.BadKey, match=r"partitionfn sent the key '[abc]'") as caught:
        redismr.run(list("abcabc" * 20), one, reducefn, partitionfn=by_turns, **options)
    assert isinstance(caught.value, redismr.ReduceError)
    assert "zlib.crc32" in str(caught.value)


def total(_key, values):
    yield "all", sum(values)


@pytest.mark.parametrize("inline", [False, True])
def test_a_key_that_reducers_emit_in_every_partition_counts_once(client_with_worker, inline):
    options = {"partitions": 4, "inline": inline, "client": client_with_worker}
    counts = redismr.run(WORDS, one, total, partitionfn=by_hash, **options)
    assert (len(counts), list(counts), dict(counts)) == (1, ["all"], {"all": 1})


@dataclass(frozen=True)
class Name:
    text: str

    def __eq__(self, other):
        return isinstance(other, Name) and self.text.lower() == other.text.lower()

    def __hash__(self):
        return hash((self.text.lower(),))


@dataclass(frozen=True)
class Place:
    city: str
    address: object


@pytest.mark.parametrize("inline", [False, True])
def test_a_dataclass_with_its_own_eq_is_refused(client_with_worker, inline):
    words = ["abc", "ABC"]

    def mapfn(_n, word):
        yield ("key", Name(word)), 1

    with pytest.raises(redismr.BadKey, match=r"Name have no stable hash: .*, which stands in"):
        redismr.run(words, mapfn, "sum", partitions=8, client=client_with_worker, inline=inline)
    counts = redismr.run(
        words, mapfn, "sum", partitionfn=lambda *_: 1, client=client_with_worker, inline=inline
    )
    assert dict(counts) == {("key", Name("abc")): 2}


@pytest.mark.parametrize("inline", [False, True])
def test_a_dataclass_that_compares_by_its_fields_is_accepted(client_with_worker, inline):
    def mapfn(n, word):
        yield Place(word, ip_address(n % 3)), 1

    counts = redismr.run(
        ["x", "y"] * 9, mapfn, "sum", partitions=5, client=client_with_worker, inline=inline
    )
    assert sum(counts.values()) == 18
    assert len(counts) == len(dict(counts)) == 6
    assert counts[Place("x", ip_address(0))] == 3


@pytest.mark.parametrize("inline", [False, True])
def test_keys_of_classes_made_in_a_function_are_found(client_with_worker, inline):
    @dataclass(frozen=True)
    class Spot:
        n: int

    class Side(Enum):
        LEFT = 1
        RIGHT = 2

    def mapfn(n):
        yield Spot(n % 2), 1
        yield Side(1 + n % 2), 1

    counts = redismr.run(
        range(8), mapfn, "sum", partitions=5, client=client_with_worker, inline=inline
    )
    keys = [Spot(0), Spot(1), Side.LEFT, Side.RIGHT]
    assert [counts.get(key) for key in keys] == [4] * 4
    assert len(counts) == 4


@pytest.mark.parametrize("inline", [False, True])
def test_identity_keys_are_refused_with_a_partitionfn_too(client_with_worker, inline):
    class Node:
        pass

    node = Node()
    with pytest.raises(redismr.BadKey, match=r"Node.*keys travel as copies"):
        redismr.run(
            range(6), lambda _n: [(node, 1)], "sum",
            partitionfn=lambda *_: 0, chunk=1, client=client_with_worker, inline=inline,
        )  # fmt: skip
