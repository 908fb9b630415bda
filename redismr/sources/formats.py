"""What the records of a file are: the file itself, blocks, lines, JSON objects or CSV rows.

A format is a frozen value that travels inside each split; ``read`` runs on the worker.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from redismr.core.plurals import pluralize
from redismr.errors import BadInput, ConfigError
from redismr.sources.byte_ranges import ByteRange, read_lines, read_texts
from redismr.sources.record_place import Where, describe_file_place, make_where
from redismr.sources.text_encoding import Encoding

Record = tuple[str, Any]
_BYTE_ORDER_MARK = "\ufeff"


class RecordFormat(Protocol):
    """How the records of one range are made; ``kind`` names the source that makes them so."""

    kind: ClassVar[str]

    @property
    def encoding(self) -> Encoding | None:
        """How bytes become text; None where they stay what they are."""
        ...

    @property
    def can_be_cut(self) -> bool:
        r"""Whether a file may be cut at any byte ``\n``."""
        ...

    def read(self, byte_range: ByteRange) -> Iterator[Record]:
        """(where, value) for each record; ``where`` equals the file's name."""
        ...


@dataclass(frozen=True, slots=True)
class WholeFileFormat:
    """One record a file: (name, contents). ``encoding`` None gives bytes."""

    kind: ClassVar[str] = "files"
    encoding: Encoding | None

    @property
    def can_be_cut(self) -> bool:
        """Never."""
        return False

    def read(self, byte_range: ByteRange) -> Iterator[Record]:
        """The one record."""
        with byte_range.file.open_checked() as stream:
            data = stream.read()
        text = data if self.encoding is None else self.encoding.decode(data, byte_range.file)
        yield byte_range.file.name, text


@dataclass(frozen=True, slots=True)
class TextFormat:
    """(where, block): about ``block`` bytes of text a record, cut at line ends."""

    kind: ClassVar[str] = "text"
    encoding: Encoding
    block: int | None

    @property
    def can_be_cut(self) -> bool:
        """Where the encoding allows it."""
        return self.encoding.has_newline_byte

    def read(self, byte_range: ByteRange) -> Iterator[Record]:
        """The blocks, which are the range's bytes and nothing else, decoded."""
        for buffer, text in read_texts(byte_range, self.encoding, self.block):
            if text:
                yield make_where(byte_range.file.name, buffer), text


@dataclass(frozen=True, slots=True)
class LinesFormat:
    """(where, line) for each line, without its end."""

    kind: ClassVar[str] = "lines"
    encoding: Encoding

    @property
    def can_be_cut(self) -> bool:
        """Where the encoding allows it."""
        return self.encoding.has_newline_byte

    def read(self, byte_range: ByteRange) -> Iterator[Record]:
        """The lines, in order."""
        return read_lines(byte_range, self.encoding)


@dataclass(frozen=True, slots=True)
class JsonlFormat(LinesFormat):
    """(where, object) for each line that is not blank."""

    kind: ClassVar[str] = "jsonl"

    def read(self, byte_range: ByteRange) -> Iterator[Record]:
        """The parsed lines, in order."""
        decode = json.JSONDecoder().decode
        for where, line in read_lines(byte_range, self.encoding):
            text = line.removeprefix(_BYTE_ORDER_MARK)  # no JSON begins with one
            if not text or text.isspace():
                continue
            try:
                value = decode(text)
            except (ValueError, RecursionError) as error:
                # Not from it: its own message counts from the line, a second place.
                raise BadInput(self._not_json_text(byte_range, where, line, error)) from None
            yield where, value

    def _not_json_text(
        self, byte_range: ByteRange, where: Where, line: str, error: Exception
    ) -> str:
        reason, byte = str(error), where.offset
        if isinstance(error, json.JSONDecodeError):
            reason = error.msg
            if byte is not None:
                # The line lost its mark before it was parsed, but has it in the file.
                before = line[: error.pos + line.startswith(_BYTE_ORDER_MARK)]
                byte += len(before.encode(self.encoding.name, "replace"))
        return (
            f"{describe_file_place(byte_range.file, where.line, byte)}: not JSON: {reason}: {_shortened_repr(line)}. Correct "  # noqa: E501
            "the line, or read the file with lines() and parse it in mapfn, where on_error counts."
        )


