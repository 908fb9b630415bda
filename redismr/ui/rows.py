"""The rows of a running job, for a terminal. Imports rich, so it is imported only to draw."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from redismr.core.words import plural
from redismr.ui.clean import clean
from redismr.ui.words import amount, clock, rate, share, size

if TYPE_CHECKING:
    from redismr.core.model import Progress
    from redismr.core.work import Work
    from redismr.ui.progress import Stage

_LABEL = 10
_BARS = (24, 16, 8)
_NOTABLE = 50_000.0
"""Bytes a second that do not read as 0.0 MB."""


def console(stream: TextIO) -> Console:
    """A console on ``stream`` that takes no markup, no emoji codes and no syntax colours."""
    return Console(file=stream, markup=False, emoji=False, highlight=False)


def rows(progress: Progress, maps: Stage, reduces: Stage, shuffled: float) -> RenderableType:
    """Four rows, and a fifth when the job waits for something; ``shuffled``: bytes a second.

    None is longer than the terminal: eta and rate of the stage that runs are the last to go.
    """
    reducing = progress.state == "reducing"
    lines: list[RenderableType] = [
        _head(progress),
        _Row("  map", progress.maps, None if reducing else maps, progress.maps_running),
        _Row("  reduce", progress.reduces, reduces if reducing else None, progress.reduces_running),
        _shuffle(progress, 0.0 if reducing else shuffled),
    ]
    if progress.waiting:
        lines.append(Text(f"  waiting: {clean(progress.waiting)}", style="yellow"))
    return Group(*lines)


class _Row:
    """How far one stage is: a bar, how much of how much, and if it runs, what is to be expected."""

    def __init__(self, label: str, work: Work, stage: Stage | None, running: int) -> None:
        self._label, self._work = label.ljust(_LABEL), work
        self._notes = _notes(work, stage) if stage else []
        self._running = ("  " + plural(running, "task") + " running", "dim") if running else None

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        """The widest form that fits into the terminal."""
        bar, text = next(
            (form for form in self._forms() if _width(*form) < options.max_width),
            self._forms()[-1],
        )
        label = Text(self._label, no_wrap=True, overflow="ellipsis")
        if not bar:
            yield label.append_text(text)
            return
        grid = Table.grid()
        grid.add_column(width=_LABEL, no_wrap=True)
        grid.add_column(width=bar + 1, no_wrap=True)
        grid.add_column(no_wrap=True)
        grid.add_row(label, _bar(self._work, bar), text)
        yield grid

    def _forms(self) -> list[tuple[int, Text]]:
        """(width of the bar, what follows), what shows most first."""
        work, bars = self._work, _BARS if self._work.total is not None else (0,)
        counted = amount(work.done, work.total, work.unit)
        brief = share(work.done, work.total) if work.total else counted
        plain = Text.assemble(counted, *self._notes)
        forms = [(bars[0], plain.copy().append(*self._running))] if self._running else []
        forms += [(bar, plain) for bar in bars]
        return [*forms, (0, plain), (0, Text.assemble(brief, *self._notes))]


def _width(bar: int, text: Text) -> int:
    return _LABEL + bar + bool(bar) + text.cell_len


def _notes(work: Work, stage: Stage) -> list[tuple[str, str]]:
    notes = []
    if (left := stage.left()) is not None:
        notes.append((f"  eta {clock(left + 0.5)}", "cyan"))
    if per_second := stage.rate():
        notes.append((f"  {rate(per_second, work.unit)}", ""))
    if work.tasks is None:
        notes.append(("  reading input", "dim"))
    return notes


def _head(progress: Progress) -> Text:
    head = _line(clean(progress.job_id), "bold")
    head.append(f"  {progress.state} {clock(progress.elapsed)}")
    if progress.workers:
        workers, slots = plural(progress.workers, "worker"), plural(progress.slots, "slot")
        head.append(f"  {workers}, {slots}", style="dim")
    if progress.retries:
        head.append(f"  {progress.retries:,} retried", style="yellow")
    return head


def _shuffle(progress: Progress, per_second: float) -> Text:
    line = _line("  shuffle".ljust(_LABEL) + size(progress.shuffle_bytes))
    if per_second >= _NOTABLE:
        line.append(f"  {size(per_second)}/s", style="dim")
    return line


def _bar(work: Work, width: int) -> RenderableType:
    total = max(work.total or 0, 1)
    return ProgressBar(total=total, completed=work.done, width=width, finished_style="green")


def _line(text: str, style: str = "") -> Text:
    """A line that is cut where the terminal ends."""
    line = Text(no_wrap=True, overflow="ellipsis")
    return line.append(text, style=style)
