"""What became of a job that has no result, in words and as the error to raise."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from redismr.core.model import Failure
from redismr.core.trace import error_of
from redismr.core.words import plural
from redismr.errors import (
    JobCancelled,
    JobError,
    JobFailed,
    JobLost,
    JobNotFound,
    KeysAltered,
    SealError,
    StoreUnavailable,
    SubmitterLost,
)
from redismr.store import number

if TYPE_CHECKING:
    from redismr.core.vault import Vault
    from redismr.store import Look, Store

_NO_CAUSE = "Redis gives no cause; something without the secret may have set its state"


def failures(vault: Vault, dead: Mapping[str, bytes]) -> dict[str, Failure]:
    """The last sealed failure of each task, in task order; what is not sealed is left out."""
    found: dict[str, Failure] = {}
    # What a task died of comes after, and so in place of, what it was tried again for.
    for place, blob in sorted(dead.items(), key=lambda item: not item[0].startswith("last:")):
        task = place.removeprefix("last:")
        with contextlib.suppress(SealError, ValueError):
            found[task] = vault.open_failure(task, blob)
    return {task: found[task] for task in sorted(found, key=_task_order)}


def error_of_end(vault: Vault, look: Look, dead: Mapping[str, bytes]) -> JobError:
    """Why the job ended without a result; of several dead tasks the first one's failure."""
    job = vault.job
    if look.state == "cancelled":
        return JobCancelled(f"job {job} was cancelled", job_id=job)
    known = failures(vault, dead)
    for task in sorted((t for t in dead if not t.startswith("last:")), key=_task_order):
        if task in known and task == "job":
            return JobFailed(f"job {job} failed: {known[task].message}", job_id=job)
        if task in known:
            return error_of(known[task], job, None)
    cause = look.meta.get("cause", "")
    if cause == "SubmitterLost":
        added = plural(number(look.meta.get("added")), "map task")
        return SubmitterLost(
            f"job {job} failed: its submitter fell silent after {added}, before its "
            "input was complete",
            job_id=job,
        )
    told = json.dumps(cause)[1:-1][:200]  # clear text of the server: no control characters
    return JobFailed(f"job {job} failed: {told or _NO_CAUSE}", job_id=job)


def ended_as_altered(store: Store, vault: Vault, what: str) -> JobFailed:
    """End a running job whose clear fields do not fit its sealed spec; returns the error."""
    message = f"{what}: something without the secret writes to its keys"
    failure = Failure(
        kind="error", stage="map", task="", function="", error_module="redismr.errors",
        error_name="KeysAltered", message=message, retryable=False,
    )  # fmt: skip
    with contextlib.suppress(KeysAltered):
        store.fail_job(vault.job, "altered in Redis", vault.seal_failure(failure, "job"))
    return JobFailed(f"job {vault.job} failed: {message}", job_id=vault.job)


def lost_sight(away: StoreUnavailable, job_id: str, *, handed_in: bool = True) -> StoreUnavailable:
    """The error for a server that is away too long while a job is waited for: how to come back."""
    doing = "may still be running" if handed_in else "may not have been handed in whole"
    error = StoreUnavailable(
        f"{away}\n  job {job_id} {doing}. When Redis is back: redismr result {job_id} --wait"
    )
    error.job_id = job_id
    return error


def kept(job_id: str, *, ours: bool) -> str:
    """How to get at a result that finishfn failed on; ``ours``: on a server of this process."""
    if ours:
        how = f"as long as this process lives: Client().attach({job_id!r}).result(finish=False)"
        return f"the result of job {job_id} is kept {how}"
    return f"the result of job {job_id} is kept for its ttl: redismr result {job_id} --no-finishfn"


def vanished(job_id: str) -> JobLost:
    """The error for a job that was there and is not any more."""
    return JobLost(
        f"job {job_id} vanished from Redis: it was deleted, its ttl is over, or the server lost "
        "its data",
        job_id=job_id,
    )


def not_found(job_id: str) -> JobNotFound:
    """The error for an id that Redis does not know, in words that tell why that may be."""
    born = birth(job_id)
    if born is None:
        return JobNotFound(f"there is no job {job_id!r}: `redismr jobs` lists them", job_id=job_id)
    hours = max(0.0, time.time() - born) / 3600
    return JobNotFound(
        f"job {job_id} is not in Redis any more (it was submitted {hours:.1f} h ago): its ttl is "
        "over, it was deleted, or this is not the server or namespace it was submitted to",
        job_id=job_id,
    )


def birth(job_id: str) -> float | None:
    """When a job id was made, from the id itself; None if it is not an id of ours."""
    head, _, tail = job_id.partition("-")
    try:
        return float(int(head, 36)) if len(head) == 6 and len(tail) == 16 else None
    except ValueError:
        return None


def _task_order(task: str) -> tuple[str, int]:
    return (task[:1], int(task[1:])) if re.fullmatch("[mr][0-9]{1,9}", task) else ("", 0)
