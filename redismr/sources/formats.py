"""Record formats: a record is a whole file, a block, a line, a JSON value or a CSV row.

A format is a frozen value that is sent in each split; ``read`` runs on the worker.
"""

import csv
import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, ClassVar

from redismr.core.plurals import pluralize
from redismr.core.printable import short_repr
from redismr.errors import BadInput, ConfigError
from redismr.sources.byte_ranges import ByteRange, read_lines, read_texts
from redismr.sources.record_place import Where, describe_file_place, make_where
from redismr.sources.text_encoding import Encoding

Record = tuple[str, Any]
_BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True, slots=True)
class RecordFormat:
    """The way in which a byte range becomes records."""

    kind: ClassVar[str]  #: The name of the function that makes sources of this format.
    encoding: Encoding | None  #: None: bytes stay bytes.

    @property
    def can_be_cut(self) -> bool:
        r"""True if a file may be cut after any byte ``\n``."""
        return self.encoding is not None and self.encoding.has_newline_byte

    def read(self, byte_range: ByteRange) -> Iterator[Record]:
        """Yield (where, value) for each record, in order; ``where`` equals the file's name."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class WholeFileFormat(RecordFormat):
    """One record a file: (name, contents)."""

    kind: ClassVar[str] = "files"
    can_be_cut: ClassVar[bool] = False

    def read(self, byte_range: ByteRange) -> Iterator[Record]:
        """Yield the one record."""
        with byte_range.file.open_checked() as stream:
            data = stream.read()
        text = data if self.encoding is None else self.encoding.decode(data, byte_range.file)
        yield byte_range.file.name, text


@dataclass(frozen=True, slots=True)
class TextFormat(RecordFormat):
    """(where, block) for each block of whole lines."""

    kind: ClassVar[str] = "text"
    encoding: Encoding
    block: int | None  #: About so many bytes make a block; None: the whole range.

    def read(self, byte_range: ByteRange) -> Iterator[Record]:
        """Yield the blocks; together they are the range's text, nothing else."""
        for buffer, text in read_texts(byte_range, self.encoding, self.block):
            if text:
                yield make_where(byte_range.file.name, buffer), text


@dataclass(frozen=True, slots=True)
class LinesFormat(RecordFormat):
    """(where, line without its end) for each line."""

    kind: ClassVar[str] = "lines"
    encoding: Encoding

    def read(self, byte_range: ByteRange) -> Iterator[Record]:
        """Return an iterator over the lines."""
        return read_lines(byte_range, self.encoding)


@dataclass(frozen=True, slots=True)
class JsonlFormat(LinesFormat):
    """(where, JSON value) for each line that is not blank."""

    kind: ClassVar[str] = "jsonl"

    def read(self, byte_range: ByteRange) -> Iterator[Record]:
        """Yield the parsed lines, in order."""
        decode = json.JSONDecoder().decode
        for where, line in read_lines(byte_range, self.encoding):
            text = line.removeprefix(_BYTE_ORDER_MARK)  # no JSON value begins with the mark
            if not text or text.isspace():
                continue
            try:
                value = decode(text)
            except (ValueError, RecursionError) as error:
                # No cause: its message counts from the line and would name another place.
                raise BadInput(self._not_json_text(byte_range, where, line, error)) from None
            yield where, value

    def _not_json_text(
        self, byte_range: ByteRange, where: Where, line: str, error: Exception
    ) -> str:
        reason, byte = getattr(error, "msg", str(error)), where.offset
        if isinstance(error, json.JSONDecodeError) and byte is not None:
            # The parsed text lacks the byte order mark; the line in the file has it.
            before = line[: error.pos + line.startswith(_BYTE_ORDER_MARK)]
            byte += len(before.encode(self.encoding.name, "replace"))
        return (
            f"{describe_file_place(byte_range.file, where.line, byte)}: not JSON: {reason}: "
            f"{short_repr(line)}. Correct the line, or read the file with lines() and parse it "
            "in mapfn, where on_error counts."
        )


