"""Listings: a table on a terminal, TAB-separated lines below their titles in a pipe, or JSON."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TextIO

from redismr.ui.clean import clean
from redismr.ui.errors import error_line
from redismr.ui.words import span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from _typeshed import DataclassInstance


_GAP = 2


@dataclass(frozen=True, slots=True)
class Column:
    """A title, the value in a row, and how a person likes to read it (default: as it is).

    ``wide``: text of any length, which is cut where the terminal ends: 1 is the last that is left
    out of a narrow one. 0: it is shown whole.
    """

    title: str
    value: Callable[[Any], object]
    human: Callable[[Any], str] = str
    right: bool = False
    wide: int = 0


JOBS = (
    Column("JOB", lambda job: job.job_id),
    Column("TXN", lambda job: "" if job.txn == job.job_id else job.txn, wide=3),
    Column("NAME", lambda job: job.name, wide=2),
    Column("STATE", lambda job: job.state),
    Column("MAP TASKS", lambda job: f"{job.maps_done}/{_known(job.maps_total)}", right=True),
    Column("REDUCE TASKS", lambda job: f"{job.reduces_done}/{job.reduces_total}", right=True),
    Column("AGE", lambda job: job.age, span, right=True),
    Column("TTL", lambda job: job.ttl, span, right=True),
    Column("CAUSE", lambda job: "deleted" if job.deleted else job.cause, wide=1),
)
WORKERS = (
    Column("WORKER", lambda worker: worker.worker_id),
    Column("HOST", lambda worker: worker.host, wide=2),
    Column("PID", lambda worker: worker.pid, right=True),
    Column("PYTHON", lambda worker: worker.python),
    Column("KEY", lambda worker: worker.key_id),
    Column(
        "BUSY",
        lambda worker: "lost" if worker.lost else f"{worker.busy}/{worker.executors}",
        right=True,
    ),
    Column("TASKS DONE", lambda worker: worker.tasks, right=True),
    Column("SEEN", lambda worker: worker.beat_age, span, right=True),
    Column("PROBLEM", lambda worker: worker.problem, wide=1),
)
FAILURES = (
    Column("TASK", lambda failure: failure.task),
    Column("ATTEMPT", lambda failure: failure.attempt),
    Column("KIND", lambda failure: failure.kind),
    Column("FUNCTION", lambda failure: failure.function, wide=3),
    Column("ERROR", error_line, wide=1),
    Column("WHERE", lambda failure: failure.where, wide=2),
)


def show(
    rows: Iterable[DataclassInstance],
    columns: Sequence[Column],
    stream: TextIO,
    *,
    as_json: bool = False,
    titles: bool = True,
) -> None:
    """Print the rows in the form that suits ``stream``; JSON has every field of them.

    Lines in a pipe come below one of ``titles``, also if there are none: so a script may always
    leave out the first.
    """
    if as_json:
        show_json(rows, stream)
    elif stream.isatty():
        _show_table(list(rows), columns, stream)
    else:
        if titles:
            stream.write("\t".join(column.title for column in columns) + "\n")
        stream.writelines(
            "\t".join(clean(column.value(row)) for column in columns) + "\n" for row in rows
        )


def show_json(rows: Iterable[DataclassInstance], stream: TextIO) -> None:
    """One JSON object a line, readable as soon as its row is known."""
    for row in rows:
        stream.write(json.dumps(dataclasses.asdict(row)) + "\n")
        stream.flush()


def _show_table(rows: list[Any], columns: Sequence[Column], stream: TextIO) -> None:
    from rich.table import Table
    from rich.text import Text

    from redismr.ui.rows import console

    terminal = console(stream)
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    # A column that is empty all the way down only takes room from the others.
    shown = [column for column in columns if any(column.value(row) != "" for row in rows)]
    shown = _fitting(shown, rows, terminal.width)
    for column in shown:
        # What may be narrower is not told to be in one line, or rich would narrow all alike.
        justify: Literal["right", "left"] = "right" if column.right else "left"
        table.add_column(column.title, justify=justify, no_wrap=not column.wide, min_width=1)
    for row in rows:
        texts = (clean(column.human(column.value(row))) for column in shown)
        table.add_row(*(Text(text, no_wrap=True, overflow="ellipsis") for text in texts))
    if rows:
        terminal.print(table)


def _fitting(columns: list[Column], rows: list[Any], width: int) -> list[Column]:
    """As many columns as fit, in their order; wide ones are content with the room of a title."""
    from rich.cells import cell_len

    left, fitting = width + _GAP, list[Column]()
    for column in sorted(columns, key=lambda column: column.wide):
        texts = [] if column.wide else [clean(column.human(column.value(row))) for row in rows]
        left -= max(map(cell_len, [column.title, *texts])) + _GAP
        if fitting and left < 0:
            break
        fitting.append(column)
    return [column for column in columns if column in fitting]


def _known(count: int | None) -> str:
    return "?" if count is None else str(count)
