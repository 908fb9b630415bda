"""A client's own functions send commands from the processes in which they run."""

from __future__ import annotations

import pytest

from redismr.compat.user_commands import Relay, send_through_relay
from redismr.errors import ConfigError


class CannotBeRebuilt(Exception):
    """An error that pickle cannot make again from its arguments."""

    def __init__(self, one, two):
        super().__init__("odd")


class CannotBeUnpickled:
    """An object that pickles but does not unpickle."""

    def __reduce__(self):
        return int, ("no number",)


@pytest.fixture
def relay_and_sent():
    """Return a relay, and the list of commands sent through it; some commands raise."""
    sent = []

    def send(command, data, txn):
        if command == "refused":
            raise ValueError("too large")
        if command == "odd":
            raise CannotBeRebuilt(1, 2)
        sent.append((command, data, txn))

    relay = Relay(send)
    yield relay, sent
    relay.close()


def test_what_is_posted_is_sent(relay_and_sent):
    relay, sent = relay_and_sent
    send_through_relay(relay.address, "whatever", {"a": [1]}, "t1")
    assert sent == [("whatever", {"a": [1]}, "t1")]


@pytest.mark.parametrize(
    ("command", "data", "error", "text"),
    [
        ("refused", None, ValueError, "too large"),
        ("odd", None, RuntimeError, "CannotBeRebuilt: odd"),
        ("sent", CannotBeUnpickled(), ValueError, "no number"),
    ],
)
def test_an_error_reaches_the_sender_and_the_next_command_is_received(
    relay_and_sent, command, data, error, text
):
    relay, sent = relay_and_sent
    with pytest.raises(error, match=text):
        send_through_relay(relay.address, command, data)
    send_through_relay(relay.address, "next")
    assert sent == [("next", None, None)]


def test_without_a_relay_sending_is_an_error():
    with pytest.raises(ConfigError, match="only methods of the worker's own Client"):
        send_through_relay(None, "whatever")
