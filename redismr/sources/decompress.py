"""Compressed files: read to the last byte, or refused.

Python's own readers take an empty ``.gz`` for an empty file, drop damaged data after the first
stream of a ``.bz2`` or ``.xz``, and refuse the padding that ``.xz`` allows. Here a file must be
complete streams, one after another, with nothing between them but zeros where the format has them.
"""

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
"""Errors that reading a damaged or cut file raises."""

READ_BUFFER_BYTES = 1 << 16
_READ_ALL_BYTES = 1 << 20


class _GzipMember:
    """One member (stream) of a .gz file, with the interface of ``BZ2Decompressor``."""

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


DECODERS: dict[str, Callable[[], Any]] = {
    ".gz": _GzipMember,
    ".bz2": bz2.BZ2Decompressor,
    ".xz": lzma.LZMADecompressor,
    ".zst": zstd.ZstdDecompressor,
}
_PADDING_MULTIPLES = {".gz": 1, ".xz": 4}
"""A multiple of so many zero bytes may follow a stream of that format."""


def suffix_of(path: str) -> str:
    """Return the suffix of a file name in small letters: ``.gz``."""
    return os.path.splitext(path)[1].lower()


class _DecompressedFile(io.RawIOBase):
    """Contents of a compressed file, of which ``size`` bytes have been read."""

    def __init__(self, raw: BinaryIO, suffix: str) -> None:
        self._raw, self._new_decoder = raw, DECODERS[suffix]
        self._padding = _PADDING_MULTIPLES.get(suffix, 0)
        self._decoder = self._new_decoder()
        self._unread_input, self.size = b"", 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._read_some(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        return b"".join(iter(lambda: self._read_some(_READ_ALL_BYTES), b""))

    def _read_some(self, size: int) -> bytes:
        """Return at most ``size`` bytes; b"" only at the end of the file."""
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
                raise EOFError("the data ends too early")
        return b""

    def _start_next_stream(self) -> bool:
        """Start the stream that follows the one that has ended; False if none does."""
        rest, zeros = self._decoder.unused_data or self._raw.read(READ_BUFFER_BYTES), 0
        while self._padding and rest.startswith(b"\0"):
            stripped = rest.lstrip(b"\0")
            zeros += len(rest) - len(stripped)
            rest = stripped or self._raw.read(READ_BUFFER_BYTES)
        if zeros and zeros % self._padding:
            raise EOFError(f"{pluralize(zeros, 'zero byte')} too many after the data")
        if rest:
            self._decoder, self._unread_input = self._new_decoder(), rest
        return bool(rest)


def open_decompressed(raw: BinaryIO, path: str) -> tuple[BinaryIO, _DecompressedFile]:
    """Return a buffered stream of the decompressed contents, and the file below the buffer.

    ``raw`` is the open compressed file, ``path`` its name. Reading raises one of
    ``DAMAGE_ERRORS`` if the file is damaged or cut.
    """
    decompressed = _DecompressedFile(raw, suffix_of(path))
    return io.BufferedReader(decompressed, READ_BUFFER_BYTES), decompressed
