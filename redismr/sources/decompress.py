"""Compressed files, read to their last byte or refused.

Python's own readers take an empty ``.gz`` for an empty file, drop what follows the first stream of
a ``.bz2`` or ``.xz`` if that is damaged, and refuse the padding that ``.xz`` allows. Here a file is
one stream after another, each complete, with nothing in between but zeros where a format has them.
"""

from __future__ import annotations

import bz2
import io
import lzma
import os
import sys
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

from redismr.core.plurals import pluralize

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

DAMAGE_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError, zstd.ZstdError)
"""What reading one that is damaged or cut raises."""

READ_BUFFER_BYTES = 1 << 16
_READ_ALL_BYTES = 1 << 20


class _GzipMember:
    """One member of a .gz file, with the interface of the other decompressors."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._member.eof

    @property
    def needs_input(self) -> bool:
        return not self._member.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._member.unused_data

    def decompress(self, data: bytes, size: int) -> bytes:
        return self._member.decompress(self._member.unconsumed_tail + data, size)


_DECODERS: dict[str, Callable[[], Any]] = {
    ".gz": _GzipMember,
    ".bz2": bz2.BZ2Decompressor,
    ".xz": lzma.LZMADecompressor,
    ".zst": zstd.ZstdDecompressor,
}
_PADDING_MULTIPLES = {".gz": 1, ".xz": 4}
"""After a stream there may be zeros, so many or a multiple of that."""


def suffix_of(path: str) -> str:
    """What the name ends with, in small letters: ``.gz``."""
    return os.path.splitext(path)[1].lower()


def is_compressed(path: str) -> bool:
    """Whether the name says so."""
    return suffix_of(path) in _DECODERS


def open_decompressed(raw: BinaryIO, path: str) -> tuple[BinaryIO, _DecompressedFile]:
    """The contents of the file ``raw``, whose name says how they are packed; and what unpacks them.

    Raises, while reading:
        OSError, EOFError, ...: one of ``DAMAGE_ERRORS``.
    """
    decompressed = _DecompressedFile(raw, suffix_of(path))
    return io.BufferedReader(decompressed, READ_BUFFER_BYTES), decompressed


class _DecompressedFile(io.RawIOBase):
    """Contents of a compressed file, of which ``size`` bytes have been read."""

    def __init__(self, raw: BinaryIO, kind: str) -> None:
        self._raw, self._new_decoder, self._padding = (
            raw,
            _DECODERS[kind],
            _PADDING_MULTIPLES.get(kind, 0),
        )
        self._decoder = self._new_decoder()
        self._unread_input = b""
        self.size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._read_some(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        return b"".join(iter(lambda: self._read_some(_READ_ALL_BYTES), b""))

    def _read_some(self, size: int) -> bytes:
        """At most ``size`` bytes, none only at the end."""
        while not self._decoder.eof or self._start_next_stream():
            data, needs_input = b"", self._decoder.needs_input
            if needs_input:
                data = self._unread_input or self._raw.read(READ_BUFFER_BYTES)
                self._unread_input = b""
            output: bytes = self._decoder.decompress(data, size)
            if output:
                self.size += len(output)
                return output
            if needs_input and not data and not self._decoder.eof:
                raise EOFError("it ends too early")
        return b""

    def _start_next_stream(self) -> bool:
        """Whether another stream follows the one that has ended."""
        rest, zeros = self._decoder.unused_data or self._raw.read(READ_BUFFER_BYTES), 0
        while self._padding and rest.startswith(b"\0"):
            stripped = rest.lstrip(b"\0")
            zeros += len(rest) - len(stripped)
            rest = stripped or self._raw.read(READ_BUFFER_BYTES)
        if zeros and zeros % self._padding:
            raise EOFError(f"{pluralize(zeros, 'zero byte')} too many after its data")
        if rest:
            self._decoder, self._unread_input = self._new_decoder(), rest
        return bool(rest)
