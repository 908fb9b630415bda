from __future__ import annotations

import hmac
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redismr.core import seal as seal_module
from redismr.core.seal import Keyring, new_secret
from redismr.errors import SealError, WrongSecret

SECRET = "5a" * 32
RING = Keyring(SECRET, "redismr")
PLACES = st.lists(st.one_of(st.text(max_size=8), st.integers(0, 1 << 40)), max_size=4)
KINDS = st.sampled_from(["spec", "input", "segment", "result"])
HEAD = 10


def altered(blob: bytes, bit: int) -> bytes:
    changed = bytearray(blob)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@given(st.text(max_size=8), KINDS, PLACES, st.binary(max_size=2000), st.booleans())
def test_what_is_sealed_opens_at_its_place(
    job: str, kind: str, place: list[Any], payload: bytes, compress: bool
) -> None:
    blob = RING.seal(job, kind, place, payload, compress=compress)
    assert Keyring(SECRET, "redismr").open(job, kind, tuple(place), blob) == payload


@given(st.binary(max_size=64), st.binary(max_size=200), st.lists(st.binary(max_size=200)))
def test_the_tag_is_the_hmac_of_rfc_2104(key: bytes, begin: bytes, pieces: list[bytes]) -> None:
    tag = hmac.digest(key, begin + b"".join(pieces), "sha256")
    assert seal_module._KeyedMac(key, begin).tag(*pieces) == tag


@given(st.data(), st.sampled_from([b"", b"hello", b"whale " * 500]))
@settings(max_examples=400)
def test_any_flipped_bit_is_refused(data: st.DataObject, payload: bytes) -> None:
    blob = RING.seal("job", "segment", ("m1", 2), payload, compress=True)
    bit = data.draw(st.integers(0, 8 * len(blob) - 1))
    with pytest.raises(SealError):
        RING.open("job", "segment", ("m1", 2), altered(blob, bit))


@given(st.integers(0, 200), st.binary(max_size=3))
def test_cut_and_lengthened_blobs_are_refused(cut: int, more: bytes) -> None:
    blob = RING.seal("job", "segment", (), b"hello")
    changed = blob[:cut] + more
    if changed != blob:
        with pytest.raises(SealError):
            RING.open("job", "segment", (), changed)


@given(st.tuples(st.text(max_size=4), KINDS, PLACES), st.tuples(st.text(max_size=4), KINDS, PLACES))
def test_another_job_kind_or_place_is_refused(mine: Any, other: Any) -> None:
    if mine == other:
        return
    blob = RING.seal(*mine, b"hello")
    with pytest.raises(SealError, match="altered in Redis, or moved"):
        RING.open(*other, blob)


@pytest.mark.parametrize(
    ("place", "other"),
    [
        (("m1", "1"), ("m1", 1)),
        (("ab", "c"), ("a", "bc")),
        (("a1:b",), ("a", "b")),
        ((1, 2), (12,)),
        (("",), ()),
        ((True,), (0,)),
    ],
)
def test_places_that_look_alike_differ(place: Any, other: Any) -> None:
    blob = RING.seal("job", "input", place, b"hello")
    with pytest.raises(SealError):
        RING.open("job", "input", other, blob)


def test_another_namespace_is_refused_though_the_fingerprint_is_the_same() -> None:
    other = Keyring(SECRET, "elsewhere")
    assert other.key_id == RING.key_id
    with pytest.raises(SealError, match="altered"):
        other.open("job", "spec", (), RING.seal("job", "spec", (), b"hello"))


def test_wrong_secret_names_both_fingerprints_and_what_to_do() -> None:
    other = Keyring("another secret of some length", "redismr")
    with pytest.raises(WrongSecret) as caught:
        other.open("job7", "spec", (), RING.seal("job7", "spec", (), b"hello"))
    for words in (RING.key_id, other.key_id, "job7", "REDISMR_SECRET", "redismr secret"):
        assert words in str(caught.value)


def test_the_error_names_the_place() -> None:
    blob = RING.seal("job7", "input", ("m3", 0), b"hello")
    with pytest.raises(SealError, match=r"input m4 0 of job job7"):
        RING.open("job7", "input", ("m4", 0), blob)


def test_nothing_is_decompressed_before_the_mac_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    blob = RING.seal("job", "code", (), b"x" * 5000, compress=True)
    assert len(blob) < 1000

    def never(*_args: object) -> bytes:
        raise AssertionError("decompressed")

    monkeypatch.setattr(seal_module, "_decompress", never)
    with pytest.raises(SealError):
        RING.open("job", "code", (), altered(blob, 8 * len(blob) - 1))
    with pytest.raises(AssertionError):
        RING.open("job", "code", (), blob)


def test_lengths_are_checked_before_the_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    blob = RING.seal("job", "code", (), b"x" * 5000, compress=True)

    def never(*_args: object) -> None:
        raise AssertionError("read for the MAC")

    monkeypatch.setattr(seal_module, "_bencode", never)
    with pytest.raises(SealError, match="claims 5000 bytes, 4999 are allowed"):
        RING.open("job", "code", (), blob, limit=4999)
    lying = blob[:6] + struct.pack(">I", 10) + blob[HEAD:]
    with pytest.raises(SealError, match="not a sealed blob"):
        RING.open("job", "code", (), lying)


def test_decompression_stops_at_the_sealed_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even a holder of the secret cannot make a reader allocate more than the head announces."""
    bomb = seal_module.zstd.compress(bytes(1 << 20), 1)
    with pytest.raises(SealError, match="another length than when it was sealed"):
        seal_module._decompress(bomb, 1000, "job", "code", ())
    with pytest.raises(SealError, match="does not decompress"):
        seal_module._decompress(b"not zstd", 1000, "job", "code", ())


def test_compression_only_where_it_helps() -> None:
    noise = bytes.fromhex("".join(new_secret() for _ in range(100)))
    assert len(RING.seal("j", "out", (), noise, compress=True)) == len(noise) + 42
    assert len(RING.seal("j", "out", (), b"a" * 100, compress=True)) == 100 + 42
    assert len(RING.seal("j", "out", (), b"a" * 3000, compress=True)) < 200


def test_secrets() -> None:
    secret = new_secret()
    assert len(bytes.fromhex(secret)) == 32
    assert secret != new_secret()
    assert len(RING.key_id) == 8
    assert Keyring(SECRET.upper(), "x").key_id == RING.key_id
    assert Keyring("schön ist die welt!", "x").key_id == Keyring("schön ist die welt!", "y").key_id
    assert SECRET not in repr(RING)


def test_a_misspelt_kind_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="segmnt"):
        RING.seal("job", "segmnt", (), b"")


def test_the_cache_of_keys_is_bounded() -> None:
    ring = Keyring(SECRET, "redismr")
    first = ring.seal("job0", "spec", (), b"first")
    for number in range(2000):
        ring.seal(f"job{number}", "spec", (), b"")
    assert ring._mac.cache_info().currsize <= 512
    assert ring.open("job0", "spec", (), first) == b"first"
