"""Byte ranges cut at line ends, and the place of each record in its file.

Ranges are chosen from the size alone. The line that begins at byte ``s`` belongs to the range
``begin <= s < end``, so that every line is in exactly one range, wherever the cuts fall.
"""

from __future__ import annotations

import codecs
import io
import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from numbers import Integral
from typing import Any, BinaryIO

from redismr.config import show_value
from redismr.core.plain_copies import IMMUTABLE_TYPES
from redismr.errors import BadInput, ConfigError, SourceError
from redismr.sources.files import InputFile

DECODE_BYTES = 1 << 15
"""Bytes decoded at a time: measured faster than larger ones, which fall out of the cache."""

_SIZE_LIMIT_BYTES = 1 << 62
_UNIT_BYTES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_STATEFUL_ENCODINGS = ("utf-7", "hz", "iso2022")
_UNKNOWN_SIZE = sys.maxsize
_MAX_READ_BYTES = 1 << 30  # read(n) sets n bytes aside


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The lines of ``file`` that begin in ``begin <= byte < end``; ``end`` None means all of it."""

    file: InputFile
    begin: int = 0
    end: int | None = None

    @property
    def size(self) -> int:
        """Bytes to read, as far as the submitter knows."""
        return (self.file.size if self.end is None else self.end) - self.begin

    @property
    def source(self) -> str:
        """The file's name, and which bytes of it unless all."""
        if self.end is None or self.size == self.file.size:
            return self.file.name
        return f"{self.file.name} bytes {self.begin}-{self.end}"


