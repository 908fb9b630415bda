"""A running job on the screen: ``progress_display()`` makes what ``run(progress=...)`` calls.

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
from redismr.core.plurals import pluralize
from redismr.core.printable import printable_line
from redismr.process_guards import only_in_this_process
from redismr.standard_streams import NeverFailingStream
from redismr.ui.error_screens import print_message, skipped_lines
from redismr.ui.forecast import StageEstimate
from redismr.ui.human_units import format_amount, format_bytes, format_clock
from redismr.ui.rate import RateMeter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from rich.console import Console
    from rich.live import Live

    from redismr.core.status_rows import Progress
    from redismr.core.work_amount import StageProgress

_DRAW_AFTER_SECONDS = 0.4
"""Seconds a job may take without being drawn: no flicker, and no import of rich, for small ones."""
_LINE_INTERVAL_SECONDS = 5.0
"""Seconds before the first and between two plain lines."""


def progress_display(
    stream: TextIO | None = None,
    *,
    always: bool = False,
    announce: bool = False,
    summary: bool = True,
    clock: Callable[[], float] = time.monotonic,
) -> ProgressDisplay:
    """The drawer that suits ``stream`` (stderr). ``always`` draws lines even in a pipe.

    ``announce`` says in a pipe, once, that a job which takes a while is running, and what became
    of it where that is an error: then nobody else sums it up.
    """
    # Whatever becomes of a terminal, the job goes on.
    stream = cast("TextIO", NeverFailingStream(sys.stderr if stream is None else stream))
    if stream.isatty() and os.environ.get("TERM") != "dumb":
        return LiveDisplay(stream, summary=summary, clock=clock)
    # A notebook's stream is no terminal, but somebody is looking at it.
    draws_lines = always or stream.isatty() or "ipykernel" in sys.modules
    return LineDisplay(
        stream,
        quiet=not draws_lines,
        summary=summary and draws_lines,
        clock=clock,
        announce=announce,
    )


class ProgressDisplay:
    """Call it with each ``Progress``; it closes itself when the job has ended.

    ``last_progress`` is the latest progress. ``close()`` may be called at any time, any number of
    times;
    as a context manager it closes on the way out, also by Ctrl-C.
    """

    def __init__(self, stream: TextIO, *, summary: bool, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._summary = summary
        self._clock = clock
        self.last_progress: Progress | None = None
        self._is_drawing = False

    def __call__(self, progress: Progress) -> None:
        """Draw it, or the summary if the job has ended."""
        last = (
            self.last_progress
            if self.last_progress and self.last_progress.job_id == progress.job_id
            else None
        )
        if last and last.state in ENDED_STATES:
            self.last_progress = (
                progress  # told already, but for what was skipped: that is read last
            )
            if self._summary and progress.skipped:
                print_message(skipped_lines(progress.skipped), self._stream)
            return
        if not (last and self._is_drawing):
            self.close()
            self._start_job()
        self._is_drawing, self.last_progress = True, progress
        now = self._clock()
        if progress.waiting:
            self._start_meters()  # how long nobody worked says nothing about the work
        self.maps.update(now, progress.maps)
        self.shuffle.update(now, progress.shuffle_bytes)
        if progress.state == "reducing":
            self.reduces.update(now, progress.reduces)
        if progress.state in ENDED_STATES:
            self.close()
            if self._summary:
                print(summary_line(progress), file=self._stream)
        else:
            self._draw(progress, now)

    def close(self) -> None:
        """Take what is drawn off the screen."""
        self._is_drawing = False

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
            self._on_error()

    def _on_error(self) -> None:
        """What was drawn for has ended with an error."""

    def _start_job(self) -> None:
        self._start_meters()
        self.started_at = self._clock()

    def _start_meters(self) -> None:
        self.maps, self.reduces, self.shuffle = StageEstimate(), StageEstimate(), RateMeter()

    def _draw(self, progress: Progress, now: float) -> None:
        raise NotImplementedError


class LiveDisplay(ProgressDisplay):
    """Rows redrawn in place on a terminal."""

    _live: Live | None = None

    def close(self) -> None:
        """Clear the rows and give the cursor back."""
        super().close()
        if self._live is not None:
            self._stop_live()
            self._live = None

    def _draw(self, progress: Progress, now: float) -> None:
        if self._live is None and now - self.started_at < _DRAW_AFTER_SECONDS:
            return
        from redismr.ui import live_rows

        if self._live is None:
            self._live = _start_live(live_rows.make_console(self._stream))
            self._stop_live = only_in_this_process(self._live.stop)
            # Whoever forgets to close us must not lose the cursor of their terminal.
            weakref.finalize(self, self._stop_live)
        rows = live_rows.progress_rows(progress, self.maps, self.reduces, self.shuffle.rate())
        self._live.update(rows, refresh=True)


class LineDisplay(ProgressDisplay):
    """A plain line now and then; when ``quiet``, only why a job waits."""

    def __init__(
        self, stream: TextIO, *, quiet: bool, summary: bool, clock: Callable[[], float],
        announce: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(stream, summary=summary, clock=clock)
        self._quiet, self._announce = quiet, announce

    def _start_job(self) -> None:
        super()._start_job()
        self._printed_at = self.started_at
        self._printed_wait_reason = ""
        self._announced = False

    def _on_error(self) -> None:
        if (
            self._announce
            and self.last_progress
            and self.last_progress.state in {"failed", "cancelled"}
        ):
            self._print(f"redismr: {summary_line(self.last_progress)}")

    def _draw(self, progress: Progress, now: float) -> None:
        if (
            self._announce
            and not self._announced
            and now - self.started_at >= _LINE_INTERVAL_SECONDS
        ):
            self._announced = True
            self._print(f"redismr: job {progress.job_id} is running")
        if progress.waiting and progress.waiting != self._printed_wait_reason:
            self._printed_wait_reason = progress.waiting
            self._print(f"redismr: {progress.job_id} is waiting: {self._printed_wait_reason}")
        if not self._quiet and now - self._printed_at >= _LINE_INTERVAL_SECONDS:
            self._printed_at = now
            self._print(plain_line(progress, self.maps, self.reduces))

    def _print(self, line: str) -> None:
        print(printable_line(line), file=self._stream, flush=True)


def plain_line(progress: Progress, maps: StageEstimate, reduces: StageEstimate) -> str:
    """The rows of a job in one line of text."""
    running = reduces if progress.state == "reducing" else maps
    words = [
        f"redismr: {printable_line(progress.job_id)} {progress.state} {format_clock(progress.elapsed)}",  # noqa: E501
        f"map {_amount_done(progress.maps)}",
        f"reduce {_amount_done(progress.reduces)}",
        f"{format_bytes(progress.shuffle_bytes)} shuffled",
    ]
    if (left := running.seconds_left()) is not None:
        words.append(f"{'reduce' if running is reduces else 'map'} eta {format_clock(left + 0.5)}")
    return "  ".join(words)


def summary_line(progress: Progress, counters: Mapping[str, int] | None = None) -> str:
    """What became of a job, in one line."""
    if progress.state == "succeeded":
        tasks = pluralize(progress.maps_done, "map task")
        words = [
            _input_read(progress.maps) + tasks,
            pluralize(progress.reduces_done, "reduce task"),
        ]
    else:
        words = [
            format_amount(progress.maps_done, progress.maps_total, "map tasks"),
            format_amount(progress.reduces_done, progress.reduces_total, "reduce tasks"),
        ]
    words += [f"{format_bytes(progress.shuffle_bytes)} shuffled", f"{progress.elapsed:.1f} s"]
    if progress.retries:
        words.append(f"{progress.retries:,} retried")
    words += [
        f"{printable_line(name)} {count:,}" for name, count in sorted((counters or {}).items())
    ]
    return f"{printable_line(progress.job_id)} {progress.state}: {', '.join(words)}"


def _input_read(maps: StageProgress) -> str:
    if maps.unit == "tasks":
        return ""
    return (
        f"{pluralize(maps.done, 'item') if maps.unit == 'items' else format_bytes(maps.done)} in "
    )


def _amount_done(work: StageProgress) -> str:
    return format_amount(work.done, work.total, work.unit)


def _start_live(console: Console) -> Live:
    from rich.live import Live

    live = Live(
        console=console,
        auto_refresh=False,
        transient=True,
        # Only what would land on this very terminal may be led around the rows: a result that
        # goes into a pipe must stay there.
        redirect_stdout=NeverFailingStream(sys.stdout).isatty(),
        redirect_stderr=NeverFailingStream(sys.stderr).isatty(),
    )
    live.start()
    return live
