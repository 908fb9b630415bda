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

_filled = set[int]()
_lost = list["OutputLost"]()


class OutputLost(OSError):
    """What was printed did not arrive: standard output is closed, full, or has no reader.

    ``begun`` says whether some of it had arrived before.
    """

    begun = False

    @property
    def enough(self) -> bool:
        """Whether its reader took some and left, as ``head`` does: no error."""
        return self.begun and self.errno == errno.EPIPE


def delivered() -> None:
    """All that this command has printed so far was taken.

    Raises:
        OutputLost: it was not. Also where a function of the user's has caught that before.
    """
    sys.stdout.flush()
    for lost in _lost:
        again = OutputLost(*lost.args)
        again.begun = lost.begun
        raise again


def fill() -> None:
    """Let 0, 1 and 2 be open: nothing to read, nowhere to write.

    What is written to 1 fails, so that a command whose output is lost can say so.
    """
    for fd, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(fd)
        except OSError:
            _filled.add(fd)
            os.open(os.devnull, flags)  # it gets the lowest number that is free
            os.set_inheritable(fd, True)  # noqa: FBT003


def of_command() -> None:
    """Make this process's streams those of a command: lost output is an error, once.

    What is said on standard error may be lost in silence: there is no other place to say it.
    """
    fill()
    sys.stdin = sys.stdin or open(0, encoding="utf-8")  # noqa: SIM115  as long as the process
    sys.stdout = _stream(sys.stdout, 1, strict=True)
    sys.stderr = _stream(sys.stderr, 2)


def of_worker() -> None:
    """Make this process's streams those of a worker: what it prints decides no result."""
    fill()
    sys.stdin = sys.stdin or open(0, encoding="utf-8")  # noqa: SIM115
    sys.stdout = _stream(sys.stdout, 1)
    sys.stderr = _stream(sys.stderr, 2)


def to_inherit(fd: int) -> int:
    """What a child gets as its stream of this number: ours, or nothing where ours is none.

    A descriptor that was closed when Python began may be anybody's by now.
    """
    import subprocess  # not before somebody starts a child: `redismr --help` never does

    fill()
    ours = (sys.__stdin__, sys.__stdout__, sys.__stderr__)[fd] is not None
    return fd if ours or fd in _filled else subprocess.DEVNULL


class Forgiving:
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


class _Descriptor(io.RawIOBase):
    """A standard descriptor to write to. After the first refusal everything is lost.

    Raises:
        OutputLost: that refusal, if ``strict``.
    """

    def __init__(self, fd: int, *, strict: bool) -> None:
        self._fd, self._strict, self._lost = fd, strict, False
        self._begun = False
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
        while left and not self._lost:
            try:
                left = left[os.write(self._fd, left) :]
                self._begun = True
            except BlockingIOError:  # whoever shares it with us wanted that
                import select

                select.select([], [self._fd], [])
            except OSError as error:
                self._lost = True
                if self._strict:
                    lost = OutputLost(error.errno, error.strerror)
                    lost.begun = self._begun
                    _lost.append(lost)
                    raise lost from None
        return size


def _stream(before: TextIO | None, fd: int, *, strict: bool = False) -> TextIO:
    """A stream like the one before."""
    raw: Any = _Descriptor(fd, strict=strict)
    if not isinstance(before, io.TextIOWrapper):
        return io.TextIOWrapper(io.BufferedWriter(raw), line_buffering=fd == 2)
    return io.TextIOWrapper(
        raw if before.write_through else io.BufferedWriter(raw),
        encoding=before.encoding,
        errors=before.errors,
        line_buffering=before.line_buffering,
        write_through=before.write_through,
    )
