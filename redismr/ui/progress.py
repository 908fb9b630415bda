"""A running job on the screen: ``reporter()`` makes what ``run(progress=...)`` calls.

On a terminal the rows of ``ui.rows`` are redrawn in place and leave one line of summary; where
asked for, or in a notebook, a plain line is printed every few seconds; in a pipe there is silence,
except that a job that cannot get on says why.
"""

from __future__ import annotations

import os
import sys
import time
import weakref
from typing import TYPE_CHECKING, Self, TextIO, cast

from redismr.core.model import ENDED_STATES
from redismr.processes import here_only
from redismr.streams import Forgiving
from redismr.ui.clean import clean
from redismr.ui.errors import say, skipped_lines
from redismr.ui.pace import Pace
from redismr.ui.words import clock as clock_words
from redismr.ui.words import plural, size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from rich.console import Console
    from rich.live import Live

    from redismr.core.model import Progress

_QUICK = 0.4
"""Seconds a job may take without being drawn: no flicker, and no import of rich, for small ones."""
_LINES_EVERY = 5.0
"""Seconds between two plain lines."""


def reporter(
    stream: TextIO | None = None,
    *,
    always: bool = False,
    summary: bool = True,
    clock: Callable[[], float] = time.monotonic,
) -> Reporter:
    """The drawer that suits ``stream`` (stderr). ``always`` draws lines even in a pipe."""
    # Whatever becomes of a terminal, the job goes on.
    stream = cast("TextIO", Forgiving(sys.stderr if stream is None else stream))
    if stream.isatty() and os.environ.get("TERM") != "dumb":
        return LiveReporter(stream, summary=summary, clock=clock)
    # A notebook's stream is no terminal, but somebody is looking at it.
    shown = always or stream.isatty() or "ipykernel" in sys.modules
    return LineReporter(stream, quiet=not shown, summary=summary and shown, clock=clock)


class Reporter:
    """Call it with each ``Progress``; it closes itself when the job has ended.

    ``last`` is the latest progress. ``close()`` may be called at any time, any number of times;
    as a context manager it closes on the way out, also by Ctrl-C.
    """

    def __init__(self, stream: TextIO, *, summary: bool, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._summary = summary
        self._clock = clock
        self.last: Progress | None = None
        self._open = False

    def __call__(self, progress: Progress) -> None:
        """Draw it, or the summary if the job has ended."""
        last = self.last if self.last and self.last.job_id == progress.job_id else None
        if last and last.state in ENDED_STATES:
            self.last = progress  # told already, but for what was skipped: that is read last
            if self._summary and progress.skipped:
                say(skipped_lines(progress.skipped), self._stream)
            return
        if not (last and self._open):
            self.close()
            self._begin()
        self._open, self.last = True, progress
        now = self._clock()
        if progress.waiting:
            self._start_paces()  # how long nobody worked says nothing about the work
        self.maps.see(now, progress.maps_done)
        self.shuffle.see(now, progress.shuffle_bytes)
        if progress.state == "reducing":
            self.reduces.see(now, progress.reduces_done)
        if progress.state in ENDED_STATES:
            self.close()
            if self._summary:
                print(summary_line(progress), file=self._stream)
        else:
            self._draw(progress, now)

    def close(self) -> None:
        """Take what is drawn off the screen."""
        self._open = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.close()

    def _begin(self) -> None:
        self._start_paces()
        self.began = self._clock()

    def _start_paces(self) -> None:
        self.maps, self.reduces, self.shuffle = Pace(), Pace(), Pace()

    def _draw(self, progress: Progress, now: float) -> None:
        raise NotImplementedError


class LiveReporter(Reporter):
    """Rows redrawn in place on a terminal."""

    _live: Live | None = None

    def close(self) -> None:
        """Clear the rows and give the cursor back."""
        super().close()
        if self._live is not None:
            self._stop()
            self._live = None

    def _draw(self, progress: Progress, now: float) -> None:
        if self._live is None and now - self.began < _QUICK:
            return
        from redismr.ui import rows

        if self._live is None:
            self._live = _start_live(rows.console(self._stream))
            self._stop = here_only(self._live.stop)
            # Whoever forgets to close us must not lose the cursor of their terminal.
            weakref.finalize(self, self._stop)
        self._live.update(rows.rows(progress, self.maps, self.reduces, self.shuffle), refresh=True)


class LineReporter(Reporter):
    """A plain line now and then; when ``quiet``, only why a job waits."""

    def __init__(
        self, stream: TextIO, *, quiet: bool, summary: bool, clock: Callable[[], float]
    ) -> None:
        super().__init__(stream, summary=summary, clock=clock)
        self._quiet = quiet

    def _begin(self) -> None:
        super()._begin()
        self._printed = self.began
        self._told = ""

    def _draw(self, progress: Progress, now: float) -> None:
        if progress.waiting and progress.waiting != self._told:
            self._told = progress.waiting
            self._print(f"redismr: {progress.job_id} is waiting: {self._told}")
        if not self._quiet and now - self._printed >= _LINES_EVERY:
            self._printed = now
            self._print(plain_line(progress, self.maps, self.reduces))

    def _print(self, line: str) -> None:
        print(clean(line), file=self._stream, flush=True)


def time_left(progress: Progress, maps: Pace, reduces: Pace) -> float | None:
    """Seconds until the running stage is over, as far as the pace of it tells."""
    if progress.state == "reducing":
        pace, done, total = reduces, progress.reduces_done, progress.reduces_total
    else:
        pace, done, total = maps, progress.maps_done, progress.maps_total
    return None if total is None else pace.left(max(total - done, 0))


def plain_line(progress: Progress, maps: Pace, reduces: Pace) -> str:
    """The rows of a job in one line of text."""
    left = time_left(progress, maps, reduces)
    words = [
        f"redismr: {clean(progress.job_id)} {progress.state} {clock_words(progress.elapsed)}",
        f"maps {_of(progress.maps_done, progress.maps_total)}",
        f"reduces {_of(progress.reduces_done, progress.reduces_total)}",
        f"{size(progress.shuffle_bytes)} shuffled",
    ]
    if left is not None:
        words.append(f"eta {clock_words(left)}")
    return "  ".join(words)


def summary_line(progress: Progress, counters: Mapping[str, int] | None = None) -> str:
    """What became of a job, in one line."""
    if progress.state == "succeeded":
        words = [plural(progress.maps_done, "map"), plural(progress.reduces_done, "reduce")]
    else:
        words = [
            f"{_of(progress.maps_done, progress.maps_total)} maps",
            f"{_of(progress.reduces_done, progress.reduces_total)} reduces",
        ]
    words += [f"{size(progress.shuffle_bytes)} shuffled", f"{progress.elapsed:.1f} s"]
    if progress.retries:
        words.append(f"{progress.retries:,} retried")
    words += [f"{clean(name)} {count:,}" for name, count in sorted((counters or {}).items())]
    return f"{clean(progress.job_id)} {progress.state}: {', '.join(words)}"


def _of(done: int, total: int | None) -> str:
    return f"{done}/{'?' if total is None else total}"


def _start_live(console: Console) -> Live:
    from rich.live import Live

    live = Live(
        console=console,
        auto_refresh=False,
        transient=True,
        # Only what would land on this very terminal may be led around the rows: a result that
        # goes into a pipe must stay there.
        redirect_stdout=Forgiving(sys.stdout).isatty(),
        redirect_stderr=Forgiving(sys.stderr).isatty(),
    )
    live.start()
    return live