@dataclass(frozen=True, slots=True)
class CsvFormat(RecordFormat):
    """(where, row) for each row that is not blank.

    A file may be cut after any newline only if no field holds a newline: the caller's promise.
    """

    kind: ClassVar[str] = "csv"
    encoding: Encoding
    #: True: the first row of each file holds the names; False: rows are lists; else the names.
    header: bool | Sequence[str]
    layout: Mapping[str, Any]  #: Options of ``csv.reader`` (delimiter, quotechar, dialect...).

    def __post_init__(self) -> None:
        """Check the options on the submitter, before a worker would refuse them."""
        if isinstance(self.header, str) or not isinstance(self.header, (bool, Sequence)):
            raise ConfigError(
                f"header={self.header!r} must be True (names in the first row), False (no names: "
                "rows are lists) or a list of names"
            )
        if not isinstance(self.header, bool) and len(set(self.header)) != len(self.header):
            raise ConfigError(f"header={short_repr(list(self.header))} names a column twice")
        try:
            csv.reader((), **self.layout)
        except (TypeError, ValueError, csv.Error) as error:
            raise ConfigError(
                f"csv() cannot read with {dict(self.layout)!r}: {error}. The options are those of "
                "csv.reader: delimiter, quotechar, escapechar, doublequote, quoting, strict..."
            ) from error

    def read(self, byte_range: ByteRange) -> Iterator[Record]:
        """Yield the rows that are not blank, each as wide as the header."""
        rows = self._rows(byte_range)
        if self.header is False:
            yield from rows
            return
        names = self._column_names(byte_range, rows)
        width = len(names)
        for where, row in rows:
            if len(row) != width:
                raise BadInput(
                    f"{_describe_row_place(byte_range, where)}: {pluralize(len(row), 'field')} "
                    f"where the header has {width}: {short_repr(row)}. Correct the row, or use "
                    "header=False to get lists of any length (and see that delimiter= is right)."
                )
            yield where, dict(zip(names, row, strict=True))

    def _column_names(
        self, byte_range: ByteRange, rows: Iterator[tuple[Where, list[str]]]
    ) -> list[str]:
        """Return the given header, else the first row of the file, whichever range is read."""
        if not isinstance(self.header, bool):
            return list(self.header)
        if byte_range.begin == 0:
            where, names = next(rows, (None, []))
        else:
            with closing(self._rows(ByteRange(byte_range.file))) as rows_from_start:
                where, names = next(rows_from_start, (None, []))
        if where is not None and len(set(names)) != len(names):
            raise BadInput(
                f"{_describe_row_place(byte_range, where)}: the header names a column twice: "
                f"{short_repr(names)}. Give header=[names] for a file without a header, or "
                "header=False to get lists."
            )
        return names

    def _rows(self, byte_range: ByteRange) -> Generator[tuple[Where, list[str]], None, None]:
        """Yield (where, fields) of each row that is not blank; a row may span several lines."""
        row_lines: list[Where] = []  # places of the lines of the row that is being read

        def physical_lines() -> Iterator[str]:
            for where, line in read_lines(byte_range, self.encoding, keep_ends=True):
                row_lines.append(where)
                first = where.line_index == 0 and not where.offset
                yield line.removeprefix(_BYTE_ORDER_MARK) if first else line

        reader = csv.reader(physical_lines(), **{"strict": True, **self.layout})
        try:
            for row in reader:
                if row:
                    yield row_lines[0], row
                row_lines.clear()
        except csv.Error as error:
            place = byte_range.file.path
            if row_lines:
                place = _describe_row_place(byte_range, row_lines[0])
            raise BadInput(
                f"{place}: not CSV: {error}. See that delimiter= and quotechar= are right; "
                "strict=False accepts stray quotes, csv.field_size_limit() in initfn longer "
                "fields; no field may hold a newline when split= is given."
            ) from error


def _describe_row_place(byte_range: ByteRange, where: Where) -> str:
    return describe_file_place(byte_range.file, where.line, where.offset)
