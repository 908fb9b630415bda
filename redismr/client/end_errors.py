"""Errors to raise for jobs without a result: failed, cancelled, lost, or out of reach."""

import contextlib
import json
import re
import time
from collections.abc import Mapping

from redismr import errors
from redismr.core.job_payloads import JobSealer
from redismr.core.model import Failure
from redismr.core.plurals import pluralize
from redismr.core.task_errors import make_task_error
from redismr.store import JobStatus, Store, clear_int

_NO_CAUSE = "Redis gives no cause; something without the secret may have set its state"


def failures_by_task(sealer: JobSealer, dead: Mapping[str, bytes]) -> dict[str, Failure]:
    """Return the last failure of each task, in task order, without those that are not sealed."""
    found: dict[str, Failure] = {}
    # The failure that ended a task replaces the one after which the task was tried again ("last:").
    for key, blob in sorted(dead.items(), key=lambda item: not item[0].startswith("last:")):
        task = key.removeprefix("last:")
        with contextlib.suppress(errors.SealError, ValueError):
            found[task] = sealer.open_failure(task, blob)
    return {task: found[task] for task in sorted(found, key=_task_order)}


def end_error(sealer: JobSealer, status: JobStatus, dead: Mapping[str, bytes]) -> errors.JobError:
    """Return the error that says why a job has no result: its first failure, in task order."""
    job = sealer.job
    if status.state == "cancelled":
        return errors.JobCancelled(f"job {job} was cancelled", job_id=job)
    failures = failures_by_task(sealer, dead)
    for task in sorted((t for t in dead if not t.startswith("last:")), key=_task_order):
        if task in failures and task == "job":
            return errors.JobFailed(f"job {job} failed: {failures[task].message}", job_id=job)
        if task in failures:
            return make_task_error(failures[task], job, None)
    cause = status.meta.get("cause", "")
    if cause == "SubmitterLost":
        added = pluralize(clear_int(status.meta.get("maps_added")), "map task")
        return errors.SubmitterLost(
            f"job {job} failed: its submitter fell silent after {added}, before its "
            "input was complete",
            job_id=job,
        )
    # The cause is clear text of the server: json.dumps leaves no control characters in it.
    shown_cause = json.dumps(cause)[1:-1][:200]
    return errors.JobFailed(f"job {job} failed: {shown_cause or _NO_CAUSE}", job_id=job)


def fail_as_altered(store: Store, sealer: JobSealer, alteration: str) -> errors.JobFailed:
    """Fail a running job whose clear fields differ from its sealed spec; return the error."""
    message = f"{alteration}: something without the secret writes to its keys"
    failure = Failure(
        kind="error", stage="map", task="", function="", error_module="redismr.errors",
        error_name="KeysAltered", message=message, retryable=False,
    )  # fmt: skip
    with contextlib.suppress(errors.KeysAltered):
        store.fail_job(sealer.job, "altered in Redis", sealer.seal_failure(failure, "job"))
    return errors.JobFailed(f"job {sealer.job} failed: {message}", job_id=sealer.job)


def kept_result_note(job_id: str, *, own_server: bool) -> str:
    """Return a note that says how to read a result on which finishfn failed."""
    how = f"for its ttl: redismr result {job_id} --no-finishfn"
    if own_server:
        how = f"as long as this process lives: Client().attach({job_id!r}).result(finish=False)"
    return f"the result of job {job_id} is kept {how}"


def job_vanished_error(job_id: str) -> errors.JobLost:
    """Return the error for a job that was in Redis and is there no more."""
    return errors.JobLost(
        f"job {job_id} vanished from Redis: it was deleted, its ttl is over, or the server lost "
        "its data",
        job_id=job_id,
    )


def job_not_found_error(job_id: str) -> errors.JobNotFound:
    """Return the error for an id that Redis does not know, with the likely reason."""
    id_parts = re.fullmatch("([0-9a-z]{6})-[0-9a-f]{16}", job_id)  # ``new_job_id`` makes them
    if id_parts is None:
        return errors.JobNotFound(
            f"there is no job {job_id!r}: `redismr jobs` lists them", job_id=job_id
        )
    hours = max(0.0, time.time() - int(id_parts[1], 36)) / 3600
    return errors.JobNotFound(
        f"job {job_id} is not in Redis any more (it was submitted {hours:.1f} h ago): its ttl is "
        "over, it was deleted, or this is not the server or namespace it was submitted to",
        job_id=job_id,
    )


def _task_order(task: str) -> tuple[str, int]:
    return (task[:1], int(task[1:])) if re.fullmatch("[mr][0-9]{1,9}", task) else ("", 0)
