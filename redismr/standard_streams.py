"""Cope with standard streams that are closed (cron, daemons), full, or without a reader.

A closed descriptor is given to the next file or socket, and then ``print`` would write into that.
So missing descriptors 0 to 2 are opened before any other file.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from typing_extensions import Buffer

_opened_descriptors = set[int]()
_lost_outputs = list["OutputLost"]()


class OutputLost(OSError):
    """Output was lost: standard output is closed, full, or has no reader."""

    partly_written = False  #: True if some output was written before.

    @property
    def reader_has_left(self) -> bool:
        """True if the reader took some output and left, as ``head`` does: no error."""
        return self.partly_written and self.errno == errno.EPIPE


def check_delivered() -> None:
    """Raise OutputLost if output of this command was lost, even if the user caught that error."""
    sys.stdout.flush()
    for lost in _lost_outputs:
        again = OutputLost(*lost.args)
        again.partly_written = lost.partly_written
        raise again


def open_missing_descriptors() -> None:
    """Open those of the descriptors 0, 1 and 2 that are closed."""
    # 0 has no data then; writing to 1 fails, so that a command can report it, but not to 2
    for fd, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(fd)
        except OSError:
            _opened_descriptors.add(fd)
            os.open(os.devnull, flags)  # takes the lowest free number, which is fd
            os.set_inheritable(fd, True)  # noqa: FBT003


def use_safe_streams(*, strict: bool = False) -> None:
    """Replace the streams. ``strict``: the first loss of standard output raises an error.

    Other losses are ignored: no result depends on them, and there is no place to report them.
    """
    open_missing_descriptors()
    sys.stdin = sys.stdin or open(0, encoding="utf-8")  # noqa: SIM115  as long as the process
    sys.stdout = _replace_stream(sys.stdout, 1, strict=strict)
    sys.stderr = _replace_stream(sys.stderr, 2)


def inheritable_descriptor(fd: int) -> int:
    """Return the descriptor that a child inherits as stream ``fd``; DEVNULL if it was closed.

    A descriptor that was closed when Python started may belong to any file by now.
    """
    import subprocess  # slow to import, and `redismr --help` starts no child

    open_missing_descriptors()
    was_open = (sys.__stdin__, sys.__stdout__, sys.__stderr__)[fd] is not None
    return fd if was_open or fd in _opened_descriptors else subprocess.DEVNULL


class NeverFailingStream:
    """Writes to a stream, which may be None, and ignores all errors."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Try to write."""
        if self._stream is not None:
            with suppress(OSError, ValueError):
                self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Try to flush."""
        if self._stream is not None:
            with suppress(OSError, ValueError):
                self._stream.flush()

    def isatty(self) -> bool:
        """True if the stream is a terminal."""
        with suppress(ValueError):  # the stream is closed
            return self._stream is not None and self._stream.isatty()
        return False

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


class _DescriptorWriter(io.RawIOBase):
    """Writes until the first error, which is an ``OutputLost`` if ``strict``; then drops all."""

    def __init__(self, fd: int, *, strict: bool) -> None:
        self._fd, self._strict, self._is_lost = fd, strict, False
        self._partly_written = False
        self.name, self.mode = ("<stdin>", "<stdout>", "<stderr>")[fd], "wb"

    def fileno(self) -> int:
        return self._fd

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return os.isatty(self._fd)

    def write(self, data: Buffer) -> int:
        left = memoryview(data)
        size = len(left)
        while left and not self._is_lost:
            try:
                left = left[os.write(self._fd, left) :]
                self._partly_written = True
            except BlockingIOError:  # another process that shares the descriptor set that mode
                import select

                select.select([], [self._fd], [])
            except OSError as error:
                self._is_lost = True
                if self._strict:
                    lost = OutputLost(error.errno, error.strerror)
                    lost.partly_written = self._partly_written
                    _lost_outputs.append(lost)
                    raise lost from None
        return size


def _replace_stream(before: TextIO | None, fd: int, *, strict: bool = False) -> TextIO:
    """Return a stream with the encoding and buffering of the one before."""
    raw: Any = _DescriptorWriter(fd, strict=strict)
    if not isinstance(before, io.TextIOWrapper):
        return io.TextIOWrapper(io.BufferedWriter(raw), line_buffering=fd == 2)
    return io.TextIOWrapper(
        raw if before.write_through else io.BufferedWriter(raw),
        encoding=before.encoding,
        errors=before.errors,
        line_buffering=before.line_buffering,
        write_through=before.write_through,
    )
