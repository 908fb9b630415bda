"""Hash flooding: keys that share a slot under one secret do not share one under another.

The extension has no counter of probes, and does not tell hashes. ``keyed_hash`` is computed here
again; a table that follows the real one for each key shows how long its searches are.
"""

from __future__ import annotations

import random
from collections import Counter

import pytest
from native.frames import python_frame

from redismr.native import totals

MASK = (1 << 64) - 1


def fold_product(a, b):
    product = a * b
    return product & MASK ^ product >> 64


def keyed_hash(secrets, key):
    """Return the hash of table.h, as on a little-endian machine."""
    first, second = secrets[0] ^ 0x9E3779B97F4A7C15, secrets[1] ^ 0xE7037ED1A0B428DB
    state, left = first ^ len(key), key
    word = lambda part: int.from_bytes(part, "little")
    while len(left) > 16:
        state = fold_product(word(left[:8]) ^ second, word(left[8:16]) ^ state)
        left = left[16:]
    if len(left) >= 8:
        a, b = word(left[:8]), word(left[-8:])
    elif len(left) >= 4:
        a, b = word(left[:4]), word(left[-4:])
    elif left:
        a, b = left[0] << 16 | left[len(left) >> 1] << 8 | left[-1], 0
    else:
        a = b = 0
    product = fold_product(a ^ second, b ^ state)
    return (product ^ product >> 32) & 0xFFFFFFFF


def probes(hashes, slots):
    """Return how many slots each search looks at: linear probing, as in table.h."""
    taken, counts = bytearray(slots), []
    for number in hashes:
        slot, count = number & slots - 1, 1
        while taken[slot]:
            slot, count = slot + 1 & slots - 1, count + 1
        taken[slot] = 1
        counts.append(count)
    return counts


def slots_for(keys):
    slots = 16
    while keys * 3 > slots * 2:
        slots *= 2
    return slots


FAMILIES = {
    "counted": lambda n: b"%d" % n,
    "padded": lambda n: b"%08d" % n,
    "long": lambda n: b"/a/long/path/that/is/the/same/%d" % n,
    "tail": lambda n: b"%d/a/long/path/that/is/the/same/" % n,
    "multiples": lambda n: (n << 20).to_bytes(8, "little").replace(b"\0", b"\1"),
    "bits": lambda n: bytes(65 + (n >> i & 1) * 32 for i in range(17)),
    "runs": lambda n: bytes((97 + n % 26,)) * (n // 26 % 4000 + 1),
}
"""Keys as an attacker without the secrets may choose them: they differ in few bits, or places."""


@pytest.mark.parametrize("family", FAMILIES)
def test_searches_stay_short_for_regular_keys(family):
    """With two thirds of the slots used, random hashes need 5 probes for a new key, at the end."""
    keys = list({FAMILIES[family](n): None for n in range(20_000 if family == "runs" else 100_000)})
    if family == "runs":
        keys = keys[:3000]
    secrets = random.Random(family).getrandbits(64), random.Random(family + "2").getrandbits(64)
    hashes = [keyed_hash(secrets, key) for key in keys]
    counts = probes(hashes, slots_for(len(keys)))
    assert sum(counts) / len(counts) < 3
    assert max(counts) < 400
    assert max(Counter(hashes).values()) <= 3


def test_keys_that_share_a_slot_share_none_under_other_secrets():
    """Secrets are independent, as two hashes of Python in two processes are."""
    draw = random.Random(5).getrandbits
    secrets, *others = [(draw(64), draw(64)) for _ in range(6)]
    keys = [b"key%d" % n for n in range(400_000)]
    colliding = [key for key in keys if keyed_hash(secrets, key) & 1023 == 7]
    assert len(colliding) > 300
    assert max(probes([keyed_hash(secrets, key) for key in colliding], 1024)) == len(colliding)
    for new in others:
        counts = probes([keyed_hash(new, key) for key in colliding], 1024)
        assert max(counts) < 40
        assert sum(counts) < 3 * len(colliding)


@pytest.mark.parametrize("secrets", [(0, 0), (1, 0), (0, 1), (2**64 - 1, 2**64 - 1)])
def test_extreme_secrets_hash_as_well_as_others(secrets):
    counts = probes([keyed_hash(secrets, b"%d" % n) for n in range(40_000)], slots_for(40_000))
    assert sum(counts) / len(counts) < 3


@pytest.mark.parametrize("family", FAMILIES)
def test_totals_keep_regular_keys_apart(family):
    keys = list({FAMILIES[family](n).decode("latin-1"): None for n in range(3000)})
    one, two = totals.Totals(5, 6), totals.Totals(7, 8)
    block = totals.decode(python_frame(keys, range(len(keys))))
    for some in (one, two):
        assert some.add(block) == some.add(block) == len(keys)
    assert (
        list(one.take_block())
        == list(two.take_block())
        == [keys, [2 * n for n in range(len(keys))]]
    )