@dataclass(frozen=True, slots=True)
class CsvFormat:
    """(where, row): a dict by the header's names, or a list when ``header`` is False.

    ``layout`` goes to ``csv.reader`` as it is (delimiter, quotechar, dialect...).
    """

    kind: ClassVar[str] = "csv"
    encoding: Encoding
    header: bool | Sequence[str]
    layout: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Refuse here what would be refused on the worker."""
        if isinstance(self.header, str) or not isinstance(self.header, (bool, Sequence)):
            raise ConfigError(
                f"header={self.header!r} must be True (names in the first row), False (no names: "
                "rows are lists) or a list of names"
            )
        if not isinstance(self.header, bool) and len(set(self.header)) != len(self.header):
            raise ConfigError(f"header={_shortened_repr(list(self.header))} names a column twice")
        try:
            csv.reader((), **self.layout)
        except (TypeError, ValueError, csv.Error) as error:
            raise ConfigError(
                f"csv() cannot read with {dict(self.layout)!r}: {error}. The options are those of "
                "csv.reader: delimiter, quotechar, escapechar, doublequote, quoting, strict..."
            ) from error

    @property
    def can_be_cut(self) -> bool:
        """Where the encoding allows it; that no field holds a newline is the caller's word."""
        return self.encoding.has_newline_byte

    def read(self, byte_range: ByteRange) -> Iterator[Record]:
        """The rows that are not blank, each as wide as the header."""
        rows = self._rows(byte_range)
        if self.header is False:
            yield from rows
            return
        names = self._column_names(byte_range, rows)
        width = len(names)
        for where, row in rows:
            if len(row) != width:
                raise BadInput(
                    f"{_describe_row_place(byte_range, where)}: {pluralize(len(row), 'field')} where the header has "  # noqa: E501
                    f"{width}: {_shortened_repr(row)}. Correct the row, or use header=False to get lists of "  # noqa: E501
                    "any length (and see that delimiter= is right)."
                )
            yield where, dict(zip(names, row, strict=True))

    def _column_names(
        self, byte_range: ByteRange, rows: Iterator[tuple[Where, list[str]]]
    ) -> list[str]:
        """The header: as given, else the first row of the file, whatever part is being read."""
        if not isinstance(self.header, bool):
            return list(self.header)
        if byte_range.begin == 0:
            where, names = next(rows, (None, []))
        else:
            with closing(self._rows(ByteRange(byte_range.file))) as rows_from_start:
                where, names = next(rows_from_start, (None, []))
        if where is not None and len(set(names)) != len(names):
            raise BadInput(
                f"{_describe_row_place(byte_range, where)}: the header names a column twice: {_shortened_repr(names)}. Give "  # noqa: E501
                "header=[names] for a file without a header, or header=False to get lists."
            )
        return names

    def _rows(self, byte_range: ByteRange) -> Generator[tuple[Where, list[str]], None, None]:
        row_lines: list[Where] = []  # places of the physical lines of the row being read

        def physical_lines() -> Iterator[str]:
            for where, line in read_lines(byte_range, self.encoding, keep_ends=True):
                row_lines.append(where)
                first = where.line_index == 0 and not where.offset
                yield line.removeprefix(_BYTE_ORDER_MARK) if first else line

        reader = csv.reader(physical_lines(), **{"strict": True, **self.layout})
        while True:
            row_lines.clear()
            try:
                row = next(reader, None)
            except csv.Error as error:
                place = (
                    _describe_row_place(byte_range, row_lines[0])
                    if row_lines
                    else byte_range.file.path
                )
                raise BadInput(
                    f"{place}: not CSV: {error}. See that delimiter= and quotechar= are right; "
                    "strict=False accepts stray quotes, csv.field_size_limit() in initfn longer "
                    "fields; no field may hold a newline when split= is given."
                ) from error
            if row is None:
                return
            if row:
                yield row_lines[0], row


def _describe_row_place(byte_range: ByteRange, where: Where) -> str:
    return describe_file_place(byte_range.file, where.line, where.offset)


def _shortened_repr(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
