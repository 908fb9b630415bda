"""Every key name; no other module builds one. ARCHITECTURE.md has the table of the keys.

``{J}`` is the job id in braces: Redis Cluster hashes only the text between them, so a job's control
keys share one slot and its bulk keys (``{J/i0}``, ``{J/r3}``) are spread over the others.

Every key of a job expires at the job's one absolute deadline; the others a day after their use.
"""

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
