"""Sources of files: the submitter looks up globs, a split names byte ranges, a worker reads them.

The guided rule puts many small files into a split; a big file is cut where its format and encoding
allow it. Globs are looked up once per job, so that ``splits()`` always gives the same splits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, islice
from typing import ClassVar

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
    """Byte ranges of files, read on the worker."""

    format: RecordFormat
    byte_ranges: tuple[ByteRange, ...]

    @property
    def amount(self) -> int:
        """Bytes on disk."""
        return sum(byte_range.size for byte_range in self.byte_ranges)

    @property
    def source(self) -> str:
        """The first range, and the number of others."""
        return _first_and_count([byte_range.source for byte_range in self.byte_ranges])

    def read(self) -> Iterator[Record]:
        """Return an iterator over (where, value) of each record, range after range."""
        return chain.from_iterable(map(self.format.read, self.byte_ranges))

    def where(self, ordinal: int) -> str:
        """Return ``record 2001 of logs/a.gz (line 2001, byte 104417)``; reads up to there again."""
        return self.wheres([ordinal])[0]

    def wheres(self, ordinals: Sequence[int]) -> list[str]:
        """Return ``where`` of each record, reading the input once for all of them."""
        if isinstance(self.format, WholeFileFormat):
            names = dict(enumerate(byte_range.source for byte_range in self.byte_ranges))
            return [names.get(ordinal, self.source) for ordinal in ordinals]
        wanted, found = set(ordinals), {-1: self.source}
        records = (
            (byte_range, number, where)
            for byte_range in self.byte_ranges
            for number, (where, _) in enumerate(self.format.read(byte_range))
        )
        # The file may be gone or damaged by now: then the answer is what is known without it.
        with contextlib.suppress(Exception):
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
    """Files with their contents: workers need no access to the files."""

    names: tuple[str, ...]
    contents: tuple[str | bytes, ...]
    amount: int  #: Bytes on disk.

    @property
    def source(self) -> str:
        """The first file, and the number of others."""
        return _first_and_count(self.names)

    def read(self) -> Iterator[Record]:
        """Return an iterator over (name, contents) of each file."""
        return zip(self.names, self.contents, strict=True)

    def where(self, ordinal: int) -> str:
        """Return the file's name."""
        return self.names[ordinal] if 0 <= ordinal < len(self.names) else self.source


@dataclass(frozen=True)
class FileSource:
    """The files that ``patterns`` name, as records of ``format``."""

    patterns: Patterns
    format: RecordFormat
    split: int | None = None  #: Largest number of bytes in a range; None: files are not cut.
    ship: bool = False  #: True: the submitter reads the files, and their contents are sent.
    chunk: int | None = None  #: Number of whole files in one task; None: the guided rule decides.
    rereadable = True
    unit: ClassVar[str] = "bytes"

    def __post_init__(self) -> None:
        object.__setattr__(self, "patterns", check_patterns(self.patterns))

    def with_patterns(
        self, patterns: Patterns, encoding: str | None = None, errors: str | None = None
    ) -> FileSource:
        """Return a source of other files with this one's options; None keeps an option."""
        record_format = self.format
        given = {"name": encoding, "errors": errors}
        if given := {option: value for option, value in given.items() if value is not None}:
            if record_format.encoding is None:
                raise ConfigError(
                    "an encoding or error handler is about text, and this source reads bytes "
                    "(binary=True)"
                )
            new_encoding = replace(record_format.encoding, **given)
            record_format = replace(record_format, encoding=new_encoding)
        return replace(self, patterns=patterns, format=record_format)

    def with_files_found(self, chunk: int | None = None) -> FileSource:
        """Return this source with the files that match its patterns now; SourceError if none."""
        if chunk is not None and not isinstance(self.format, WholeFileFormat):
            raise ConfigError(
                f"chunk={chunk} counts inline items or whole files; the tasks of text(), lines(), "
                "jsonl() and csv() are sized by their split= option"
            )
        source = replace(self, chunk=chunk)
        source.files  # noqa: B018 - looks the files up now: an error comes before the job starts
        return source

    @cached_property
    def files(self) -> tuple[InputFile, ...]:
        """The files that matched the patterns when this was first read."""
        return find_files(self.patterns)

    @property
    def size(self) -> int:
        """Bytes of all files on disk."""
        return sum(file.size for file in self.files)

    expected = size

    def splits(self) -> Iterator[FileSplit | ShippedSplit]:
        """Yield the splits in the order of the files; SourceError at once if none matches."""
        batches = guided_batches(
            chain.from_iterable(self._ranges_of_files(self.files)),
            lambda batch: [byte_range.size for byte_range in batch],
            FILE_BATCH_BYTES,
            self.chunk,
        )
        if self.ship:
            return map(self._make_shipped_split, batches)
        return (FileSplit(self.format, tuple(batch)) for batch in batches)

    def _ranges_of_files(self, files: Sequence[InputFile]) -> Iterator[Iterator[ByteRange]]:
        # Few big files must make tasks for many workers too, but no tasks below 1 MB.
        task_bytes = max(FILE_BATCH_BYTES, self.size // _WANTED_TASKS)
        for file in files:
            cut = self.format.can_be_cut and not file.compressed
            # A file that is at most a quarter larger than one task's share is not cut in two.
            range_bytes = task_bytes if file.size > task_bytes + task_bytes // 4 else file.size
            yield cut_file(file, min(self.split, range_bytes or 1) if cut and self.split else None)

    def _make_shipped_split(self, batch: list[ByteRange]) -> ShippedSplit:
        names, contents = zip(*chain.from_iterable(map(self.format.read, batch)), strict=True)
        return ShippedSplit(names, contents, sum(byte_range.size for byte_range in batch))


def _first_and_count(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
