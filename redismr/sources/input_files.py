"""Input files: found and measured on the submitter, opened on a worker.

A file must not change in between: byte ranges of a changed file would repeat some lines and cut
others. Opening a file checks it.
"""

import os
import platform
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, BinaryIO

from redismr.config import show_value
from redismr.core.plurals import pluralize
from redismr.core.printable import printable_text
from redismr.errors import BadInput, ConfigError, SourceChanged, SourceError
from redismr.sources.decompress import (
    DAMAGE_ERRORS,
    DECODERS,
    READ_BUFFER_BYTES,
    open_decompressed,
    suffix_of,
)
from redismr.sources.glob_matches import match_glob

Patterns = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file as the submitter found it."""

    name: str  #: As the glob gave it.
    path: str  #: Absolute.
    size: int  #: Bytes on disk.
    mtime_ns: int  #: ``st_mtime_ns`` of ``os.stat``.
    host: str  #: The submitter's; on other hosts ``mtime_ns`` may differ.

    @property
    def compressed(self) -> bool:
        """True if the suffix is .gz, .bz2, .xz or .zst: the file is never cut into ranges."""
        return suffix_of(self.path) in DECODERS

    @contextmanager
    def open_checked(self) -> Iterator[BinaryIO]:
        """Open the file, decompressed, and check before and after reading that it is unchanged."""
        try:
            raw = open(self.path, "rb", buffering=READ_BUFFER_BYTES, opener=_open_without_waiting)  # noqa: SIM115
        except OSError as error:
            raise SourceError(
                f"cannot open {self.path} on {platform.node()}: {error.strerror or error}. Every "
                f"worker must see the input at the same path as the submitter ({self.host}); "
                "redismr.files(..., ship=True) sends the contents along instead."
            ) from error
        with raw:
            status_before = self._check_unchanged(raw)
            stream, decompressed = (
                open_decompressed(raw, self.path) if self.compressed else (raw, None)
            )
            try:
                yield stream
            except DAMAGE_ERRORS as error:
                self._check_unchanged(raw, status_before)
                read_bytes = None if decompressed is None else decompressed.size
                raise self._read_error(error, read_bytes) from error
            except MemoryError as error:
                raise SourceError(
                    f"reading {self.path} on {platform.node()} took more memory than there is. "
                    "text() and lines() read a file in pieces; fewer executors leave each more."
                ) from error
            self._check_unchanged(raw, status_before)

    def _check_unchanged(
        self, raw: BinaryIO, status_before: os.stat_result | None = None
    ) -> os.stat_result:
        """Return the status; raise SourceChanged if the file is not as the submitter found it."""
        status = os.fstat(raw.fileno())
        if not stat.S_ISREG(status.st_mode):
            change = "is not a regular file any more"
        elif status.st_size != self.size:
            had, has = pluralize(self.size, "byte"), f"{status.st_size:,}"
            change = f"had {had} when the job was submitted and has {has} now"
        elif status.st_mtime_ns != self.mtime_ns and platform.node() == self.host:
            change = "was written to after the job was submitted"
        elif status_before is not None and status.st_mtime_ns != status_before.st_mtime_ns:
            change = "was written to while it was read"
        else:
            return status
        raise SourceChanged(
            f"{self.path} {change} (seen on {platform.node()}). Run the job again, "
            "on a copy if the file is still growing."
        )

    def _read_error(self, error: Exception, decompressed_bytes: int | None) -> SourceError:
        message, advice = str(error), "Repair or remove the file, then run the job again."
        # bz2 reports damaged data by an OSError without a number; the system's have a number.
        if decompressed_bytes is not None and not (isinstance(error, OSError) and error.errno):
            return BadInput(
                f"{self.path}, byte {decompressed_bytes} of its unpacked contents: {message}; it "
                f"is not a whole {suffix_of(self.path)} file. {advice}"
            )
        return SourceError(f"reading {self.path} failed on {platform.node()}: {message}. {advice}")


def _open_without_waiting(path: str, flags: int) -> int:
    """Open without waiting for a writer: a pipe may have taken the file's place."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def check_patterns(patterns: Any) -> Patterns:
    """Return the path or glob, or a tuple of several; ConfigError if one can be neither."""
    if isinstance(patterns, (str, os.PathLike)):
        return _check_pattern(patterns)
    if isinstance(patterns, (bytes, bytearray)) or not isinstance(patterns, Iterable):
        raise ConfigError(f"{show_value(patterns)} is no path or glob, nor a list of them")
    return tuple(map(_check_pattern, patterns))


