"""The messages of the result channel: JSON that any language can read, authenticated by a tag.

A message is one JSON object whose last member is ``"tag"``, 64 hex digits: the MAC of the text
with that member cut out. Events are hints: they may be lost, repeated or late, and never decide a
result. A message with a wrong tag is ignored.
"""

import hmac
import json
import re
from dataclasses import dataclass, field
from typing import Any

from redismr.core.seal import Keyring

EVENT_KINDS = ("submitted", "mapping", "reducing", "partition", "succeeded", "failed", "cancelled")

_EVENT_VERSION = 1
_MAX_EVENT_BYTES = 1 << 20
_TAG_PATTERN = re.compile(rb',"tag":"([0-9a-f]{64})"\}')
_TAG_MEMBER_BYTES = len(',"tag":""}') + 64
_FIELD_TYPES = {"job": str, "txn": str, "seq": int, "kind": str, "data": dict}


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job."""

    job: str
    txn: str  #: The caller's own label of the job.
    seq: int  #: Always 0 today.
    kind: str  #: One of ``EVENT_KINDS``.
    data: dict[str, Any] = field(default_factory=dict)  #: Values that JSON can hold.


def encode_event(event: Event, keyring: Keyring) -> bytes:
    """Return one line of ASCII JSON that only ``decode_event`` with this keyring accepts."""
    message = {"v": _EVENT_VERSION, **{name: getattr(event, name) for name in _FIELD_TYPES}}
    body = json.dumps(message, separators=(",", ":"), allow_nan=False).encode()
    return body[:-1] + b',"tag":"%s"}' % keyring.sign("", "event", (), body).hex().encode()


def decode_event(data: bytes, keyring: Keyring) -> Event | None:
    """Return the event; None if no holder of the secret published the message. Never raises.

    The tag is checked before the JSON is parsed. Its key is that of the namespace, because only
    the message itself says which job it is about.
    """
    tag = _TAG_PATTERN.fullmatch(data, max(0, len(data) - _TAG_MEMBER_BYTES))
    if tag is None or len(data) > _MAX_EVENT_BYTES:
        return None
    body = data[: tag.start()] + b"}"
    if not hmac.compare_digest(keyring.sign("", "event", (), body).hex().encode(), tag[1]):
        return None
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or message.get("v") != _EVENT_VERSION:
        return None
    if any(type(message.get(name)) is not kind for name, kind in _FIELD_TYPES.items()):
        return None
    is_known = message["kind"] in EVENT_KINDS
    return Event(**{name: message[name] for name in _FIELD_TYPES}) if is_known else None
