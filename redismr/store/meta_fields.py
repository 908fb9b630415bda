"""The fields of a job's ``meta`` hash: clear text that schedules the job; no result depends on it.

A house test compares the table with the scripts. A time is in ms on the server's clock.
"""

from __future__ import annotations

from typing import NamedTuple


class MetaField(NamedTuple):
    """One field of ``meta``, or one for each ``<name>`` in it."""

    unit: str
    """Unit or form of the value."""
    writers: str
    """The scripts that write or delete it."""
    what: str
    """What it says."""


_END = "cancel close commit fail fail_job invalidate reclaim"

META_FIELDS = {
    # the state of the job
    "state": MetaField("JobState", f"{_END} create", "the stage of the job, or its outcome"),
    "basis": MetaField(
        "token or nonce", _END, "the opening of the reduce stage; absent in other states"
    ),
    "maps_added": MetaField("tasks", "add create", "map tasks that were added so far"),
    "n_map": MetaField("tasks", "close", "map tasks of the job; absent until all are added"),
    "assigned:<worker>": MetaField("task id", "add", "the worker's own map task (each_worker)"),
    "cause": MetaField("text", "fail fail_job invalidate reclaim", "why the job failed"),
    # times
    "created_at": MetaField("time", "create", "when the job was made"),
    "ended_at": MetaField("time", _END, "when the job ended; absent while it runs"),
    "expire_at": MetaField("time", "create extend", "the deadline of the job's keys"),
    "ttl_ms": MetaField("ms", "create", "how long the keys stay after creation or an extension"),
    "submit_ms": MetaField("ms", "create", "how long the submitter may be silent before close"),
    "submit_until": MetaField(
        "time", "add create reclaim renew steal", "when the silent submitter counts as lost"
    ),
    "supervisor_seen_at": MetaField(
        "time", "create reclaim renew steal", "when a supervisor was last heard of"
    ),
    # figures of the progress rows, and the times that tell which tasks are slow
    "input_added": MetaField("InputAmount", "add", "the input so far, and its heaviest task"),
    "input_read": MetaField("as in unit", "commit invalidate", "input of the done map tasks"),
    "shuffled": MetaField("bytes", "commit", "what committed map attempts wrote for reducers"),
    "retried": MetaField(
        "attempts", "fail reclaim", "failed attempts and lost leases within budget"
    ),
    "executor_ms_m": MetaField("ms", "commit invalidate", "executor time of the done map tasks"),
    "executor_ms_r": MetaField("ms", "commit invalidate", "executor time of the done reduce tasks"),
    "task_times_m": MetaField("ms ...", "commit", "time per task of the last map batches"),
    "task_times_r": MetaField("ms ...", "commit", "time per task of the last reduce batches"),
    # what the submitter says: ``clear_fields`` in client/job_options.py
    "unit": MetaField("text", "create", "what amounts count: items, bytes or tasks"),
    "expected": MetaField("as in unit", "create", "amount of the whole input; absent if unknown"),
    "python": MetaField("major.minor", "create", "Python that the job's workers need"),
    "protocol": MetaField("number", "create", "PROTOCOL of the submitter"),
    "key_id": MetaField("hex", "create", "fingerprint of the secret that seals the job"),
    "code_digest": MetaField("hex", "create", "SHA-256 of code and params"),
    "partitions": MetaField("tasks", "create", "reduce tasks of the job"),
    "retries": MetaField("attempts", "create", "failed attempts of one task that are repeated"),
    "lost_leases": MetaField("leases", "create", "lost leases of one task that are repeated"),
    "lease_ms": MetaField("ms", "create", "how long a task stays leased without a renewal"),
    "skip_records": MetaField("0 or 1", "create", "1: on_error lets records be skipped"),
    "priority": MetaField("number", "create", "jobs of higher priority are claimed first"),
    "backup": MetaField(
        "0 or 1", "create", "1: a slow task may run a second time beside the first"
    ),
    "each_worker": MetaField("0 or 1", "create", "1: the job has one map task for each worker"),
    "txn": MetaField("text", "create", "the caller's own label"),
    "name": MetaField("text", "create", "the job's name in listings"),
}
