"""A failure as JSON: the form in which it travels through Redis, readable in any language."""

import json
from dataclasses import asdict, fields

from redismr.core.model import Failure, TracebackLine


def encode_failure(failure: Failure) -> bytes:
    """Return the failure as JSON."""
    return json.dumps(asdict(failure), separators=(",", ":")).encode()


def decode_failure(data: bytes) -> Failure:
    """Return the failure that ``encode_failure`` wrote.

    Fields of a newer version are ignored.

    Raises:
        ValueError: ``data`` is no failure.
    """
    try:
        message = json.loads(data)
        known = {f.name: message[f.name] for f in fields(Failure) if f.name in message}
        known["frames"] = tuple(TracebackLine(**frame) for frame in known.get("frames", ()))
        known["notes"] = tuple(known.get("notes", ()))
        return Failure(**known)
    except (TypeError, KeyError) as error:
        raise ValueError(f"not a failure: {error}") from error
