"""Bytes in Redis that only holders of the secret can have put there, each bound to its place.

A sealed blob is ``version, key id, method, raw length | tag | body``. The tag is HMAC-SHA256 over
the namespace, job, kind and place (which are not stored: whoever opens a blob says where it found
it), over that head, and over the body. So a blob opens only at the place it was sealed for.

What is read from Redis is checked in this order: lengths, key id, MAC, and only then is anything
decompressed; callers unpickle after that. Nothing here encrypts: who can read Redis reads data.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import struct
import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from redismr.confidential import WAY_OUT, Confined, reveals
from redismr.core.words import plural
from redismr.errors import BadValue, SealError, WrongSecret

zstd: Any  # one API, two homes
if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

KINDS = (
    "spec",
    "end",
    "code",
    "params",
    "input",
    "segment",
    "bundle",
    "manifest",
    "result",
    "out",
    "failure",
    "skip",
    "event",
)

_BULK = frozenset({"input", "segment", "out", "manifest", "result"})
_WORDS = "the secret that signs jobs, or the password of a server"
_SENT = {
    "code": "the code of the job",
    "input": "an item of the input",
    "segment": "a key or value that mapfn emits",
    "manifest": "a key or value that mapfn emits",
    "out": "a key or value of the result",
    "result": "a key or value of the result",
}

DEFAULT_LIMIT = 512 << 20  # what one Redis string can hold

_VERSION = 1
_PLAIN, _ZSTD = 0, 1
_HEAD = struct.Struct(">B4sBI")  # version, key id, method, raw length
_TAG_BYTES = 32
_BODY_AT = _HEAD.size + _TAG_BYTES
_COMPRESS_FROM = 512  # below, zstd costs 10 us and gains less than a packet
_SHA256_BLOCK = 64
_INNER, _OUTER = (bytes(byte ^ pad for byte in range(256)) for pad in (0x36, 0x5C))
_RANDOM_SECRET = re.compile(r"[0-9a-fA-F]{64}")


def new_secret() -> str:
    """32 bytes of the operating system's randomness as 64 hex digits.

    The one random thing in core; it is here because it defines what a strong secret looks like.
    """
    return secrets.token_hex(32)


class _Mac:
    """HMAC-SHA256 (RFC 2104) of one key and one beginning, for many ends.

    300 bytes on 3.11: two copied sha256 objects 0.7 us, a copied ``hmac`` object 1.9 us,
    ``hmac.digest`` from the bare key 3.2 us. A task of one item has five, in all processes.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes, begin: bytes) -> None:
        padded = key.ljust(_SHA256_BLOCK, b"\0")  # keys are no longer than a block
        self._inner = hashlib.sha256(padded.translate(_INNER) + begin)
        self._outer = hashlib.sha256(padded.translate(_OUTER))

    def tag(self, *end: bytes) -> bytes:
        """The 32 bytes for the beginning and these pieces."""
        inner, outer = self._inner.copy(), self._outer.copy()
        for piece in end:
            inner.update(piece)
        outer.update(inner.digest())
        return outer.digest()


