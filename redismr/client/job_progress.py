"""Progress of a job, as people see it, from the clear fields of its status."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from redismr.core.model import ENDED_STATES, RUNNING_STATES
from redismr.core.status_rows import WORK_UNITS, InputAmount, Progress, StageProgress
from redismr.store import clear_int

if TYPE_CHECKING:
    from redismr.client.wait_reasons import IdleExplainer
    from redismr.core.model import JobSpec, Stage
    from redismr.store import JobStatus


def _executor_seconds(status: JobStatus, stage: Stage) -> float:
    """Return how many seconds executors worked on the tasks of a stage that are done."""
    return clear_int(status.meta.get(f"executor_ms_{stage[0]}")) / 1000


def _stage_work(status: JobStatus, stage: Stage) -> StageProgress:
    """Return how much work a stage took, and what executors do in it now."""
    spent = _executor_seconds(status, stage)
    if status.state not in RUNNING_STATES or (stage == "reduce") != (status.state == "reducing"):
        return StageProgress(spent=spent)
    at_work = status.executors_at_work
    done = status.maps_done if stage == "map" else status.reduces_done
    return StageProgress(
        spent=spent, busy=at_work.executors, since=at_work.total_ms / 1000,
        least=at_work.last_ms / 1000,
        tasks_done=done, tasks_begun=done + status.leased,
    )  # fmt: skip


def _map_work(status: JobStatus, done: int, total: int | None) -> StageProgress:
    """Return how much of the input is read; the arguments ``done`` and ``total`` count tasks."""
    meta, work = status.meta, replace(_stage_work(status, "map"), tasks=total)
    input_amount = InputAmount.parse(meta.get("input_added", ""))
    expected = clear_int(meta.get("expected"))
    # The amount is 0 if all files are empty, and unknown if an older submitter made the job.
    if not input_amount.total and not expected:
        return replace(work, done=done, total=total)
    total_units = None
    if total is not None:
        total_units = input_amount.total
    elif expected:
        total_units = max(input_amount.total, expected)
    read = clear_int(meta.get("input_read"))
    if total is not None and done >= total:
        read = input_amount.total
    unit = meta.get("unit", "")
    return replace(
        work, unit=unit if unit in WORK_UNITS else "tasks", total=total_units,
        done=max(0, read if total_units is None else min(read, total_units)),
        heaviest=input_amount.heaviest, index=input_amount.index, ahead=input_amount.ahead,
    )  # fmt: skip


def progress_of(status: JobStatus, spec: JobSpec, idle_explainer: IdleExplainer) -> Progress:
    """Return how far a job is, for people: all of it comes from clear text of the server."""
    meta = status.meta
    n_map = clear_int(meta["n_map"]) if meta.get("n_map") else None
    succeeded = status.state == "succeeded"
    reducing = status.state == "reducing"
    end_ms = clear_int(meta.get("ended_at"), status.now_ms)
    maps_done = (n_map or 0) if succeeded else status.maps_done
    partitions = spec.partitions if n_map != 0 else 0
    reason = "" if status.state in ENDED_STATES else idle_explainer.reason_if_idle(status)
    running = idle_explainer.running_tasks(status)
    return Progress(
        job_id=spec.job_id,
        state=status.state,
        maps_done=maps_done,
        maps_running=0 if reducing else running,
        maps_total=n_map,
        reduces_done=status.reduces_done,
        reduces_running=running if reducing else 0,
        reduces_total=partitions,
        shuffle_bytes=clear_int(meta.get("shuffled")),
        elapsed=(end_ms - clear_int(meta.get("created_at"), end_ms)) / 1000,
        retries=clear_int(meta.get("retried")),
        # A small job is over before the rows of workers are read: then there is no need to.
        workers=0 if succeeded else idle_explainer.workers,
        slots=0 if succeeded else idle_explainer.executors,
        waiting=reason,
        maps=_map_work(status, maps_done, n_map),
        reduces=replace(
            _stage_work(status, "reduce"),
            done=status.reduces_done,
            total=partitions,
            tasks=partitions,
        ),
    )
