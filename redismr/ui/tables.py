"""Print listings: a table on a terminal, lines of TAB-separated fields in a pipe, or JSON."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TextIO

from redismr.core.printable import printable_line
from redismr.ui.error_screens import error_line
from redismr.ui.human_units import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from _typeshed import DataclassInstance

_COLUMN_GAP = 2


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a listing."""

    title: str
    value: Callable[[Any], object]  #: of a row; pipes get it as it is
    format: Callable[[Any], str] = str  #: the text of a value for the table on a terminal
    align_right: bool = False
    drop_priority: int = 0
    """0: the text is shown whole. Else text of any length, cut to the width of the terminal; on a
    narrow terminal the column with the highest number is left out first."""


JOB_COLUMNS = (
    Column("JOB", lambda job: job.job_id),
    Column("TXN", lambda job: "" if job.txn == job.job_id else job.txn, drop_priority=3),
    Column("NAME", lambda job: job.name, drop_priority=2),
    Column("STATE", lambda job: job.state),
    Column(
        "MAP TASKS",
        lambda job: f"{job.maps_done}/{'?' if job.maps_total is None else job.maps_total}",
        align_right=True,
    ),
    Column("REDUCE TASKS", lambda job: f"{job.reduces_done}/{job.reduces_total}", align_right=True),
    Column("AGE", lambda job: job.age, format_duration, align_right=True),
    Column("TTL", lambda job: job.ttl, format_duration, align_right=True),
    Column("CAUSE", lambda job: "deleted" if job.deleted else job.cause, drop_priority=1),
)
WORKER_COLUMNS = (
    Column("WORKER", lambda worker: worker.worker_id),
    Column("HOST", lambda worker: worker.host, drop_priority=2),
    Column("PID", lambda worker: worker.pid, align_right=True),
    Column("PYTHON", lambda worker: worker.python),
    Column("KEY", lambda worker: worker.key_id),
    Column(
        "BUSY",
        lambda worker: "lost" if worker.lost else f"{worker.busy}/{worker.executors}",
        align_right=True,
    ),
    Column("TASKS DONE", lambda worker: worker.tasks, align_right=True),
    Column("SEEN", lambda worker: worker.beat_age, format_duration, align_right=True),
    Column("NATIVE", lambda worker: "yes" if worker.native else "no", drop_priority=3),
    Column("PROBLEM", lambda worker: worker.problem, drop_priority=1),
)
FAILURE_COLUMNS = (
    Column("TASK", lambda failure: failure.task),
    Column("ATTEMPT", lambda failure: failure.attempt),
    Column("KIND", lambda failure: failure.kind),
    Column("FUNCTION", lambda failure: failure.function, drop_priority=3),
    Column("ERROR", error_line, drop_priority=1),
    Column("WHERE", lambda failure: failure.where, drop_priority=2),
)


def print_rows(
    rows: Iterable[DataclassInstance],
    columns: Sequence[Column],
    stream: TextIO,
    *,
    as_json: bool = False,
    titles: bool = True,
) -> None:
    """Print the rows in the form that suits ``stream``; JSON has every field of a row.

    In a pipe, a line of ``titles`` comes first, also without rows: a script can always skip it.
    """
    if as_json:
        print_json_rows(rows, stream)
    elif stream.isatty():
        _print_table(list(rows), columns, stream)
    else:
        if titles:
            stream.write("\t".join(column.title for column in columns) + "\n")
        stream.writelines(
            "\t".join(printable_line(column.value(row)) for column in columns) + "\n"
            for row in rows
        )


def print_json_rows(rows: Iterable[DataclassInstance], stream: TextIO) -> None:
    """Print one JSON object a line, and flush each line as soon as its row is known."""
    for row in rows:
        stream.write(json.dumps(dataclasses.asdict(row)) + "\n")
        stream.flush()


def _print_table(rows: list[Any], columns: Sequence[Column], stream: TextIO) -> None:
    from rich.table import Table
    from rich.text import Text

    from redismr.ui.live_rows import make_console

    terminal = make_console(stream)
    table = Table(box=None, pad_edge=False, padding=(0, _COLUMN_GAP, 0, 0), header_style="bold")
    # A column without any text only takes room from the others.
    visible_columns = [column for column in columns if any(column.value(row) != "" for row in rows)]
    visible_columns = _columns_that_fit(visible_columns, rows, terminal.width)
    for column in visible_columns:
        # A column that may be cut has no no_wrap, or rich would narrow all columns alike.
        justify: Literal["right", "left"] = "right" if column.align_right else "left"
        table.add_column(
            column.title, justify=justify, no_wrap=not column.drop_priority, min_width=1
        )
    for row in rows:
        texts = (printable_line(column.format(column.value(row))) for column in visible_columns)
        table.add_row(*(Text(text, no_wrap=True, overflow="ellipsis") for text in texts))
    if rows:
        terminal.print(table)


def _columns_that_fit(columns: list[Column], rows: list[Any], width: int) -> list[Column]:
    """Return, in order, the columns that fit; one with a ``drop_priority`` needs only its title."""
    from rich.cells import cell_len

    width_left, fitting = width + _COLUMN_GAP, list[Column]()
    for column in sorted(columns, key=lambda column: column.drop_priority):
        shown_rows = [] if column.drop_priority else rows
        texts = [printable_line(column.format(column.value(row))) for row in shown_rows]
        width_left -= max(map(cell_len, [column.title, *texts])) + _COLUMN_GAP
        if fitting and width_left < 0:
            break
        fitting.append(column)
    return [column for column in columns if column in fitting]
