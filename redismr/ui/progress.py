"""Show a running job: ``progress_display()`` returns the callable that ``run(progress=...)`` takes.

On a terminal, the rows of ``live_rows`` are redrawn in place, and one summary line stays. In a
notebook, and where the caller asks for lines, a plain line is printed every few seconds. A pipe
gets nothing, except the reason why a job waits.
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
from redismr.ui.forecast import RateMeter, StageEstimate
from redismr.ui.human_units import format_amount, format_bytes, format_clock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rich.live import Live

    from redismr.core.status_rows import Progress, StageProgress

_DRAW_AFTER_SECONDS = 0.4  # so a short job neither flickers nor imports rich
_LINE_INTERVAL_SECONDS = 5.0  # between two plain lines, and before the first


def progress_display(
    stream: TextIO | None = None,
    *,
    always: bool = False,
    announce: bool = False,
    summary: bool = True,
    clock: Callable[[], float] = time.monotonic,
) -> ProgressDisplay:
    """Return the display that suits ``stream`` (default: stderr).

    With ``always``, a pipe gets plain lines too. With ``announce``, a pipe is told once that a job
    of some seconds is running, and gets the summary of a job that ends with an error: the caller
    prints the summary of a job that succeeds.
    """
    # The job goes on even if the terminal is lost.
    stream = cast("TextIO", NeverFailingStream(sys.stderr if stream is None else stream))
    if stream.isatty() and os.environ.get("TERM") != "dumb":
        return LiveDisplay(stream, summary=summary, clock=clock)
    # The stream of a notebook is no terminal, but somebody reads it.
    quiet = not (always or stream.isatty() or "ipykernel" in sys.modules)
    return LineDisplay(
        stream, quiet=quiet, summary=summary and not quiet, clock=clock, announce=announce
    )


class ProgressDisplay:
    """A display to be called with each ``Progress``; the display closes when the job has ended.

    ``close()`` may be called at any time, any number of times. As a context manager, the display
    closes on the way out, also after Ctrl-C.
    """

    last_progress: Progress | None = None

    def __init__(self, stream: TextIO, *, summary: bool, clock: Callable[[], float]) -> None:
        self._stream, self._summary, self._clock = stream, summary, clock
        self._is_drawing = False

    def __call__(self, progress: Progress) -> None:
        """Draw the progress, or print the summary if the job has ended."""
        last = self.last_progress
        if last and last.job_id != progress.job_id:
            last = None
        # Case 1: the summary of this job is printed. Only the skipped records, read last, are new.
        if last and last.state in ENDED_STATES:
            self.last_progress = progress
            if self._summary and progress.skipped:
                print_message(skipped_lines(progress.skipped), self._stream)
            return
        # Case 2: the first progress of a job starts new meters; then all is as for later ones.
        if not (last and self._is_drawing):
            self.close()
            self._start_job()
        self._is_drawing, self.last_progress = True, progress
        now = self._clock()
        if progress.waiting:
            self._start_meters()  # time without workers says nothing about the work
        self.maps.update(now, progress.maps)
        self.shuffle.update(now, progress.shuffle_bytes)
        if progress.state == "reducing":
            self.reduces.update(now, progress.reduces)
        # Case 3: the job has just ended. Otherwise it runs, and its rows are drawn.
        if progress.state in ENDED_STATES:
            self.close()
            if self._summary:
                print(summary_line(progress), file=self._stream)
        else:
            self._draw(progress, now)

    def close(self) -> None:
        """Clear the drawing from the screen."""
        self._is_drawing = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self.close()

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
        """Clear the rows and show the cursor again."""
        super().close()
        if self._live is not None:
            self._stop_live()
            self._live = None

    def _draw(self, progress: Progress, now: float) -> None:
        if self._live is None and now - self.started_at < _DRAW_AFTER_SECONDS:
            return
        from redismr.ui import live_rows

        if self._live is None:
            self._live = live_rows.start_live(self._stream)
            self._stop_live = only_in_this_process(self._live.stop)
            # A caller who forgets to close the display must not lose the cursor of the terminal.
            weakref.finalize(self, self._stop_live)
        rows = live_rows.progress_rows(progress, self.maps, self.reduces, self.shuffle.rate())
        self._live.update(rows, refresh=True)


class LineDisplay(ProgressDisplay):
    """A plain line every few seconds; if ``quiet``, only the reason why a job waits."""

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

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        super().__exit__(kind, error, traceback)
        last = self.last_progress
        if error and self._announce and last and last.state in {"failed", "cancelled"}:
            self._print(f"redismr: {summary_line(last)}")

    def _draw(self, progress: Progress, now: float) -> None:
        seconds = now - self.started_at
        if self._announce and not self._announced and seconds >= _LINE_INTERVAL_SECONDS:
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
    """Return the progress of a job as one line of text."""
    running = reduces if progress.state == "reducing" else maps
    job_id, elapsed = printable_line(progress.job_id), format_clock(progress.elapsed)
    parts = [
        f"redismr: {job_id} {progress.state} {elapsed}",
        f"map {_amount_done(progress.maps)}",
        f"reduce {_amount_done(progress.reduces)}",
        f"{format_bytes(progress.shuffle_bytes)} shuffled",
    ]
    if (left := running.seconds_left()) is not None:
        parts.append(f"{'reduce' if running is reduces else 'map'} eta {format_clock(left + 0.5)}")
    return "  ".join(parts)


def summary_line(progress: Progress, counters: Mapping[str, int] | None = None) -> str:
    """Return one line about a job that has ended: state, tasks, sizes, time and counters."""
    if progress.state == "succeeded":
        maps_done = pluralize(progress.maps_done, "map task")
        reduces_done = pluralize(progress.reduces_done, "reduce task")
        parts = [_input_read(progress.maps) + maps_done, reduces_done]
    else:
        parts = [
            format_amount(progress.maps_done, progress.maps_total, "map tasks"),
            format_amount(progress.reduces_done, progress.reduces_total, "reduce tasks"),
        ]
    parts += [f"{format_bytes(progress.shuffle_bytes)} shuffled", f"{progress.elapsed:.1f} s"]
    if progress.retries:
        parts.append(f"{progress.retries:,} retried")
    counts = sorted((counters or {}).items())
    parts += [f"{printable_line(name)} {count:,}" for name, count in counts]
    return f"{printable_line(progress.job_id)} {progress.state}: {', '.join(parts)}"


def _input_read(maps: StageProgress) -> str:
    """Return "200 items in " or "4.1 MB in "; nothing if the input is only counted in tasks."""
    if maps.unit == "tasks":
        return ""
    amount = pluralize(maps.done, "item") if maps.unit == "items" else format_bytes(maps.done)
    return f"{amount} in "


def _amount_done(work: StageProgress) -> str:
    return format_amount(work.done, work.total, work.unit)
