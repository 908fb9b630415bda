"""The only room that knows Redis: keys, scripts, and one method per verb."""

from redismr.store.job_index import HEARTBEAT_SECONDS, WakeTarget
from redismr.store.replies import (
    AddReply,
    Commit,
    CommitReply,
    EndAndRecords,
    JobStatus,
    MapOutputsReply,
    ReclaimReply,
    StageEvents,
)
from redismr.store.reply_values import number
from redismr.store.round_trips import SMALL_JOB_TASKS
from redismr.store.store import Store

__all__ = [
    "HEARTBEAT_SECONDS",
    "SMALL_JOB_TASKS",
    "AddReply",
    "Commit",
    "CommitReply",
    "EndAndRecords",
    "JobStatus",
    "MapOutputsReply",
    "ReclaimReply",
    "StageEvents",
    "Store",
    "WakeTarget",
    "number",
]
