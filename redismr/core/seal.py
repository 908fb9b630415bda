"""Seal bytes for one place in Redis, so that nobody without the secret can make or move them.

A sealed blob is ``version, key id, method, raw length | tag | body``. The tag is HMAC-SHA256 over
the namespace, job, kind and place, over that head, and over the body. Namespace, job, kind and
place are not stored: the reader of a blob passes in where it found the blob. So a blob opens only
at the place that it was sealed for.

Data from Redis is checked in this order: lengths, key id, tag. Only then is it decompressed, and
after that the caller unpickles. Nothing is encrypted: whoever can read Redis can read the data.
"""

import hashlib
import hmac
import re
import secrets
import struct
import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from redismr.confidential import SECRET_REMEDY, Unpicklable, contains_secret
from redismr.core.plurals import pluralize
from redismr.errors import BadValue, SealError, WrongSecret

zstd: Any  # one API, two homes
if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

KINDS = (
    "spec", "end", "code", "params", "input", "segment", "manifest", "result", "out", "failure",
    "skip", "event",
)  # fmt: skip

_BULK_KINDS = frozenset({"input", "segment", "out", "manifest", "result"})
_CONTENT_NAMES = {
    "code": "the code of the job",
    "input": "an item of the input",
    **dict.fromkeys(("segment", "manifest"), "a key or value that mapfn emits"),
    **dict.fromkeys(("out", "result"), "a key or value of the result"),
}

MAX_PAYLOAD_BYTES = 512 << 20  # what one Redis string can hold

_SEAL_VERSION = 1
_METHOD_RAW, _METHOD_ZSTD = 0, 1
_SEAL_HEADER = struct.Struct(">B4sBI")  # version, key id, method, raw length
TAG_BYTES = 32
_BODY_OFFSET = _SEAL_HEADER.size + TAG_BYTES
_MIN_COMPRESSED_BYTES = 512  # below, zstd costs 10 us and gains less than a packet
_SHA256_BLOCK_BYTES = 64
_INNER_PAD_TABLE = bytes(byte ^ 0x36 for byte in range(256))
_OUTER_PAD_TABLE = bytes(byte ^ 0x5C for byte in range(256))
_HEX_SECRET = re.compile(r"[0-9a-fA-F]{64}")


def new_secret() -> str:
    """Return 32 random bytes of the operating system as 64 hex digits, the form of a secret."""
    return secrets.token_hex(32)


