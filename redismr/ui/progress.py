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
from redismr.core.words import plural
from redismr.processes import here_only
from redismr.streams import Forgiving
from redismr.ui.clean import clean
from redismr.ui.errors import say, skipped_lines
from redismr.ui.forecast import Forecast
from redismr.ui.pace import Pace
from redismr.ui.words import amount, size
from redismr.ui.words import clock as clock_words

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from rich.console import Console
    from rich.live import Live

    from redismr.core.model import Progress
    from redismr.core.work import Work

_QUICK = 0.4
"""Seconds a job may take without being drawn: no flicker, and no import of rich, for small ones."""
_LINES_EVERY = 5.0
"""Seconds before the first and between two plain lines."""


def reporter(
    stream: TextIO | None = None,
    *,
    always: bool = False,
    announce: bool = False,
    summary: bool = True,
    clock: Callable[[], float] = time.monotonic,
) -> Reporter:
    """The drawer that suits ``stream`` (stderr). ``always`` draws lines even in a pipe.

    ``announce`` says in a pipe, once, that a job which takes a while is running, and what became
    of it where that is an error: then nobody else sums it up.
    """
    # Whatever becomes of a terminal, the job goes on.
    stream = cast("TextIO", Forgiving(sys.stderr if stream is None else stream))
    if stream.isatty() and os.environ.get("TERM") != "dumb":
        return LiveReporter(stream, summary=summary, clock=clock)
    # A notebook's stream is no terminal, but somebody is looking at it.
    shown = always or stream.isatty() or "ipykernel" in sys.modules
    return LineReporter(
        stream, quiet=not shown, summary=summary and shown, clock=clock, announces=announce
    )


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
        self.maps.see(now, progress.maps)
        self.shuffle.see(now, progress.shuffle_bytes)
        if progress.state == "reducing":
            self.reduces.see(now, progress.reduces)
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
        if error:
            self._failed()

    def _failed(self) -> None:
        """What was drawn for has ended with an error."""

    def _begin(self) -> None:
        self._start_paces()
        self.began = self._clock()

    def _start_paces(self) -> None:
        self.maps, self.reduces, self.shuffle = Stage(), Stage(), Pace()

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
        self._live.update(
            rows.rows(progress, self.maps, self.reduces, self.shuffle.rate()), refresh=True
        )


class LineReporter(Reporter):
    """A plain line now and then; when ``quiet``, only why a job waits."""

    def __init__(
        self, stream: TextIO, *, quiet: bool, summary: bool, clock: Callable[[], float],
        announces: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(stream, summary=summary, clock=clock)
        self._quiet, self._announces = quiet, announces

    def _begin(self) -> None:
        super()._begin()
        self._printed = self.began
        self._told = ""
        self._announced = False

    def _failed(self) -> None:
        if self._announces and self.last and self.last.state in {"failed", "cancelled"}:
            self._print(f"redismr: {summary_line(self.last)}")

    def _draw(self, progress: Progress, now: float) -> None:
        if self._announces and not self._announced and now - self.began >= _LINES_EVERY:
            self._announced = True
            self._print(f"redismr: job {progress.job_id} is running")
        if progress.waiting and progress.waiting != self._told:
            self._told = progress.waiting
            self._print(f"redismr: {progress.job_id} is waiting: {self._told}")
        if not self._quiet and now - self._printed >= _LINES_EVERY:
            self._printed = now
            self._print(plain_line(progress, self.maps, self.reduces))

    def _print(self, line: str) -> None:
        print(clean(line), file=self._stream, flush=True)


def plain_line(progress: Progress, maps: Stage, reduces: Stage) -> str:
    """The rows of a job in one line of text."""
    running = reduces if progress.state == "reducing" else maps
    words = [
        f"redismr: {clean(progress.job_id)} {progress.state} {clock_words(progress.elapsed)}",
        f"map {_amount(progress.maps)}",
        f"reduce {_amount(progress.reduces)}",
        f"{size(progress.shuffle_bytes)} shuffled",
    ]
    if (left := running.left()) is not None:
        words.append(f"{'reduce' if running is reduces else 'map'} eta {clock_words(left + 0.5)}")
    return "  ".join(words)


def summary_line(progress: Progress, counters: Mapping[str, int] | None = None) -> str:
    """What became of a job, in one line."""
    if progress.state == "succeeded":
        tasks = plural(progress.maps_done, "map task")
        words = [_read(progress.maps) + tasks, plural(progress.reduces_done, "reduce task")]
    else:
        words = [
            amount(progress.maps_done, progress.maps_total, "map tasks"),
            amount(progress.reduces_done, progress.reduces_total, "reduce tasks"),
        ]
    words += [f"{size(progress.shuffle_bytes)} shuffled", f"{progress.elapsed:.1f} s"]
    if progress.retries:
        words.append(f"{progress.retries:,} retried")
    words += [f"{clean(name)} {count:,}" for name, count in sorted((counters or {}).items())]
    return f"{clean(progress.job_id)} {progress.state}: {', '.join(words)}"


def _read(maps: Work) -> str:
    if maps.unit == "tasks":
        return ""
    return f"{plural(maps.done, 'item') if maps.unit == 'items' else size(maps.done)} in "


def _amount(work: Work) -> str:
    return amount(work.done, work.total, work.unit)


class Stage:
    """What was seen of one stage of one job: how fast it goes, how long the rest will take."""

    def __init__(self) -> None:
        self._pace, self._forecast = Pace(), Forecast()
        self._rest: int | None = None

    def see(self, now: float, work: Work) -> None:
        """Take note of ``work`` as it is at ``now`` (seconds on any steady clock)."""
        self._pace.see(now, work.done)
        self._forecast.see(now, work)
        # Of very many executors nobody looks at each, and their work is even.
        self._rest = None if work.busy >= 0 or work.total is None else work.total - work.done

    def rate(self) -> float:
        """Items, bytes or tasks per second."""
        return self._pace.rate()

    def left(self) -> float | None:
        """Seconds until the stage is over; None while there is too little to go by."""
        return self._forecast.left() if self._rest is None else self._pace.left(self._rest)


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
