"""The place of a record in its file: name, byte and line, computed only when asked for."""

import io
from functools import cached_property
from itertools import accumulate
from typing import Any

from redismr.core.value_snapshots import IMMUTABLE_TYPES
from redismr.sources.input_files import InputFile


class RangeStart:
    """The byte at which the reading of a range began; counts the lines before it on demand."""

    def __init__(self, file: InputFile, offset: int) -> None:
        self._file, self._offset = file, offset

    @cached_property
    def first_line(self) -> int:
        """Number of the line that begins here, from 1; reads the file up to here, once."""
        line, left = 1, self._offset
        if left:
            with self._file.open_checked() as stream:
                while left and (data := stream.read(min(left, 1 << 20))):
                    line += data.count(b"\n")
                    left -= len(data)
        return line


class LineBuffer:
    """The bytes of some lines as they were read; their places are computed when asked for."""

    def __init__(
        self, range_start: RangeStart, line: int, offset: int | None, data: bytes = b""
    ) -> None:
        self.range_start = range_start
        self.line = line  #: Number of lines between the start of the range and this buffer.
        self._offset, self._data = offset, data

    @cached_property
    def _offsets(self) -> list[int]:
        return list(accumulate(map(len, io.BytesIO(self._data)), initial=self._offset))

    def offset(self, index: int) -> int | None:
        """Return the byte at which line ``index`` of the buffer begins; None if unknown."""
        return self._offsets[index] if index and self._offset is not None else self._offset


class Where(str):
    """The name of a record's file: a str equal to it that also has the record's place in it."""

    __slots__ = ("buffer", "line_index")

    buffer: LineBuffer
    line_index: int

    @property
    def offset(self) -> int | None:
        """The byte, of the decompressed contents, at which the record begins.

        None in encodings such as UTF-16, whose files are read whole.
        """
        return self.buffer.offset(self.line_index)

    @property
    def line(self) -> int:
        """Number of the record's first line, from 1.

        In a file that was cut, the first call for a split reads the file before the split.
        """
        return self.buffer.range_start.first_line + self.buffer.line + self.line_index

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without the data of the buffer; ``line`` works wherever the file can be read."""
        line = self.buffer.line + self.line_index
        return _unpickle_where, (str(self), self.buffer.range_start, line, self.offset)


IMMUTABLE_TYPES.add(Where)


def describe_file_place(file: InputFile, line: int, byte: int | None) -> str:
    """Return the words for a place in a file: ``/logs/a.gz, line 3, byte 20``."""
    decompressed = " of its unpacked contents" if file.compressed else ""
    return f"{file.path}, line {line}{'' if byte is None else f', byte {byte}'}{decompressed}"


def make_where(name: str, buffer: LineBuffer) -> Where:
    """Return the place at which ``buffer`` begins in the file ``name``."""
    where = Where(name)
    where.buffer, where.line_index = buffer, 0
    return where


def _unpickle_where(name: str, range_start: RangeStart, line: int, offset: int | None) -> Where:
    return make_where(name, LineBuffer(range_start, line, offset))
