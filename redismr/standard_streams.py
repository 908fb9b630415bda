"""Standard streams as they may be: closed (cron, daemons), on a full disk, a pipe nobody reads.

A descriptor that is closed is taken by the next file or socket, and then whatever prints writes
into that. So descriptors 0 to 2 that are missing are filled before anything else is opened.
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
    """What was printed did not arrive: standard output is closed, full, or has no reader.

    ``partly_written`` says whether some of it had arrived before.
    """

    partly_written = False

    @property
    def reader_has_left(self) -> bool:
        """Whether its reader took some and left, as ``head`` does: no error."""
        return self.partly_written and self.errno == errno.EPIPE


def check_delivered() -> None:
    """All that this command has printed so far was taken.

    Raises:
        OutputLost: it was not. Also where a function of the user's has caught that before.
    """
    sys.stdout.flush()
    for lost in _lost_outputs:
        again = OutputLost(*lost.args)
        again.partly_written = lost.partly_written
        raise again


def open_missing_descriptors() -> None:
    """Let 0, 1 and 2 be open: nothing to read, nowhere to write.

    What is written to 1 fails, so that a command whose output is lost can say so.
    """
    for fd, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(fd)
        except OSError:
            _opened_descriptors.add(fd)
            os.open(os.devnull, flags)  # it gets the lowest number that is free
            os.set_inheritable(fd, True)  # noqa: FBT003


def use_command_streams() -> None:
    """Make this process's streams those of a command: lost output is an error, once.

    What is said on standard error may be lost in silence: there is no other place to say it.
    """
    open_missing_descriptors()
    sys.stdin = sys.stdin or open(0, encoding="utf-8")  # noqa: SIM115  as long as the process
    sys.stdout = _replace_stream(sys.stdout, 1, strict=True)
    sys.stderr = _replace_stream(sys.stderr, 2)


def use_worker_streams() -> None:
    """Make this process's streams those of a worker: what it prints decides no result."""
    open_missing_descriptors()
    sys.stdin = sys.stdin or open(0, encoding="utf-8")  # noqa: SIM115
    sys.stdout = _replace_stream(sys.stdout, 1)
    sys.stderr = _replace_stream(sys.stderr, 2)


def inheritable_descriptor(fd: int) -> int:
    """What a child gets as its stream of this number: ours, or nothing where ours is none.

    A descriptor that was closed when Python began may be anybody's by now.
    """
    import subprocess  # not before somebody starts a child: `redismr --help` never does

    open_missing_descriptors()
    ours = (sys.__stdin__, sys.__stdout__, sys.__stderr__)[fd] is not None
    return fd if ours or fd in _opened_descriptors else subprocess.DEVNULL


class NeverFailingStream:
    """Writes to a stream what that takes; a stream that is None takes nothing. Never raises."""

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
        """Whether it is a terminal."""
        with suppress(ValueError):  # it was closed
            return self._stream is not None and self._stream.isatty()
        return False

    def __getattr__(self, name: str) -> object:
        """Whatever else the stream has."""
        return getattr(self._stream, name)


class _DescriptorWriter(io.RawIOBase):
    """A standard descriptor to write to. After the first refusal everything is lost.

    Raises:
        OutputLost: that refusal, if ``strict``.
    """

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
            except BlockingIOError:  # whoever shares it with us wanted that
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
    """A stream like the one before."""
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
