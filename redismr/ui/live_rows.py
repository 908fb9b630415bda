"""The rows of a running job, for a terminal. Imports rich, so it is imported only to draw."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from redismr.core.plurals import pluralize
from redismr.core.printable import printable_line
from redismr.ui.human_units import (
    format_amount,
    format_bytes,
    format_clock,
    format_percent,
    format_rate,
)

if TYPE_CHECKING:
    from redismr.core.status_rows import Progress
    from redismr.core.work_amount import StageProgress
    from redismr.ui.forecast import StageEstimate

_LABEL_WIDTH = 10
_BAR_WIDTHS = (24, 16, 8)
_MIN_SHOWN_BYTES_PER_SECOND = 50_000.0
"""Bytes a second that do not read as 0.0 MB."""


def make_console(stream: TextIO) -> Console:
    """A console on ``stream`` that takes no markup, no emoji codes and no syntax colours."""
    return Console(file=stream, markup=False, emoji=False, highlight=False)


def progress_rows(
    progress: Progress, maps: StageEstimate, reduces: StageEstimate, shuffle_bytes_per_second: float
) -> RenderableType:
    """Four rows, and a fifth when the job waits for something; ``shuffle_bytes_per_second`` is a rate.

    None is longer than the terminal: eta and rate of the stage that runs are the last to go.
    """  # noqa: E501
    reducing = progress.state == "reducing"
    lines: list[RenderableType] = [
        _header(progress),
        _StageRow("  map", progress.maps, None if reducing else maps, progress.maps_running),
        _StageRow(
            "  reduce", progress.reduces, reduces if reducing else None, progress.reduces_running
        ),
        _shuffle_row(progress, 0.0 if reducing else shuffle_bytes_per_second),
    ]
    if progress.waiting:
        lines.append(Text(f"  waiting: {printable_line(progress.waiting)}", style="yellow"))
    return Group(*lines)


class _StageRow:
    """How far one stage is: a bar, how much of how much, and if it runs, what is to be expected."""

    def __init__(
        self, label: str, work: StageProgress, stage: StageEstimate | None, running: int
    ) -> None:
        self._label, self._work = label.ljust(_LABEL_WIDTH), work
        self._notes = _notes(work, stage) if stage else []
        self._running = ("  " + pluralize(running, "task") + " running", "dim") if running else None

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        """The widest form that fits into the terminal."""
        bar, text = next(
            (layout for layout in self._layouts() if _width(*layout) < options.max_width),
            self._layouts()[-1],
        )
        label = Text(self._label, no_wrap=True, overflow="ellipsis")
        if not bar:
            yield label.append_text(text)
            return
        grid = Table.grid()
        grid.add_column(width=_LABEL_WIDTH, no_wrap=True)
        grid.add_column(width=bar + 1, no_wrap=True)
        grid.add_column(no_wrap=True)
        grid.add_row(label, _bar(self._work, bar), text)
        yield grid

    def _layouts(self) -> list[tuple[int, Text]]:
        """(width of the bar, what follows), what shows most first."""
        work, bars = self._work, _BAR_WIDTHS if self._work.total is not None else (0,)
        full_amount = format_amount(work.done, work.total, work.unit)
        short_amount = format_percent(work.done, work.total) if work.total else full_amount
        plain = Text.assemble(full_amount, *self._notes)
        forms = [(bars[0], plain.copy().append(*self._running))] if self._running else []
        forms += [(bar, plain) for bar in bars]
        return [*forms, (0, plain), (0, Text.assemble(short_amount, *self._notes))]


def _width(bar: int, text: Text) -> int:
    return _LABEL_WIDTH + bar + bool(bar) + text.cell_len


def _notes(work: StageProgress, stage: StageEstimate) -> list[tuple[str, str]]:
    notes = []
    if (left := stage.seconds_left()) is not None:
        notes.append((f"  eta {format_clock(left + 0.5)}", "cyan"))
    if per_second := stage.rate():
        notes.append((f"  {format_rate(per_second, work.unit)}", ""))
    if work.tasks is None:
        notes.append(("  reading input", "dim"))
    return notes


def _header(progress: Progress) -> Text:
    head = _clipped_line(printable_line(progress.job_id), "bold")
    head.append(f"  {progress.state} {format_clock(progress.elapsed)}")
    if progress.workers:
        workers, slots = pluralize(progress.workers, "worker"), pluralize(progress.slots, "slot")
        head.append(f"  {workers}, {slots}", style="dim")
    if progress.retries:
        head.append(f"  {progress.retries:,} retried", style="yellow")
    return head


def _shuffle_row(progress: Progress, per_second: float) -> Text:
    line = _clipped_line("  shuffle".ljust(_LABEL_WIDTH) + format_bytes(progress.shuffle_bytes))
    if per_second >= _MIN_SHOWN_BYTES_PER_SECOND:
        line.append(f"  {format_bytes(per_second)}/s", style="dim")
    return line


def _bar(work: StageProgress, width: int) -> RenderableType:
    total = max(work.total or 0, 1)
    return ProgressBar(total=total, completed=work.done, width=width, finished_style="green")


def _clipped_line(text: str, style: str = "") -> Text:
    """A line that is cut where the terminal ends."""
    line = Text(no_wrap=True, overflow="ellipsis")
    return line.append(text, style=style)
