"""Every key name, with its type, meaning, writer and lifetime.

``{J}`` is the job id in braces: Redis Cluster hashes only the text between them, so a job's control
keys share one slot and its bulk keys (``{J/i0}``, ``{J/r3}``) are spread over the others.
No other module builds a key name.

| key | type | what | writer |
| --- | --- | --- | --- |
| ``{J}:meta`` | hash | clear text (``META_FIELDS``): no result depends on it | scripts |
| ``{J}:spec`` | string | sealed JobSpec | create |
| ``{J}:end`` | string | sealed n_map | close |
| ``{J}:code`` ``{J}:params`` | string | sealed functions and modules; sealed params | create |
| ``{J}:ready`` ``{J}:processing`` | list | ids to claim; claimed ids, as in ``lease`` | scripts |
| ``{J}:lease`` | zset | task id -> expiry in server's ms; fraction: how often re-armed | scripts |
| ``{J}:attempts`` | hash | task id -> its attempts: token, executor, started, since | scripts |
| ``{J}:done`` | hash | map index -> token and sealed manifest; freed at the end | commit |
| ``{J}:result`` | hash | partition -> token and sealed manifest of its result | commit |
| ``{J}:out`` | hash | ``token.chunk`` -> sealed result chunk | reduce attempts |
| ``{J}:last_claims`` | hash | executor -> last nonce and the ids it was given | claim, commit |
| ``{J}:failures`` | hash | task id, ``job`` or ``crash:m3`` -> sealed failure | fail, reclaim |
| ``{J}:budgets`` | hash | budgets used: ``error:m3``, ``lost:m3``, ``invalidated:m3`` | scripts |
| ``{J/i<k>}:input`` | hash | ``task.chunk`` -> sealed piece of a split | submitter |
| ``{J/r<p>}:shuffle`` | hash | ``token.chunk`` -> sealed segment chunk | map attempts |
| ``jobs`` | zset | jobs that may have work, by priority and turn: a hint | anyone |
| ``recent`` | zset | every job that still exists -> its deadline: for listings | submitter |
| ``deleted`` | zset | row (clear JSON) of a job that ``run`` deleted -> its deadline | submitter |
| ``workers`` | hash | worker id -> a row about it (clear JSON) | supervisors |
| ``wake:<protocol>:<python>:<key id>`` | list | tokens that wake one worker | anyone with work |

Every key of a job expires at the job's one absolute deadline; the others a day after their use.
"""

from __future__ import annotations

from dataclasses import dataclass

INPUTS_PER_KEY = 1000
"""Map tasks whose splits share one ``input`` hash: bounds a hash, and spreads a big job."""

CONTROL = (
    "meta",
    "spec",
    "end",
    "code",
    "params",
    "ready",
    "processing",
    "lease",
    "attempts",
    "done",
    "result",
    "out",
    "last_claims",
    "failures",
    "budgets",
)


@dataclass(frozen=True, slots=True)
class KeyNames:
    """Builds key names under one namespace."""

    namespace: str

    def control(self, job: str, name: str) -> str:
        """Return a key of ``CONTROL``, in the job's own slot."""
        return f"{self.namespace}:{{{job}}}:{name}"

    def input(self, job: str, index: int) -> str:
        """Return the hash that holds the split of map task ``index``."""
        return f"{self.namespace}:{{{job}/i{index // INPUTS_PER_KEY}}}:input"

    def inputs(self, job: str, n_map: int) -> list[str]:
        """Return every input hash of a job of ``n_map`` map tasks."""
        return [self.input(job, first) for first in range(0, n_map, INPUTS_PER_KEY)]

    def shuffle(self, job: str, partition: int) -> str:
        """Return the hash of all segments of one partition."""
        return f"{self.namespace}:{{{job}/r{partition}}}:shuffle"

    def shuffles(self, job: str, partitions: int) -> list[str]:
        """Return every shuffle hash of a job."""
        return [self.shuffle(job, p) for p in range(partitions)]

    @property
    def jobs(self) -> str:
        """The index of jobs that may have work."""
        return f"{self.namespace}:jobs"

    @property
    def recent(self) -> str:
        """The index of jobs that still exist."""
        return f"{self.namespace}:recent"

    @property
    def deleted(self) -> str:
        """Rows of jobs that exist no more."""
        return f"{self.namespace}:deleted"

    @property
    def workers(self) -> str:
        """Rows of workers."""
        return f"{self.namespace}:workers"

    def wake(self, protocol: int, python: str, key_id: str) -> str:
        """Return the wake-up list of workers of one protocol, Python and secret."""
        return f"{self.namespace}:wake:{protocol}:{python}:{key_id}"

    def index_type(self, key: str) -> str:
        """Return the type that Redis names for a key that belongs to no job."""
        sets = dict.fromkeys((self.jobs, self.recent, self.deleted), "zset")
        return {**sets, self.workers: "hash"}.get(key, "list")

    def events(self, db: int, txn: str | None = None) -> str:
        """Return the channel of one transaction, or of all; with ``db``, as pub/sub ignores it."""
        channel = f"{self.namespace}:events:{db}"
        return channel if txn is None else f"{channel}:{txn}"
