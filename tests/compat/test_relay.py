"""Row W3: how a client's own functions send commands, from the processes that they run in."""

from __future__ import annotations

import pytest

from redismr.compat.relay import Relay, post
from redismr.errors import ConfigError


class Odd(Exception):
    """Cannot be made again from its arguments, as pickle does it."""

    def __init__(self, one, two):
        super().__init__("odd")


class Bomb:
    """Can be pickled, and not be unpickled."""

    def __reduce__(self):
        return int, ("no number",)


@pytest.fixture
def relayed():
    """A relay, and what came through it; some commands raise."""
    heard = []

    def send(command, data, txn):
        if command == "refused":
            raise ValueError("too large")
        if command == "odd":
            raise Odd(1, 2)
        heard.append((command, data, txn))

    relay = Relay(send)
    yield relay, heard
    relay.close()


def test_w3_what_is_posted_is_sent(relayed):
    relay, heard = relayed
    post(relay.address, "whatever", {"a": [1]}, "t1")
    assert heard == [("whatever", {"a": [1]}, "t1")]


@pytest.mark.parametrize(
    ("command", "data", "error", "text"),
    [
        ("refused", None, ValueError, "too large"),
        ("odd", None, RuntimeError, "Odd: odd"),
        ("sent", Bomb(), ValueError, "no number"),
    ],
)
def test_w3_trouble_reaches_the_sender_and_the_next_command_is_heard(
    relayed, command, data, error, text
):
    relay, heard = relayed
    with pytest.raises(error, match=text):
        post(relay.address, command, data)
    post(relay.address, "next")
    assert heard == [("next", None, None)]


def test_w3_without_a_relay_it_is_said():
    with pytest.raises(ConfigError, match="only methods of its own Client"):
        post(None, "whatever")
