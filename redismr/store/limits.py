"""Every limit that the scripts use, each with its reason. ARCHITECTURE.md prints this table.

A script names a limit, and the loader (``scripts.py``) makes it a local with this value. Python
code and the model of the tests read the limits from here too.
"""

from __future__ import annotations

from typing import NamedTuple

DAY_MS = 86_400_000


class Limit(NamedTuple):
    """A figure of the protocol; the unit is in its name."""

    value: float
    why: str


LIMITS = {
    # claim and commit
    "MAX_SHARE_OF_READY": Limit(
        0.25, "most of the ready tasks that a commit claims at once: the tail of a stage is shared"
    ),
    "MAX_ARGUMENTS": Limit(
        1000, "tasks of one grant: Lua hands over some thousand arguments, executors ask for 64"
    ),
    "SENT_WITH_CLAIM_BYTES": Limit(
        65_536, "code and params sent with a claim: copying 10 MB holds the server for 40 ms"
    ),
    "SMALL_SHUFFLE_BYTES": Limit(
        262_144, "shuffled by a small job: little enough for one script to copy the map records"
    ),
    "SMALL_JOB_MAPS": Limit(64, "maps of a small job: one executor may reduce all partitions"),
    # slow tasks
    "SLOW_TASK_MS": Limit(2000, "an attempt is slow only after this, however quick the others are"),
    "SLOW_TASK_MEDIANS": Limit(2, "an attempt is slow after so many medians of its stage"),
    "LATE_CLAIM_MS": Limit(
        2000, "a claim that is not started by then is stolen: no batch starts a task after 500 ms"
    ),
    "SAME_WORKER_DELAY_MS": Limit(
        1500, "executors of the same worker wait longer: idle ones of others look each second"
    ),
    "MAX_CLAIMS_CHECKED": Limit(64, "oldest claims that one look for slow tasks reads"),
    "TASK_TIME_SAMPLES": Limit(15, "batches whose time per task gives the median of a stage"),
    # leases and budgets
    "OUTAGE_PART_OF_LEASE": Limit(
        0.5, "nobody was heard of for so much of a lease: an outage, for which no task is charged"
    ),
    "REARM_STEP": Limit(0.25, "fraction of a lease's score that counts how often it was re-armed"),
    "MAX_REARMED": Limit(
        0.75, "re-armed three times: a server may be restarted in a row; the dead keep no lease"
    ),
    "LEASE_MARGIN_MS": Limit(
        1000, "a lease that ends later than a whole one and this was written by somebody else"
    ),
    "DEATHS_TO_BLAME_RECORD": Limit(
        2, "deaths in one record: the record is to blame, and both charges are given back"
    ),
    "MAX_EXPLAINED_DEATHS": Limit(200, "deaths of one task, explained or not, that end the job"),
    "MAX_INVALIDATIONS": Limit(3, "times that a map runs again as its segments are gone"),
    # deadlines
    "EXTEND_BELOW_TTL": Limit(
        0.75, "part of the ttl left at which a renewal extends the job's keys"
    ),
    "DEFAULT_FAILURE_TTL_MS": Limit(DAY_MS, "life of a failure whose job has no readable deadline"),
    # clear text that somebody may have altered: scripts and callers act on these numbers
    "MAX_TTL_MS": Limit(400 * DAY_MS, "longest believed ttl"),
    "MAX_MAPS": Limit(1_000_000_000, "most believed map tasks"),
    "MAX_PARTITIONS": Limit(4096, "most partitions of a job"),
    "MAX_FIGURE_DIGITS": Limit(15, "longest believed figure of the progress rows: below 2^53"),
    "MAX_LEASES_READ": Limit(1000, "leases beyond which a status does not look at each executor"),
}


def limits_table() -> list[str]:
    """Return the lines of the table in ARCHITECTURE.md."""
    rows = [f"| `{name}` | {limit.value:,} | {limit.why} |" for name, limit in LIMITS.items()]
    return ["| limit | value | why |", "| --- | --- | --- |", *rows]