class Keyring(Confined):
    """Seals and opens the blobs of one namespace with the keys that one secret gives.

    Two keyrings open each other's blobs exactly if secret and namespace are equal. Thread-safe.
    Costs per call of 300 bytes, with the place's fields: about 2 us (see ``_Mac``).

    Args:
        secret: 64 hex digits (``new_secret``) are used as they are; anything else passes scrypt,
            0.1 s once per process.
        namespace: the prefix of the keys; blobs of one namespace do not open in another.

    >>> ring = Keyring("00" * 32, "demo")
    >>> blob = ring.seal("job1", "input", ("m0", 0), b"hello")
    >>> ring.open("job1", "input", ("m0", 0), blob)
    b'hello'
    """

    def __init__(self, secret: str, namespace: str) -> None:
        root = _root_of(secret)
        self._extracted = hmac.digest(b"redismr/1", root, "sha256")
        self._namespace = namespace
        self._id = self._expand("id")[:4]
        self.key_id = self._id.hex()
        # Bounded: a long-lived worker sees many jobs. A miss costs 10 us.
        self._mac = lru_cache(maxsize=512)(self._derive)

    def __repr__(self) -> str:
        """Names the fingerprint, never the secret."""
        return f"Keyring(namespace={self._namespace!r}, key_id={self.key_id!r})"

    def seal(
        self,
        job: str,
        kind: str,
        place: Sequence[str | int],
        payload: bytes,
        *,
        compress: bool = False,
    ) -> bytes:
        """``payload`` such that it opens at this place and nowhere else.

        With ``compress`` it is kept compressed where that makes it smaller.

        Raises:
            BadValue: the payload holds a secret, or a server's password, of this process. Failures
                have theirs blanked before.
        """
        if reveals(payload, bulk=kind in _BULK):
            raise BadValue(f"{_SENT.get(kind, 'what is sent')} holds {_WORDS}. {WAY_OUT}.")
        method, body = _PLAIN, payload
        if compress and len(payload) >= _COMPRESS_FROM:
            packed = zstd.compress(payload, 1)
            if len(packed) < len(payload):
                method, body = _ZSTD, packed
        head = _HEAD.pack(_VERSION, self._id, method, len(payload))
        tag = self._mac(job, kind).tag(_fields(place) + head, body)
        return b"".join((head, tag, body))

    def open(
        self,
        job: str,
        kind: str,
        place: Sequence[str | int],
        blob: bytes,
        *,
        limit: int = DEFAULT_LIMIT,
    ) -> bytes:
        """The payload that a holder of the secret sealed for exactly this place.

        Raises:
            WrongSecret: it was sealed with another secret, or claims to be.
            SealError: it is too long, cut, altered, or was sealed for another place.
        """
        if len(blob) < _BODY_AT:
            raise SealError(f"{_words(job, kind, place)} is cut short: {plural(len(blob), 'byte')}")
        version, key_id, method, raw_length = _HEAD.unpack_from(blob)
        length = len(blob) - _BODY_AT
        # A compressed body is always shorter than its raw form, so the limit on the (still
        # unproven) raw length also bounds what the MAC has to read.
        fits = length == raw_length if method == _PLAIN else length < raw_length
        if version != _VERSION or method not in (_PLAIN, _ZSTD) or not fits:
            raise SealError(
                f"{_words(job, kind, place)} is not a sealed blob of version {_VERSION}"
            )
        if raw_length > limit:
            raise SealError(
                f"{_words(job, kind, place)} claims {raw_length} bytes, {limit} are allowed"
            )
        if key_id != self._id:
            raise WrongSecret(
                f"{_words(job, kind, place)} was sealed with secret {key_id.hex()}, this process "
                f"has secret {self.key_id} (fingerprints). Give both sides the same REDISMR_SECRET "
                "or REDISMR_SECRET_FILE; `redismr secret` makes a new one."
            )
        body = blob[_BODY_AT:]
        tag = self._mac(job, kind).tag(_fields(place) + blob[: _HEAD.size], body)
        if not hmac.compare_digest(tag, blob[_HEAD.size : _BODY_AT]):
            raise SealError(
                f"{_words(job, kind, place)} was altered in Redis, or moved there from elsewhere"
            )
        return body if method == _PLAIN else _decompress(body, raw_length, job, kind, place)

    def sign(self, job: str, kind: str, place: Sequence[str | int], payload: bytes) -> bytes:
        """The bare tag of ``payload``, for a message that must stay readable (see events)."""
        return self._mac(job, kind).tag(_fields(place), payload)

    def _expand(self, *label: str) -> bytes:
        """One 32-byte key for one label: HKDF's expand step (RFC 5869) with a single block."""
        return hmac.digest(self._extracted, _fields(label) + b"\x01", "sha256")

    def _derive(self, job: str, kind: str) -> _Mac:
        """A MAC keyed for (job, kind) that has read the constant fields."""
        if kind not in KINDS:
            raise ValueError(f"unknown kind of sealed blob: {kind!r}")
        fields = ("redismr", _VERSION, self._namespace, job, kind)
        key = self._expand("key", self._namespace, job, kind)
        return _Mac(key, _fields(fields))


@lru_cache(maxsize=8)  # scrypt takes 0.1 s, and tests and REPLs make many keyrings of one secret
def _root_of(secret: str) -> bytes:
    if _RANDOM_SECRET.fullmatch(secret):
        return bytes.fromhex(secret)
    return hashlib.scrypt(
        secret.encode("utf-8", "surrogatepass"),
        salt=b"redismr/root/1",
        n=2**15,
        r=8,
        p=1,
        maxmem=64 << 20,
        dklen=32,
    )


def _fields(fields: Sequence[str | int]) -> bytes:
    """Distinct sequences give distinct bytes, and none is the beginning of another: bencoding.

    >>> _fields(("m12", 3))
    b'l3:m12i3ee'
    """
    text = "l"  # grown in a loop: 0.6 of the time of a join, and a task of one item has five
    for field in fields:
        text += f"{len(field)}:{field}" if isinstance(field, str) else f"i{field:d}e"
    return (text + "e").encode("utf-8", "surrogatepass")


def _decompress(
    body: bytes, raw_length: int, job: str, kind: str, place: Sequence[str | int]
) -> bytes:
    """The raw bytes, never more than were promised under the MAC."""
    unpacker = zstd.ZstdDecompressor()
    try:
        raw: bytes = unpacker.decompress(body, max_length=raw_length + 1)
    except zstd.ZstdError as error:
        raise SealError(f"{_words(job, kind, place)} does not decompress: {error}") from error
    if len(raw) != raw_length or not unpacker.eof or unpacker.unused_data:
        raise SealError(f"{_words(job, kind, place)} is not of the length it was sealed with")
    return raw


def _words(job: str, kind: str, place: Sequence[str | int]) -> str:
    text = f"{' '.join([kind, *map(str, place)])} of job {job}"
    # A place may come from clear text in Redis (the token in front of a manifest).
    return "".join(c if c.isprintable() else "?" for c in text[:200])