def _check_pattern(pattern: Any) -> str | os.PathLike[str]:
    if not isinstance(pattern, (str, os.PathLike)):
        raise ConfigError(f"{show_value(pattern)} is no path or glob: give a str or Path")
    try:
        nul = b"\0" in os.fsencode(pattern)
    except UnicodeEncodeError:  # half of a surrogate pair
        nul = True
    if nul or isinstance(os.fspath(pattern), bytes):
        raise ConfigError(f"{show_value(os.fspath(pattern))} cannot be a file name")
    return pattern


def find_files(patterns: Patterns) -> tuple[InputFile, ...]:
    """Return every file that the paths and globs name: globs sorted, ``**`` recursive, each once.

    A path that exists is no glob, even if it holds ``*`` or ``[``. Directories that a glob matches
    are skipped. Links are followed: a file that is also matched through a link has the name with
    the fewest links in it, the first of several. Hard links are separate files.
    """
    if isinstance(patterns, (str, os.PathLike)):
        patterns = [patterns]
    found: dict[str, tuple[InputFile, tuple[int, int]]] = {}
    for pattern in [os.fspath(item) for item in patterns]:
        names = match_glob(pattern)
        files = [seen for name in names if (seen := _stat_input(name)) is not None]
        if not files:
            raise SourceError(_no_match_text(pattern, only_directories=bool(names)))
        for file, inode in files:
            found.setdefault(file.path, (file, inode))
    return _without_duplicates(found.values())


def _without_duplicates(
    found: Iterable[tuple[InputFile, tuple[int, int]]],
) -> tuple[InputFile, ...]:
    """Return the files; of several names of one file, the name with the fewest links in it."""
    # Links are counted only for files with the same inode: checking each part of each path would
    # take longer than all the rest.
    paths_by_inode: dict[tuple[int, int], list[str]] = {}
    for file, inode in found:
        paths_by_inode.setdefault(inode, []).append(file.path)
    chosen_paths = set[str]()
    for paths in paths_by_inode.values():
        if len(paths) > 1:
            by_real_path: dict[str, str] = {}  # hard links have several real paths
            for path in sorted(paths, key=_count_links):
                by_real_path.setdefault(os.path.realpath(path), path)
            paths = list(by_real_path.values())  # noqa: PLW2901
        chosen_paths.update(paths)
    return tuple(file for file, _ in found if file.path in chosen_paths)


def _count_links(path: str) -> int:
    return sum(map(os.path.islink, [path, *map(str, PurePath(path).parents)]))


def _stat_input(name: str) -> tuple[InputFile, tuple[int, int]] | None:
    """Return the file and its inode; None for a directory."""
    try:
        status = os.stat(name)
    except OSError as error:
        raise SourceError(
            f"cannot read the status of the input file {name!r}: {error.strerror or error}. "
            "Correct or remove it, or choose a pattern that does not match it."
        ) from error
    if stat.S_ISDIR(status.st_mode):
        return None
    if not stat.S_ISREG(status.st_mode):
        raise SourceError(
            f"the input {name!r} is not a regular file (a pipe or a device can be read only once). "
            "Save it to a file, or pass the opened file: its lines become the items."
        )
    path = os.path.abspath(name)
    file = InputFile(name, path, status.st_size, status.st_mtime_ns, platform.node())
    return file, (status.st_dev, status.st_ino)


def _no_match_text(pattern: str, *, only_directories: bool) -> str:
    current_folder = os.getcwd()
    if only_directories:
        inside = os.path.join(pattern.rstrip("*/") or ".", "**")
        return (
            f"{pattern!r} matches directories only (in {current_folder}). "
            f"Write {inside!r} to read all files below."
        )
    return (
        f"no file matches {printable_text(repr(pattern), 200)} (in {current_folder}). Check the "
        "pattern and the current directory; text to be processed as it is belongs in a list: "
        "[text]."
    )