def cut_file(file: InputFile, split: int | None) -> Iterator[ByteRange]:
    """The file in equal ranges of at most ``split`` bytes; None: in one piece."""
    if split is None:
        yield ByteRange(file)
        return
    parts = -(-file.size // split)
    for part in range(parts):
        yield ByteRange(file, file.size * part // parts, file.size * (part + 1) // parts)


def read_buffers(
    stream: BinaryIO, byte_range: ByteRange, size: int | None
) -> Iterator[tuple[int, bytes]]:
    """(offset, data) of the range's lines: data of about ``size`` bytes that end at a line end."""
    file, position, end = byte_range.file, byte_range.begin, byte_range.end
    if end is None:
        end = _UNKNOWN_SIZE if file.compressed else file.size
    if position:
        stream.seek(position - 1)
        position -= 1
        newline = False
        while position < end and not newline and (skipped := stream.readline(DECODE_BYTES)):
            position += len(skipped)
            newline = skipped.endswith(b"\n")
    while position < end:
        wanted_bytes = min(size or end, end - position)
        data = stream.read(
            -1 if wanted_bytes > _MAX_READ_BYTES and end == _UNKNOWN_SIZE else wanted_bytes
        )
        if not data:
            return
        if not data.endswith(b"\n"):
            data += stream.readline()
        yield position, data
        position += len(data)


class RangeStart:
    """Where the reading of a range began; counts the lines before it if somebody asks."""

    def __init__(self, file: InputFile, offset: int) -> None:
        self._file = file
        self._offset = offset

    @cached_property
    def first_line(self) -> int:
        """The number of the first line; reads the file up to there, once."""
        line, left = 1, self._offset
        if left:
            with self._file.open_checked() as stream:
                while left and (data := stream.read(min(left, 1 << 20))):
                    line += data.count(b"\n")
                    left -= len(data)
        return line


class LineBuffer:
    """Some lines as they were read: what their places are computed from, when asked for."""

    def __init__(
        self, range_start: RangeStart, line: int, offset: int | None, data: bytes = b""
    ) -> None:
        self.range_start = range_start
        self.line = line
        self._offset = offset
        self._data = data

    @cached_property
    def _offsets(self) -> list[int]:
        return list(accumulate(map(len, io.BytesIO(self._data)), initial=self._offset))

    def offset(self, index: int) -> int | None:
        """The byte at which line ``index`` of the buffer begins; None where no line's is known."""
        return self._offsets[index] if index and self._offset is not None else self._offset


class Where(str):
    """The name of a record's file, equal to it as a str, that also knows the place in it.

    ``offset`` is the byte at which the record begins (of the unpacked contents; None in encodings
    such as UTF-16, which are read whole). ``line`` is its line number, from 1. In a file that was
    cut, the first ``line`` of a split costs a read of what lies before it.
    """

    __slots__ = ("buffer", "line_index")

    buffer: LineBuffer
    line_index: int

    @property
    def offset(self) -> int | None:
        """The byte at which the record begins."""
        return self.buffer.offset(self.line_index)

    @property
    def line(self) -> int:
        """The number of the record's first line, from 1."""
        return self.buffer.range_start.first_line + self.buffer.line + self.line_index

    def __reduce__(self) -> tuple[Any, ...]:
        """Without the data around it, but able to count lines wherever the file can be read."""
        line = self.buffer.line + self.line_index
        return _unpickle_where, (str(self), self.buffer.range_start, line, self.offset)


IMMUTABLE_TYPES.add(Where)


def describe_place(file: InputFile, line: int, byte: int | None) -> str:
    """Where in the file something is wrong, in words: ``/logs/a.gz, line 3, byte 20``."""
    unpacked = " of its unpacked contents" if file.compressed else ""
    return f"{file.path}, line {line}{'' if byte is None else f', byte {byte}'}{unpacked}"


def make_where(name: str, buffer: LineBuffer) -> Where:
    """The place where ``buffer`` begins in the file ``name``."""
    where = str.__new__(Where, name)
    where.buffer = buffer
    where.line_index = 0
    return where


def _unpickle_where(name: str, range_start: RangeStart, line: int, offset: int | None) -> Where:
    return make_where(name, LineBuffer(range_start, line, offset))


@dataclass(frozen=True, slots=True)
class Encoding:
    """How bytes become text: any codec and error handler that ``bytes.decode`` takes.

    Raises:
        ConfigError: Python knows no such text encoding or error handler.
    """

    name: str = "utf-8"
    errors: str = "strict"

    def __post_init__(self) -> None:
        try:
            "\n".encode(self.name)
            codecs.lookup_error(self.errors)
        except (LookupError, ValueError, TypeError) as error:
            raise ConfigError(
                f"encoding={show_value(self.name)}, errors={show_value(self.errors)}: {error}. Give values "  # noqa: E501
                "that bytes.decode knows, such as encoding='latin-1' or errors='replace'."
            ) from error

    @property
    def has_newline_byte(self) -> bool:
        r"""Whether the byte ``\n`` is always a line end, so that a file can be cut there."""
        name = codecs.lookup(self.name).name
        if name == "utf-8-sig":
            return True
        return "\n".encode(self.name) == b"\n" and not name.startswith(_STATEFUL_ENCODINGS)

    def decode(self, data: bytes, file: InputFile, buffer: LineBuffer | None = None) -> str:
        """The text of ``data``, which is all of the file or ``buffer`` of it.

        Raises:
            BadInput: not in this encoding; the message names file, line and byte.
            SourceError: the error handler is a program's own, and not registered here.
        """
        offset = buffer.offset(0) or 0 if buffer else 0
        name = self.name
        if codecs.lookup(name).name == "utf-8-sig":  # the mark belongs to the file, not a buffer
            name = "utf-8"
            if not offset and data.startswith(codecs.BOM_UTF8):
                data, offset = data[3:], 3
        try:
            return data.decode(name, self.errors)
        except UnicodeDecodeError as error:
            before = data[: error.start]
            lines = before if self.has_newline_byte else before.decode(name, "replace").encode()
            line = (buffer.range_start.first_line + buffer.line if buffer else 1) + lines.count(
                b"\n"
            )
            position = describe_place(file, line, offset + error.start)
            raise BadInput(
                f"{position}: not {self.name} ({data[error.start : error.start + 1].hex()} hex: "
                f"{error.reason}). Pass the right encoding= (--encoding), or errors='replace' "
                "(--errors replace) to read on with U+FFFD there."
            ) from None  # its own message counts from the buffer, and so would name a second byte
        except UnicodeError as error:  # of a codec that knows no places
            raise BadInput(
                f"{file.path}: not {self.name}: {error}. Pass the right encoding="
            ) from error
        except LookupError as error:
            raise SourceError(
                f"cannot decode {file.path} on {platform.node()}: {error}. Register it in initfn, "
                "which every worker runs before it reads"
            ) from error


def read_texts(
    byte_range: ByteRange, encoding: Encoding, size: int | None = DECODE_BYTES
) -> Iterator[tuple[LineBuffer, str]]:
    """The range's lines as text, about ``size`` bytes at a time, each with its place."""
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
    r"""Each line of the range with its place; its ``\n`` or ``\r\n`` is dropped unless ``keep_ends``."""  # noqa: E501
    name, new_str = byte_range.file.name, str.__new__
    for buffer, text in read_texts(byte_range, encoding):
        if keep_ends:
            split_lines = io.StringIO(text, newline="\n").readlines()
        else:
            if "\r" in text:  # ten times cheaper than a vain replace
                text = text.replace("\r\n", "\n")  # noqa: PLW2901
            split_lines = text.split("\n")
            if not split_lines[-1]:
                split_lines.pop()
        for index, line in enumerate(split_lines):
            where = new_str(Where, name)
            where.buffer = buffer
            where.line_index = index
            yield where, line


def parse_size(size: int | str | None, option: str = "split") -> int | None:
    """Bytes in ``"16MB"`` (kB, MB, GB are powers of 1024), ``4096`` or None.

    Raises:
        ConfigError: not a size of at least one byte.
    """
    if size is None:
        return None
    number = _bytes_in(size)
    if not 1 <= number < _SIZE_LIMIT_BYTES:
        raise ConfigError(
            f"{option}={show_value(size)} is not a size: give bytes as an int, text such as '16MB', or "  # noqa: E501
            "None to read each file in one piece"
        )
    return int(number)


def _bytes_in(size: Any) -> float:
    """Bytes, 0 for what is no size."""
    if type(size) is not bool and isinstance(size, Integral):
        return int(size)
    pattern = r"\s*(\d{1,18}(?:\.\d{1,18})?)\s*([kmgt]?)(?:i?b)?\s*"
    match = re.fullmatch(pattern, size.lower()) if isinstance(size, str) else None
    return float(match[1]) * _UNIT_BYTES[match[2]] if match else 0
