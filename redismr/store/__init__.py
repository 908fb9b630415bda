"""The only room that knows Redis: keys, scripts, and one method per verb."""

from redismr.store.executor_verbs import ExecutorVerbs
from redismr.store.job_index import HEARTBEAT_SECONDS, WakeTarget
from redismr.store.limits import LIMITS
from redismr.store.replies import (
    Commit,
    CommitReply,
    EndAndRecords,
    JobStatus,
    ReclaimReply,
    StageEvents,
)
from redismr.store.reply_values import clear_int
from redismr.store.round_trips import SMALL_JOB_TASKS
from redismr.store.submitter_verbs import SubmitterVerbs

__all__ = [
    "HEARTBEAT_SECONDS",
    "LIMITS",
    "SMALL_JOB_TASKS",
    "Commit",
    "CommitReply",
    "EndAndRecords",
    "JobStatus",
    "ReclaimReply",
    "StageEvents",
    "Store",
    "WakeTarget",
    "clear_int",
]


class Store(SubmitterVerbs, ExecutorVerbs):
    """The task protocol: one method per verb, each one atomic step on the server.

    Every method may be repeated with the same arguments.
    """
