"""The rows of a running job, for a terminal. Imports rich, so it is imported only to draw."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from redismr.ui.clean import clean
from redismr.ui.words import clock, per_second, plural, size

if TYPE_CHECKING:
    from redismr.core.model import Progress
    from redismr.ui.pace import Pace

_LABEL = 11
_BAR = 24
_COUNT = 15
_NOTABLE = 50_000.0
"""Bytes a second that do not read as 0.0 MB."""


def console(stream: TextIO) -> Console:
    """A console on ``stream`` that takes no markup, no emoji codes and no syntax colours."""
    return Console(file=stream, markup=False, emoji=False, highlight=False)


def rows(progress: Progress, maps: Pace, reduces: Pace, shuffle: Pace) -> RenderableType:
    """Four rows, and a fifth when the job waits for something."""
    reducing = progress.state == "reducing"
    grid = Table.grid(expand=True)
    # Of a narrow terminal the notes are lost first.
    grid.add_column(width=_LABEL, no_wrap=True)
    grid.add_column(width=_BAR, no_wrap=True)
    grid.add_column(width=_COUNT, no_wrap=True, justify="right")
    grid.add_column(ratio=1)
    grid.add_row(
        "  map",
        _bar(progress.maps_done, progress.maps_total),
        _count(progress.maps_done, progress.maps_total),
        Text("") if reducing else _map_notes(progress, maps),
    )
    grid.add_row(
        "  reduce",
        _bar(progress.reduces_done, progress.reduces_total),
        _count(progress.reduces_done, progress.reduces_total),
        _reduce_notes(progress, reduces) if reducing else Text(""),
    )
    lines: list[RenderableType] = [_head(progress), grid, _shuffle(progress, shuffle)]
    if progress.waiting:
        lines.append(Text(f"  waiting: {clean(progress.waiting)}", style="yellow"))
    return Group(*lines)


def _head(progress: Progress) -> Text:
    head = _line(clean(progress.job_id), "bold")
    head.append(f"  {progress.state} {clock(progress.elapsed)}")
    if progress.workers:
        workers, slots = plural(progress.workers, "worker"), plural(progress.slots, "slot")
        head.append(f"  {workers}, {slots}", style="dim")
    if progress.retries:
        head.append(f"  {progress.retries:,} retried", style="yellow")
    return head


def _shuffle(progress: Progress, pace: Pace) -> Text:
    line = _line("  shuffle".ljust(_LABEL) + size(progress.shuffle_bytes))
    rate = pace.rate()
    if rate >= _NOTABLE and progress.state != "reducing":
        line.append(f"  {size(rate)}/s", style="dim")
    return line


def _map_notes(progress: Progress, pace: Pace) -> Text:
    if progress.maps_total is None:
        return _notes(progress.maps_running, None, pace).append("  reading input", style="dim")
    return _notes(progress.maps_running, progress.maps_total - progress.maps_done, pace)


def _reduce_notes(progress: Progress, pace: Pace) -> Text:
    left = None
    if progress.reduces_total is not None:
        left = progress.reduces_total - progress.reduces_done
    return _notes(progress.reduces_running, left, pace)


def _notes(running: int, remaining: int | None, pace: Pace) -> Text:
    notes = _line("")
    left = None if remaining is None else pace.left(remaining)
    if left is not None:
        notes.append(f"  eta {clock(left)}", style="cyan")
    if rate := pace.rate():
        notes.append(f"  {per_second(rate)}")
    if running:
        notes.append(f"  {running:,} running", style="dim")
    return notes


def _bar(done: int, total: int | None) -> RenderableType:
    if total is None:
        return ""
    return ProgressBar(total=max(total, 1), completed=done, finished_style="green")


def _count(done: int, total: int | None) -> str:
    return f"{done:,}/{'?' if total is None else format(total, ',')}"


def _line(text: str, style: str = "") -> Text:
    """A line that is cut where the terminal ends."""
    line = Text(no_wrap=True, overflow="ellipsis")
    return line.append(text, style=style)
