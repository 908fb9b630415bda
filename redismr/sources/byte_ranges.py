"""Byte ranges of files, and the lines in them.

Ranges are chosen by size alone. The line that begins at byte ``s`` belongs to the range with
``begin <= s < end``: every line is in exactly one range, wherever the file is cut.
"""

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from redismr.sources.input_files import InputFile
from redismr.sources.record_place import LineBuffer, RangeStart, Where
from redismr.sources.text_encoding import Encoding

DECODE_BYTES = 1 << 15
"""Bytes decoded at a time: larger pieces do not fit the processor's cache and were slower."""

_UNKNOWN_SIZE = sys.maxsize
_MAX_READ_BYTES = 1 << 30  # read(n) allocates n bytes at once


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The lines of ``file`` that begin in ``begin <= byte < end``; ``end`` None: the whole file."""

    file: InputFile
    begin: int = 0
    end: int | None = None

    @property
    def size(self) -> int:
        """Bytes of the range on disk; a compressed file holds more."""
        return (self.file.size if self.end is None else self.end) - self.begin

    @property
    def source(self) -> str:
        """The file's name, and the range unless it is the whole file."""
        if self.end is None or self.size == self.file.size:
            return self.file.name
        return f"{self.file.name} bytes {self.begin}-{self.end}"


def cut_file(file: InputFile, split: int | None) -> Iterator[ByteRange]:
    """Yield equal ranges of at most ``split`` bytes that make up the file; None: one range."""
    if split is None:
        yield ByteRange(file)
        return
    parts = -(-file.size // split)
    for part in range(parts):
        yield ByteRange(file, file.size * part // parts, file.size * (part + 1) // parts)


def read_buffers(
    stream: BinaryIO, byte_range: ByteRange, size: int | None
) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, data) of the range's lines, in order, about ``size`` bytes at a time.

    Each data ends at a line end or the file's end. A ``size`` of None gives the whole range.
    """
    file, position, end = byte_range.file, byte_range.begin, byte_range.end
    if end is None:
        end = _UNKNOWN_SIZE if file.compressed else file.size
    if position:
        # The line that holds byte begin - 1 belongs to the range before: skip the rest of it.
        position = stream.seek(position - 1)
        newline = False
        while position < end and not newline and (skipped := stream.readline(DECODE_BYTES)):
            position += len(skipped)
            newline = skipped.endswith(b"\n")
    while position < end:
        wanted_bytes = min(size or end, end - position)
        reads_all = wanted_bytes > _MAX_READ_BYTES and end == _UNKNOWN_SIZE
        data = stream.read(-1 if reads_all else wanted_bytes)
        if not data:
            return
        if not data.endswith(b"\n"):
            data += stream.readline()
        yield position, data
        position += len(data)


def read_texts(
    byte_range: ByteRange, encoding: Encoding, size: int | None = DECODE_BYTES
) -> Iterator[tuple[LineBuffer, str]]:
    """Yield (place, text) of the range's lines, about ``size`` bytes at a time, in order."""
    file = byte_range.file
    with file.open_checked() as stream:
        if not encoding.has_newline_byte:
            yield LineBuffer(RangeStart(file, 0), 0, None), encoding.decode(stream.read(), file)
            return
        range_start, line = None, 0
        for offset, data in read_buffers(stream, byte_range, size):
            range_start = range_start or RangeStart(file, offset)
            buffer = LineBuffer(range_start, line, offset, data)
            yield buffer, encoding.decode(data, file, buffer)
            line += data.count(b"\n")


def read_lines(
    byte_range: ByteRange, encoding: Encoding, *, keep_ends: bool = False
) -> Iterator[tuple[Where, str]]:
    r"""Yield (place, line) for each line of the range, in order.

    The ``\n`` or ``\r\n`` at its end is dropped unless ``keep_ends``.
    """
    name, new_str = byte_range.file.name, str.__new__
    for buffer, text in read_texts(byte_range, encoding):
        if keep_ends:
            split_lines = io.StringIO(text, newline="\n").readlines()
        else:
            if "\r" in text:  # ten times faster than a replace() that finds nothing
                text = text.replace("\r\n", "\n")  # noqa: PLW2901
            split_lines = text.split("\n")
            if not split_lines[-1]:
                split_lines.pop()
        for index, line in enumerate(split_lines):
            where = new_str(Where, name)
            where.buffer = buffer
            where.line_index = index
            yield where, line
