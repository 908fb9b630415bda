"""Every limit that the scripts use, each with its reason. ARCHITECTURE.md prints the values."""

from typing import NamedTuple

from redismr.core.model import DAY_MS


class Limit(NamedTuple):
    """A figure of the protocol; the unit is in its name."""

    value: float
    why: str


LIMITS = {
    # claim and commit
    "MAX_SHARE_OF_READY": Limit(0.25, "largest part of ready tasks in a grant: a tail is shared"),
    "MAX_ARGUMENTS": Limit(1000, "largest grant: Lua passes a few thousand; executors ask for 64"),
    "SENT_WITH_CLAIM_BYTES": Limit(
        65_536, "largest code and params in the answer to a claim: 10 MB hold the server for 40 ms"
    ),
    "SMALL_SHUFFLE_BYTES": Limit(262_144, "largest shuffle of a small job: one script may copy it"),
    "SMALL_JOB_MAPS": Limit(64, "most maps of a small job, which one executor may reduce"),
    # slow tasks
    "SLOW_TASK_MS": Limit(2000, "an attempt is never slow before this time"),
    "SLOW_TASK_MEDIANS": Limit(2, "an attempt is slow after this many medians of its stage"),
    "LATE_CLAIM_MS": Limit(
        2000, "a claim not started by then is stolen: no batch starts a task after 500 ms"
    ),
    "SAME_WORKER_DELAY_MS": Limit(
        1500, "a backup by the same worker waits longer: idle executors of other workers go first"
    ),
    "MAX_CLAIMS_CHECKED": Limit(64, "most claims read in a search for slow tasks, oldest first"),
    "TASK_TIME_SAMPLES": Limit(15, "batches whose time per task gives the median of a stage"),
    # leases and budgets
    "OUTAGE_PART_OF_LEASE": Limit(
        0.5, "no renewal for this part of a lease means an outage, for which no task is charged"
    ),
    "REARM_STEP": Limit(0.25, "added to a lease's score at each re-arming"),
    "MAX_REARMED": Limit(0.75, "a lease is re-armed thrice at most: the dead must not keep theirs"),
    "LEASE_MARGIN_MS": Limit(1000, "a lease that ends later than a new one plus this: no script's"),
    "DEATHS_TO_BLAME_RECORD": Limit(2, "deaths in one record that blame it: both charges go back"),
    "MAX_EXPLAINED_DEATHS": Limit(200, "more deaths of one task end the job, however explained"),
    "MAX_INVALIDATIONS": Limit(3, "how often a map runs again because its segments are gone"),
    # deadlines
    "EXTEND_BELOW_TTL": Limit(0.75, "a renewal extends the job's keys if less of the ttl is left"),
    "DEFAULT_FAILURE_TTL_MS": Limit(DAY_MS, "deadline of a failure whose job has no valid one"),
    # clear text that somebody may have altered: scripts and callers act on these numbers
    "MAX_TTL_MS": Limit(400 * DAY_MS, "a longer ttl in clear text was altered"),
    "MAX_MAPS": Limit(1_000_000_000, "a larger number of map tasks in clear text was altered"),
    "MAX_PARTITIONS": Limit(4096, "largest number of partitions"),
    "MAX_FIGURE_DIGITS": Limit(15, "longest number in progress fields: below 2^53"),
    "MAX_LEASES_READ": Limit(1000, "with more leases a status does not examine each executor"),
}
