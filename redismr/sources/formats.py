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

from redismr.core.words import plural
from redismr.errors import BadInput, ConfigError
from redismr.sources.blocks import Encoding, Span, Where, lines, place, spot, texts

Record = tuple[str, Any]
_MARK = "\ufeff"


class Format(Protocol):
    """How the records of one span are made; ``kind`` names the source that makes them so."""

    kind: ClassVar[str]

    @property
    def encoding(self) -> Encoding | None:
        """How bytes become text; None where they stay what they are."""
        ...

    @property
    def cuttable(self) -> bool:
        r"""Whether a file may be cut at any byte ``\n``."""
        ...

    def read(self, span: Span) -> Iterator[Record]:
        """(where, value) for each record; ``where`` equals the file's name."""
        ...


@dataclass(frozen=True, slots=True)
class Whole:
    """One record a file: (name, contents). ``encoding`` None gives bytes."""

    kind: ClassVar[str] = "files"
    encoding: Encoding | None

    @property
    def cuttable(self) -> bool:
        """Never."""
        return False

    def read(self, span: Span) -> Iterator[Record]:
        """The one record."""
        with span.file.opened() as stream:
            data = stream.read()
        text = data if self.encoding is None else self.encoding.decode(data, span.file)
        yield span.file.name, text


@dataclass(frozen=True, slots=True)
class Text:
    """(where, block): about ``block`` bytes of text a record, cut at line ends."""

    kind: ClassVar[str] = "text"
    encoding: Encoding
    block: int | None

    @property
    def cuttable(self) -> bool:
        """Where the encoding allows it."""
        return self.encoding.linewise

    def read(self, span: Span) -> Iterator[Record]:
        """The blocks, which are the span's bytes and nothing else, decoded."""
        for chunk, text in texts(span, self.encoding, self.block):
            if text:
                yield place(span.file.name, chunk), text


@dataclass(frozen=True, slots=True)
class Lines:
    """(where, line) for each line, without its end."""

    kind: ClassVar[str] = "lines"
    encoding: Encoding

    @property
    def cuttable(self) -> bool:
        """Where the encoding allows it."""
        return self.encoding.linewise

    def read(self, span: Span) -> Iterator[Record]:
        """The lines, in order."""
        return lines(span, self.encoding)


@dataclass(frozen=True, slots=True)
class Jsonl(Lines):
    """(where, object) for each line that is not blank."""

    kind: ClassVar[str] = "jsonl"

    def read(self, span: Span) -> Iterator[Record]:
        """The parsed lines, in order."""
        decode = json.JSONDecoder().decode
        for where, line in lines(span, self.encoding):
            text = line.removeprefix(_MARK)  # no JSON begins with one
            if not text or text.isspace():
                continue
            try:
                value = decode(text)
            except (ValueError, RecursionError) as error:
                # Not from it: its own message counts from the line, a second place.
                raise BadInput(self._bad(span, where, line, error)) from None
            yield where, value

    def _bad(self, span: Span, where: Where, line: str, error: Exception) -> str:
        reason, byte = str(error), where.offset
        if isinstance(error, json.JSONDecodeError):
            reason = error.msg
            if byte is not None:
                # The line lost its mark before it was parsed, but has it in the file.
                before = line[: error.pos + line.startswith(_MARK)]
                byte += len(before.encode(self.encoding.name, "replace"))
        return (
            f"{spot(span.file, where.line, byte)}: not JSON: {reason}: {_short(line)}. Correct "
            "the line, or read the file with lines() and parse it in mapfn, where on_error counts."
        )


@dataclass(frozen=True, slots=True)
class Csv:
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
            raise ConfigError(f"header={_short(list(self.header))} names a column twice")
        try:
            csv.reader((), **self.layout)
        except (TypeError, ValueError, csv.Error) as error:
            raise ConfigError(
                f"csv() cannot read with {dict(self.layout)!r}: {error}. The options are those of "
                "csv.reader: delimiter, quotechar, escapechar, doublequote, quoting, strict..."
            ) from error

    @property
    def cuttable(self) -> bool:
        """Where the encoding allows it; that no field holds a newline is the caller's word."""
        return self.encoding.linewise

    def read(self, span: Span) -> Iterator[Record]:
        """The rows that are not blank, each as wide as the header."""
        rows = self._rows(span)
        if self.header is False:
            yield from rows
            return
        names = self._names(span, rows)
        width = len(names)
        for where, row in rows:
            if len(row) != width:
                raise BadInput(
                    f"{_spot(span, where)}: {plural(len(row), 'field')} where the header has "
                    f"{width}: {_short(row)}. Correct the row, or use header=False to get lists of "
                    "any length (and see that delimiter= is right)."
                )
            yield where, dict(zip(names, row, strict=True))

    def _names(self, span: Span, rows: Iterator[tuple[Where, list[str]]]) -> list[str]:
        """The header: as given, else the first row of the file, whatever part is being read."""
        if not isinstance(self.header, bool):
            return list(self.header)
        if span.begin == 0:
            where, names = next(rows, (None, []))
        else:
            with closing(self._rows(Span(span.file))) as whole:
                where, names = next(whole, (None, []))
        if where is not None and len(set(names)) != len(names):
            raise BadInput(
                f"{_spot(span, where)}: the header names a column twice: {_short(names)}. Give "
                "header=[names] for a file without a header, or header=False to get lists."
            )
        return names

    def _rows(self, span: Span) -> Generator[tuple[Where, list[str]], None, None]:
        taken: list[Where] = []  # places of the physical lines of the row being read

        def feed() -> Iterator[str]:
            for where, line in lines(span, self.encoding, ends=True):
                taken.append(where)
                first = where.nth == 0 and not where.offset
                yield line.removeprefix(_MARK) if first else line

        reader = csv.reader(feed(), **{"strict": True, **self.layout})
        while True:
            taken.clear()
            try:
                row = next(reader, None)
            except csv.Error as error:
                at = _spot(span, taken[0]) if taken else span.file.path
                raise BadInput(
                    f"{at}: not CSV: {error}. See that delimiter= and quotechar= are right; "
                    "strict=False accepts stray quotes, csv.field_size_limit() in initfn longer "
                    "fields; no field may hold a newline when split= is given."
                ) from error
            if row is None:
                return
            if row:
                yield taken[0], row


def _spot(span: Span, where: Where) -> str:
    return spot(span.file, where.line, where.offset)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