class _KeyedMac:
    """HMAC-SHA256 (RFC 2104) of one key and one prefix, for many messages.

    Measured for 300 bytes on 3.11: two copied sha256 objects 0.7 us, a copied ``hmac`` object
    1.9 us, ``hmac.digest`` from the bare key 3.2 us. A task of one item takes five tags in all.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes, prefix: bytes) -> None:
        padded = key.ljust(_SHA256_BLOCK_BYTES, b"\0")  # keys are no longer than a block
        self._inner = hashlib.sha256(padded.translate(_INNER_PAD_TABLE) + prefix)
        self._outer = hashlib.sha256(padded.translate(_OUTER_PAD_TABLE))

    def tag(self, *pieces: bytes) -> bytes:
        """Return the 32-byte tag of the prefix and these pieces."""
        inner, outer = self._inner.copy(), self._outer.copy()
        for piece in pieces:
            inner.update(piece)
        outer.update(inner.digest())
        return outer.digest()


class Keyring(Unpicklable):
    """Seals and opens the blobs of one namespace with keys derived from one secret.

    Two keyrings open each other's blobs exactly if secret and namespace are equal. Thread-safe.
    One call takes about 2 us for 300 bytes (see ``_KeyedMac``). A secret of 64 hex digits is used
    as it is; other text goes through scrypt, which takes 0.1 s once per process.

    >>> ring = Keyring("00" * 32, "demo")
    >>> blob = ring.seal("job1", "input", ("m0", 0), b"hello")
    >>> ring.open("job1", "input", ("m0", 0), blob)
    b'hello'
    """

    def __init__(self, secret: str, namespace: str) -> None:
        self._extracted_key = hmac.digest(b"redismr/1", _root_key(secret), "sha256")
        self._namespace = namespace
        self._key_id_bytes = self._expand_key("id")[:4]
        self.key_id = self._key_id_bytes.hex()
        # Bounded, because a long-lived worker sees many jobs. A miss costs 10 us.
        self._mac = lru_cache(maxsize=512)(self._derive_mac)

    def __repr__(self) -> str:
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
        """Return a blob that opens to ``payload`` at this place and nowhere else.

        BadValue is raised if it holds a secret, or a server's password, of this process.
        """
        if contains_secret(payload, bulk=kind in _BULK_KINDS):
            what = f"{_CONTENT_NAMES.get(kind, 'what is sent')} holds the secret that signs jobs"
            raise BadValue(f"{what}, or the password of a server. {SECRET_REMEDY}.")
        method, body = _METHOD_RAW, payload
        if compress and len(payload) >= _MIN_COMPRESSED_BYTES:
            packed = zstd.compress(payload, 1)
            if len(packed) < len(payload):
                method, body = _METHOD_ZSTD, packed
        head = _SEAL_HEADER.pack(_SEAL_VERSION, self._key_id_bytes, method, len(payload))
        tag = self._mac(job, kind).tag(_bencode(place) + head, body)
        return b"".join((head, tag, body))

    def open(
        self,
        job: str,
        kind: str,
        place: Sequence[str | int],
        blob: bytes,
        *,
        limit: int = MAX_PAYLOAD_BYTES,
    ) -> bytes:
        """Return the payload that a holder of the secret sealed for exactly this place.

        WrongSecret is raised if the blob names the key of another secret; SealError if it is too
        long, cut, altered, or was sealed for another place.
        """
        if len(blob) < _BODY_OFFSET:
            raise _refusal(job, kind, place, f"is cut short: {pluralize(len(blob), 'byte')}")
        version, key_id, method, raw_length = _SEAL_HEADER.unpack_from(blob)
        length = len(blob) - _BODY_OFFSET
        # A compressed body is always shorter than its raw form, so the limit on the (still
        # unproven) raw length also bounds what the MAC has to read.
        has_valid_length = length == raw_length if method == _METHOD_RAW else length < raw_length
        is_known = version == _SEAL_VERSION and method in (_METHOD_RAW, _METHOD_ZSTD)
        if not is_known or not has_valid_length:
            raise _refusal(job, kind, place, f"is not a sealed blob of version {_SEAL_VERSION}")
        if raw_length > limit:
            raise _refusal(job, kind, place, f"claims {raw_length} bytes, {limit} are allowed")
        if key_id != self._key_id_bytes:
            why = (
                f"was sealed with secret {key_id.hex()}, this process has secret {self.key_id} "
                "(fingerprints). Give both sides the same REDISMR_SECRET or REDISMR_SECRET_FILE; "
                "`redismr secret` makes a new one."
            )
            raise _refusal(job, kind, place, why, WrongSecret)
        body = blob[_BODY_OFFSET:]
        tag = self._mac(job, kind).tag(_bencode(place) + blob[: _SEAL_HEADER.size], body)
        if not hmac.compare_digest(tag, blob[_SEAL_HEADER.size : _BODY_OFFSET]):
            raise _refusal(job, kind, place, "was altered in Redis, or moved there from elsewhere")
        return body if method == _METHOD_RAW else _decompress(body, raw_length, job, kind, place)

    def sign(self, job: str, kind: str, place: Sequence[str | int], payload: bytes) -> bytes:
        """Return the tag of ``payload``, for a message that stays readable (see ``events``)."""
        return self._mac(job, kind).tag(_bencode(place), payload)

    def _expand_key(self, *label: str) -> bytes:
        """Return the 32-byte key of a label: HKDF's expand step (RFC 5869) with a single block."""
        return hmac.digest(self._extracted_key, _bencode(label) + b"\x01", "sha256")

    def _derive_mac(self, job: str, kind: str) -> _KeyedMac:
        """Return the MAC for (job, kind), which has already read the constant fields."""
        if kind not in KINDS:
            raise ValueError(f"unknown kind of sealed blob: {kind!r}")
        fields = ("redismr", _SEAL_VERSION, self._namespace, job, kind)
        return _KeyedMac(self._expand_key("key", self._namespace, job, kind), _bencode(fields))


@lru_cache(maxsize=8)  # scrypt takes 0.1 s, and tests and REPLs make many keyrings of one secret
def _root_key(secret: str) -> bytes:
    if _HEX_SECRET.fullmatch(secret):
        return bytes.fromhex(secret)
    text = secret.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(
        text, salt=b"redismr/root/1", n=2**15, r=8, p=1, maxmem=64 << 20, dklen=32
    )


def _bencode(fields: Sequence[str | int]) -> bytes:
    """Bencode the fields: different sequences give different bytes, none a prefix of another.

    >>> _bencode(("m12", 3))
    b'l3:m12i3ee'
    """
    text = "l"  # a loop takes 0.6 of the time of a join, and a task of one item needs five
    for field in fields:
        text += f"{len(field)}:{field}" if isinstance(field, str) else f"i{field:d}e"
    return (text + "e").encode("utf-8", "surrogatepass")


def _decompress(
    body: bytes, raw_length: int, job: str, kind: str, place: Sequence[str | int]
) -> bytes:
    """Return the raw bytes; never more than the authenticated head promises."""
    unpacker = zstd.ZstdDecompressor()
    try:
        raw: bytes = unpacker.decompress(body, max_length=raw_length + 1)
    except zstd.ZstdError as error:
        raise _refusal(job, kind, place, f"does not decompress: {error}") from error
    if len(raw) != raw_length or not unpacker.eof or unpacker.unused_data:
        raise _refusal(job, kind, place, "has another length than when it was sealed")
    return raw


def _refusal(
    job: str, kind: str, place: Sequence[str | int], why: str, cls: type[SealError] = SealError
) -> SealError:
    text = f"{' '.join([kind, *map(str, place)])} of job {job}"
    # Parts of a place are clear text from Redis, such as the token in front of a manifest.
    return cls("".join(c if c.isprintable() else "?" for c in text[:200]) + f" {why}")
