from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redismr.core.events import EVENT_KINDS, Event, decode_event, encode_event
from redismr.core.seal import Keyring

RING = Keyring("77" * 32, "redismr")
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
EVENTS = st.builds(
    Event,
    st.text(),
    st.text(),
    st.integers(0, 1 << 60),
    st.sampled_from(EVENT_KINDS),
    st.dictionaries(st.text(), JSON, max_size=3),
)
EVENT = Event("j1", "my txn", 3, "partition", {"partition": 0})


@given(EVENTS)
def test_round_trip(event: Event) -> None:
    assert decode_event(encode_event(event, RING), RING) == event


def test_other_languages_can_read_and_check_an_event() -> None:
    message = encode_event(EVENT, RING)
    assert b"\n" not in message and message.isascii()
    parsed = json.loads(message)
    assert parsed["job"] == "j1" and parsed["data"] == {"partition": 0} and parsed["v"] == 1
    body = message[: -len(',"tag":""}') - 64] + b"}"
    assert RING.sign("", "event", (), body).hex() == parsed["tag"]


@given(st.data())
@settings(max_examples=300)
def test_an_altered_message_is_not_an_event(data: st.DataObject) -> None:
    message = bytearray(encode_event(EVENT, RING))
    bit = data.draw(st.integers(0, 8 * len(message) - 1))
    message[bit // 8] ^= 1 << bit % 8
    assert decode_event(bytes(message), RING) is None


@given(st.binary(max_size=300))
def test_noise_is_not_an_event(noise: bytes) -> None:
    assert decode_event(noise, RING) is None


def test_a_message_of_another_secret_or_namespace_is_not_an_event() -> None:
    message = encode_event(EVENT, RING)
    assert decode_event(message, Keyring("78" * 32, "redismr")) is None
    assert decode_event(message, Keyring("77" * 32, "elsewhere")) is None


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"not json}",
        b"[1,2}",
        b'{"v":2,"job":"j","txn":"t","seq":1,"kind":"failed","data":{}}',
        b'{"v":1,"job":"j","txn":"t","seq":"1","kind":"failed","data":{}}',
        b'{"v":1,"job":"j","txn":"t","seq":true,"kind":"failed","data":{}}',
        b'{"v":1,"job":"j","txn":"t","seq":1,"kind":"unheard of","data":{}}',
        b'{"v":1,"job":"j","txn":"t","seq":1,"kind":"failed"}',
        b'{"v":1,"job":' + b"[" * 100_000 + b"}",
    ],
)
def test_well_signed_nonsense_is_not_an_event(body: bytes) -> None:
    tag = RING.sign("", "event", (), body).hex().encode()
    assert decode_event(body[:-1] + b',"tag":"' + tag + b'"}', RING) is None


def test_too_long_is_not_an_event() -> None:
    assert (
        decode_event(encode_event(Event("j", "t", 1, "failed", {"x": "y" * (1 << 20)}), RING), RING)
        is None
    )
