"""Listings: a table on a terminal, TAB-separated lines in a pipe, or a JSON object a line."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from redismr.ui.clean import clean
from redismr.ui.errors import error_line
from redismr.ui.words import span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from _typeshed import DataclassInstance


@dataclass(frozen=True, slots=True)
class Column:
    """A title, the value in a row, and how a person likes to read it (default: as it is)."""

    title: str
    value: Callable[[Any], object]
    human: Callable[[Any], str] = str
    right: bool = False


JOBS = (
    Column("JOB", lambda job: job.job_id),
    Column("TXN", lambda job: "" if job.txn == job.job_id else job.txn),
    Column("NAME", lambda job: job.name),
    Column("STATE", lambda job: job.state),
    Column("MAPS", lambda job: f"{job.maps_done}/{_known(job.maps_total)}", right=True),
    Column("REDUCES", lambda job: f"{job.reduces_done}/{job.reduces_total}", right=True),
    Column("AGE", lambda job: job.age, span, right=True),
    Column("TTL", lambda job: job.ttl, span, right=True),
    Column("CAUSE", lambda job: "its data is deleted" if job.deleted else job.cause),
)
WORKERS = (
    Column("WORKER", lambda worker: worker.worker_id),
    Column("HOST", lambda worker: worker.host),
    Column("PID", lambda worker: worker.pid, right=True),
    Column("PYTHON", lambda worker: worker.python),
    Column("KEY", lambda worker: worker.key_id),
    Column(
        "BUSY",
        lambda worker: "lost" if worker.lost else f"{worker.busy}/{worker.executors}",
        right=True,
    ),
    Column("TASKS", lambda worker: worker.tasks, right=True),
    Column("SEEN", lambda worker: worker.beat_age, span, right=True),
    Column("PROBLEM", lambda worker: worker.problem),
)
FAILURES = (
    Column("TASK", lambda failure: failure.task),
    Column("ATTEMPT", lambda failure: failure.attempt),
    Column("KIND", lambda failure: failure.kind),
    Column("FUNCTION", lambda failure: failure.function),
    Column("ERROR", error_line),
    Column("WHERE", lambda failure: failure.where),
)


def show(
    rows: Iterable[DataclassInstance],
    columns: Sequence[Column],
    stream: TextIO,
    *,
    as_json: bool = False,
) -> None:
    """Print the rows in the form that suits ``stream``; JSON has every field of them."""
    if as_json:
        show_json(rows, stream)
    elif stream.isatty():
        _show_table(list(rows), columns, stream)
    else:
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

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    # A column that is empty all the way down only takes room from the others.
    shown = [column for column in columns if any(column.value(row) != "" for row in rows)]
    for column in shown:
        table.add_column(column.title, justify="right" if column.right else "left")
    for row in rows:
        table.add_row(*(Text(clean(column.human(column.value(row)))) for column in shown))
    if rows:
        console(stream).print(table)


def _known(count: int | None) -> str:
    return "?" if count is None else str(count)
