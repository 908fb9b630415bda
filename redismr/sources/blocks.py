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

from redismr.config import shown
from redismr.core.frozen import FIXED
from redismr.errors import BadInput, ConfigError, SourceError
from redismr.sources.files import File

CHUNK = 1 << 15
"""Bytes decoded at a time: measured faster than larger ones, which fall out of the cache."""

_NO_SIZE = 1 << 62
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_STATEFUL = ("utf-7", "hz", "iso2022")
_UNKNOWN = sys.maxsize
_MOST = 1 << 30  # read(n) sets n bytes aside


@dataclass(frozen=True, slots=True)
class Span:
    """The lines of ``file`` that begin in ``begin <= byte < end``; ``end`` None means all of it."""

    file: File
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


def spans(file: File, split: int | None) -> Iterator[Span]:
    """The file in equal ranges of at most ``split`` bytes; None: in one piece."""
    if split is None:
        yield Span(file)
        return
    parts = -(-file.size // split)
    for part in range(parts):
        yield Span(file, file.size * part // parts, file.size * (part + 1) // parts)


def chunks(stream: BinaryIO, span: Span, size: int | None) -> Iterator[tuple[int, bytes]]:
    """(offset, data) of the span's lines: data of about ``size`` bytes that end at a line end."""
    file, at, end = span.file, span.begin, span.end
    if end is None:
        end = _UNKNOWN if file.compressed else file.size
    if at:
        stream.seek(at - 1)
        at -= 1
        newline = False
        while at < end and not newline and (skipped := stream.readline(CHUNK)):
            at += len(skipped)
            newline = skipped.endswith(b"\n")
    while at < end:
        want = min(size or end, end - at)
        data = stream.read(-1 if want > _MOST and end == _UNKNOWN else want)
        if not data:
            return
        if not data.endswith(b"\n"):
            data += stream.readline()
        yield at, data
        at += len(data)


class Origin:
    """Where the reading of a span began; counts the lines before it if somebody asks."""

    def __init__(self, file: File, offset: int) -> None:
        self._file = file
        self._offset = offset

    @cached_property
    def first_line(self) -> int:
        """The number of the first line; reads the file up to there, once."""
        line, left = 1, self._offset
        if left:
            with self._file.opened() as stream:
                while left and (data := stream.read(min(left, 1 << 20))):
                    line += data.count(b"\n")
                    left -= len(data)
        return line


class Chunk:
    """Some lines as they were read: what their places are computed from, when asked for."""

    def __init__(self, origin: Origin, line: int, offset: int | None, data: bytes = b"") -> None:
        self.origin = origin
        self.line = line
        self._offset = offset
        self._data = data

    @cached_property
    def _offsets(self) -> list[int]:
        return list(accumulate(map(len, io.BytesIO(self._data)), initial=self._offset))

    def offset(self, index: int) -> int | None:
        """The byte at which line ``index`` of the chunk begins; None where no line's is known."""
        return self._offsets[index] if index and self._offset is not None else self._offset


class Where(str):
    """The name of a record's file, equal to it as a str, that also knows the place in it.

    ``offset`` is the byte at which the record begins (of the unpacked contents; None in encodings
    such as UTF-16, which are read whole). ``line`` is its line number, from 1. In a file that was
    cut, the first ``line`` of a split costs a read of what lies before it.
    """

    __slots__ = ("chunk", "nth")

    chunk: Chunk
    nth: int

    @property
    def offset(self) -> int | None:
        """The byte at which the record begins."""
        return self.chunk.offset(self.nth)

    @property
    def line(self) -> int:
        """The number of the record's first line, from 1."""
        return self.chunk.origin.first_line + self.chunk.line + self.nth

    def __reduce__(self) -> tuple[Any, ...]:
        """Without the data around it, but able to count lines wherever the file can be read."""
        line = self.chunk.line + self.nth
        return _restored, (str(self), self.chunk.origin, line, self.offset)


FIXED.add(Where)


def spot(file: File, line: int, byte: int | None) -> str:
    """Where in the file something is wrong, in words: ``/logs/a.gz, line 3, byte 20``."""
    unpacked = " of its unpacked contents" if file.compressed else ""
    return f"{file.path}, line {line}{'' if byte is None else f', byte {byte}'}{unpacked}"


def place(name: str, chunk: Chunk) -> Where:
    """The place where ``chunk`` begins in the file ``name``."""
    where = str.__new__(Where, name)
    where.chunk = chunk
    where.nth = 0
    return where


def _restored(name: str, origin: Origin, line: int, offset: int | None) -> Where:
    return place(name, Chunk(origin, line, offset))


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
                f"encoding={shown(self.name)}, errors={shown(self.errors)}: {error}. Give values "
                "that bytes.decode knows, such as encoding='latin-1' or errors='replace'."
            ) from error

    @property
    def linewise(self) -> bool:
        r"""Whether the byte ``\n`` is always a line end, so that a file can be cut there."""
        name = codecs.lookup(self.name).name
        if name == "utf-8-sig":
            return True
        return "\n".encode(self.name) == b"\n" and not name.startswith(_STATEFUL)

    def decode(self, data: bytes, file: File, chunk: Chunk | None = None) -> str:
        """The text of ``data``, which is all of the file or ``chunk`` of it.

        Raises:
            BadInput: not in this encoding; the message names file, line and byte.
            SourceError: the error handler is a program's own, and not registered here.
        """
        offset = chunk.offset(0) or 0 if chunk else 0
        name = self.name
        if codecs.lookup(name).name == "utf-8-sig":  # the mark belongs to the file, not a chunk
            name = "utf-8"
            if not offset and data.startswith(codecs.BOM_UTF8):
                data, offset = data[3:], 3
        try:
            return data.decode(name, self.errors)
        except UnicodeDecodeError as error:
            before = data[: error.start]
            lines = before if self.linewise else before.decode(name, "replace").encode()
            line = (chunk.origin.first_line + chunk.line if chunk else 1) + lines.count(b"\n")
            at = spot(file, line, offset + error.start)
            raise BadInput(
                f"{at}: not {self.name} ({data[error.start : error.start + 1].hex()} hex: "
                f"{error.reason}). Pass the right encoding= (--encoding), or errors='replace' "
                "(--errors replace) to read on with U+FFFD there."
            ) from None  # its own message counts from the chunk, and so would name a second byte
        except UnicodeError as error:  # of a codec that knows no places
            raise BadInput(
                f"{file.path}: not {self.name}: {error}. Pass the right encoding="
            ) from error
        except LookupError as error:
            raise SourceError(
                f"cannot decode {file.path} on {platform.node()}: {error}. Register it in initfn, "
                "which every worker runs before it reads"
            ) from error


def texts(span: Span, encoding: Encoding, size: int | None = CHUNK) -> Iterator[tuple[Chunk, str]]:
    """The span's lines as text, about ``size`` bytes at a time, each with its place."""
    file = span.file
    with file.opened() as stream:
        if not encoding.linewise:
            yield Chunk(Origin(file, 0), 0, None), encoding.decode(stream.read(), file)
            return
        origin, line = None, 0
        for offset, data in chunks(stream, span, size):
            origin = origin or Origin(file, offset)
            chunk = Chunk(origin, line, offset, data)
            yield chunk, encoding.decode(data, file, chunk)
            line += data.count(b"\n")


def lines(span: Span, encoding: Encoding, *, ends: bool = False) -> Iterator[tuple[Where, str]]:
    r"""Each line of the span with its place; its ``\n`` or ``\r\n`` is dropped unless ``ends``."""
    name, new = span.file.name, str.__new__
    for chunk, text in texts(span, encoding):
        if ends:
            each = io.StringIO(text, newline="\n").readlines()
        else:
            if "\r" in text:  # ten times cheaper than a vain replace
                text = text.replace("\r\n", "\n")  # noqa: PLW2901
            each = text.split("\n")
            if not each[-1]:
                each.pop()
        for index, line in enumerate(each):
            where = new(Where, name)
            where.chunk = chunk
            where.nth = index
            yield where, line


def parse_size(size: int | str | None, option: str = "split") -> int | None:
    """Bytes in ``"16MB"`` (kB, MB, GB are powers of 1024), ``4096`` or None.

    Raises:
        ConfigError: not a size of at least one byte.
    """
    if size is None:
        return None
    number = _number(size)
    if not 1 <= number < _NO_SIZE:
        raise ConfigError(
            f"{option}={shown(size)} is not a size: give bytes as an int, text such as '16MB', or "
            "None to read each file in one piece"
        )
    return int(number)


def _number(size: Any) -> float:
    """Bytes, 0 for what is no size."""
    if type(size) is not bool and isinstance(size, Integral):
        return int(size)
    pattern = r"\s*(\d{1,18}(?:\.\d{1,18})?)\s*([kmgt]?)(?:i?b)?\s*"
    match = re.fullmatch(pattern, size.lower()) if isinstance(size, str) else None
    return float(match[1]) * _UNITS[match[2]] if match else 0
