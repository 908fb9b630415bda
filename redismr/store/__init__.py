"""The only room that knows Redis: keys, scripts, and one method per verb."""

from __future__ import annotations

from redismr.store.job_index import HEARTBEAT_SECONDS, SMALL_JOB_TASKS, WakeTarget
from redismr.store.replies import (
    AddReply,
    Commit,
    CommitReply,
    EndAndRecords,
    JobStatus,
    ReclaimReply,
    StageEvents,
)
from redismr.store.retrying_client import number
from redismr.store.store import Store

__all__ = [
    "HEARTBEAT_SECONDS",
    "SMALL_JOB_TASKS",
    "AddReply",
    "Commit",
    "CommitReply",
    "EndAndRecords",
    "JobStatus",
    "ReclaimReply",
    "StageEvents",
    "Store",
    "WakeTarget",
    "number",
]
