"""Draw the rows of a running job on a terminal; imported only to draw, as it imports rich."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from redismr.core.plurals import pluralize
from redismr.core.printable import printable_line
from redismr.standard_streams import NeverFailingStream
from redismr.ui.human_units import format_amount, format_bytes, format_clock, format_rate

if TYPE_CHECKING:
    from rich.live import Live

    from redismr.core.status_rows import Progress, StageProgress
    from redismr.ui.forecast import StageEstimate

_LABEL_WIDTH = 10
_BAR_WIDTHS = (24, 16, 8)
_MIN_SHOWN_BYTES_PER_SECOND = 50_000.0  # of the shuffle: a slower rate reads as 0.0 MB


def make_console(stream: TextIO) -> Console:
    """Return a console on ``stream`` without markup, emoji codes and syntax colours."""
    return Console(file=stream, markup=False, emoji=False, highlight=False)


def start_live(stream: TextIO) -> Live:
    """Return a started display on the terminal ``stream``, whose rows are cleared at its end."""
    from rich.live import Live  # some ms that a table can do without

    live = Live(
        console=make_console(stream),
        auto_refresh=False,
        transient=True,
        # Output to this terminal is led around the rows; a result for a pipe must stay in the pipe.
        redirect_stdout=NeverFailingStream(sys.stdout).isatty(),
        redirect_stderr=NeverFailingStream(sys.stderr).isatty(),
    )
    live.start()
    return live


def progress_rows(
    progress: Progress, maps: StageEstimate, reduces: StageEstimate, shuffle_bytes_per_second: float
) -> RenderableType:
    """Return four rows, and a fifth while the job waits for something.

    No row is longer than the terminal. On a narrow one, the last things left out are the time left
    and the rate of the running stage.
    """
    reducing = progress.state == "reducing"
    rows: list[RenderableType] = [
        _header(progress),
        _StageRow("  map", progress.maps, None if reducing else maps, progress.maps_running),
        _StageRow(
            "  reduce", progress.reduces, reduces if reducing else None, progress.reduces_running
        ),
        _shuffle_row(progress, 0.0 if reducing else shuffle_bytes_per_second),
    ]
    if progress.waiting:
        rows.append(Text(f"  waiting: {printable_line(progress.waiting)}", style="yellow"))
    return Group(*rows)


class _StageRow:
    """The row of one stage: a bar, the amount done and, while the stage runs, its estimate."""

    def __init__(
        self, label: str, work: StageProgress, estimate: StageEstimate | None, running: int
    ) -> None:
        self._label, self._work = label.ljust(_LABEL_WIDTH), work
        self._notes = _notes(work, estimate) if estimate else []
        self._running = ("  " + pluralize(running, "task") + " running", "dim") if running else None

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the widest layout that fits into the terminal."""
        for bar_width, text in self._layouts():
            if _LABEL_WIDTH + bar_width + bool(bar_width) + text.cell_len < options.max_width:
                break
        label = Text(self._label, no_wrap=True, overflow="ellipsis")
        if not bar_width:
            yield label.append_text(text)
            return
        grid = Table.grid()
        grid.add_column(width=_LABEL_WIDTH, no_wrap=True)
        grid.add_column(width=bar_width + 1, no_wrap=True)
        grid.add_column(no_wrap=True)
        total, done = max(self._work.total or 0, 1), self._work.done
        bar = ProgressBar(total=total, completed=done, width=bar_width, finished_style="green")
        grid.add_row(label, bar, text)
        yield grid

    def _layouts(self) -> list[tuple[int, Text]]:
        """Return pairs of bar width and the text after the bar, the widest pair first."""
        work, bar_widths = self._work, _BAR_WIDTHS if self._work.total is not None else (0,)
        full_amount = format_amount(work.done, work.total, work.unit)
        # Rounded down: 100% means that all is done.
        short_amount = f"{100 * work.done // work.total}%" if work.total else full_amount
        text = Text.assemble(full_amount, *self._notes)
        layouts = [(bar_widths[0], text.copy().append(*self._running))] if self._running else []
        layouts += [(bar_width, text) for bar_width in bar_widths]
        return [*layouts, (0, text), (0, Text.assemble(short_amount, *self._notes))]


def _notes(work: StageProgress, estimate: StageEstimate) -> list[tuple[str, str]]:
    """Return (text, style) of the time left, the rate, and whether input is still being read."""
    notes = []
    if (left := estimate.seconds_left()) is not None:
        notes.append((f"  eta {format_clock(left + 0.5)}", "cyan"))
    if per_second := estimate.rate():
        notes.append((f"  {format_rate(per_second, work.unit)}", ""))
    if work.tasks is None:
        notes.append(("  reading input", "dim"))
    return notes


def _header(progress: Progress) -> Text:
    row = Text(no_wrap=True, overflow="ellipsis")  # cut at the edge of the terminal
    row.append(printable_line(progress.job_id), style="bold")
    row.append(f"  {progress.state} {format_clock(progress.elapsed)}")
    if progress.workers:
        workers, slots = pluralize(progress.workers, "worker"), pluralize(progress.slots, "slot")
        row.append(f"  {workers}, {slots}", style="dim")
    if progress.retries:
        row.append(f"  {progress.retries:,} retried", style="yellow")
    return row


def _shuffle_row(progress: Progress, per_second: float) -> Text:
    text = "  shuffle".ljust(_LABEL_WIDTH) + format_bytes(progress.shuffle_bytes)
    row = Text(text, no_wrap=True, overflow="ellipsis")
    if per_second >= _MIN_SHOWN_BYTES_PER_SECOND:
        row.append(f"  {format_bytes(per_second)}/s", style="dim")
    return row
