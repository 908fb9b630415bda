"""Sources that are files: globs on the submitter, splits that name byte ranges, no contents.

Small files are packed many to a split by the guided rule; big ones are cut where their format and
encoding allow it. What the globs matched is looked up once per job, by ``with_files_found``, so
that every
call of ``splits()`` for that job gives the same splits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, islice
from typing import Any, ClassVar

from redismr.errors import ConfigError
from redismr.sources.batching import guided_batches
from redismr.sources.byte_ranges import ByteRange, cut_file
from redismr.sources.formats import Record, RecordFormat, TextFormat, WholeFileFormat
from redismr.sources.input_files import InputFile, Patterns, check_patterns, find_files
from redismr.sources.record_place import Where

FILE_BATCH_BYTES = 1 << 20
_WANTED_TASKS = 32


@dataclass(frozen=True, slots=True)
class FileSplit:
    """The records of some byte ranges of files, read on the worker."""

    format: RecordFormat
    byte_ranges: tuple[ByteRange, ...]

    @property
    def amount(self) -> int:
        """Bytes, as they lie on disk."""
        return sum(byte_range.size for byte_range in self.byte_ranges)

    @property
    def source(self) -> str:
        """The first file, and how many more."""
        return _first_and_count([byte_range.source for byte_range in self.byte_ranges])

    def read(self) -> Iterator[Record]:
        """(where, value) for each record, range after range."""
        return chain.from_iterable(map(self.format.read, self.byte_ranges))

    def where(self, ordinal: int) -> str:
        """``record 2001 of logs/a.gz (line 2001, byte 104417)``; reads up to there again."""
        if ordinal < 0:
            return self.source
        if isinstance(self.format, WholeFileFormat):
            return (
                self.byte_ranges[ordinal].source if ordinal < len(self.byte_ranges) else self.source
            )
        return self.wheres([ordinal])[0]

    def wheres(self, ordinals: Sequence[int]) -> list[str]:
        """``where`` of each of these, reading the input once for all of them."""
        if isinstance(self.format, WholeFileFormat):
            return [self.where(ordinal) for ordinal in ordinals]
        wanted, found = set(ordinals), dict[int, str]()
        records = (
            (byte_range, number, where)
            for byte_range in self.byte_ranges
            for number, (where, _) in enumerate(self.format.read(byte_range))
        )
        with contextlib.suppress(Exception):  # gone or bad by now: say what is known without it
            for ordinal, record in enumerate(islice(records, max(wanted, default=-1) + 1)):
                if ordinal in wanted:
                    found[ordinal] = self._describe_record(*record)
        return [found.get(o, f"record {o + 1} of {self.source}") for o in ordinals]

    def _describe_record(self, byte_range: ByteRange, ordinal: int, where: str) -> str:
        description = f"record {ordinal + 1} of {byte_range.source}"
        if isinstance(where, Where):
            byte = "" if where.offset is None else f", byte {where.offset}"
            description += f" (line {where.line}{byte})"
        if isinstance(self.format, TextFormat):
            description += ", a block; with lines() each line is a record"
        return description


@dataclass(frozen=True, slots=True)
class ShippedSplit:
    """Files whose contents travel along: no worker needs to see them."""

    names: tuple[str, ...]
    contents: tuple[str | bytes, ...]
    amount: int
    """Bytes, as they lay on disk."""

    @property
    def source(self) -> str:
        """The first file, and how many more."""
        return _first_and_count(self.names)

    def read(self) -> Iterator[Record]:
        """(name, contents) for each file."""
        return zip(self.names, self.contents, strict=True)

    def where(self, ordinal: int) -> str:
        """The file's name."""
        return self.names[ordinal] if 0 <= ordinal < len(self.names) else self.source


@dataclass(frozen=True)
class FileSource:
    """The files that ``patterns`` name, as records of ``format``."""

    patterns: Patterns
    format: RecordFormat
    split: int | None = None
    ship: bool = False
    chunk: int | None = None
    rereadable = True
    unit: ClassVar[str] = "bytes"

    def __post_init__(self) -> None:
        object.__setattr__(self, "patterns", check_patterns(self.patterns))

    def with_patterns(
        self, patterns: Patterns, encoding: str | None = None, errors: str | None = None
    ) -> FileSource:
        """Other files, read in the same way but for the encoding and error handler given.

        Raises:
            ConfigError: no such encoding or error handler; or bytes are read, which need neither.
        """
        layout: Any = self.format
        given = {"name": encoding, "errors": errors}
        if given := {option: value for option, value in given.items() if value is not None}:
            if layout.encoding is None:
                raise ConfigError(
                    "an encoding or error handler is about text, and this source reads bytes "
                    "(binary=True)"
                )
            layout = replace(layout, encoding=replace(layout.encoding, **given))
        return replace(self, patterns=patterns, format=layout)

    def with_files_found(self, chunk: int | None = None) -> FileSource:
        """This source as the disk is now, looked at.

        Raises:
            SourceError: a pattern matches no file; it and the current directory are named.
            ConfigError: ``chunk`` for a source that ``split=`` cuts.
        """
        if chunk is not None and not isinstance(self.format, WholeFileFormat):
            raise ConfigError(
                f"chunk={chunk} counts inline items or whole files; the tasks of text(), lines(), "
                "jsonl() and csv() are sized by their split= option"
            )
        source = replace(self, chunk=chunk)
        source.files  # noqa: B018 - looks now, and fails before anything is started
        return source

    @cached_property
    def files(self) -> tuple[InputFile, ...]:
        """What the patterns matched when first asked."""
        return find_files(self.patterns)

    @property
    def size(self) -> int:
        """Bytes of all files, as they lie on disk."""
        return sum(file.size for file in self.files)

    expected = size

    def splits(self) -> Iterator[FileSplit | ShippedSplit]:
        """The files in order, small ones packed, big ones cut.

        Raises:
            SourceError: at once, when a pattern matches no file.
        """
        batches = guided_batches(
            chain.from_iterable(self._ranges_of_files(self.files)),
            lambda batch: [byte_range.size for byte_range in batch],
            FILE_BATCH_BYTES,
            self.chunk,
        )
        return map(self._make_shipped_split if self.ship else self._make_split, batches)

    def _ranges_of_files(self, files: Sequence[InputFile]) -> Iterator[Iterator[ByteRange]]:
        # A few big files must still give tasks to many workers, down to 1 MB each.
        task_bytes = max(FILE_BATCH_BYTES, self.size // _WANTED_TASKS)
        for file in files:
            cut = self.format.can_be_cut and not file.compressed
            # One of many alike that is hardly larger than the others is not worth two tasks.
            range_bytes = task_bytes if file.size > task_bytes + task_bytes // 4 else file.size
            yield cut_file(file, min(self.split, range_bytes or 1) if cut and self.split else None)

    def _make_split(self, batch: list[ByteRange]) -> FileSplit:
        return FileSplit(self.format, tuple(batch))

    def _make_shipped_split(self, batch: list[ByteRange]) -> ShippedSplit:
        names, contents = zip(*chain.from_iterable(map(self.format.read, batch)), strict=True)
        return ShippedSplit(names, contents, sum(byte_range.size for byte_range in batch))


def _first_and_count(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
