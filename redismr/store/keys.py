"""Every key name; no other module builds one. docs/keys.md has the table of the keys.

``{J}`` is the job id in braces: Redis Cluster hashes only the text between them, so a job's control
keys share one slot and its bulk keys (``{J/i0}``, ``{J/r3}``) are spread over the others.

Every key of a job expires at the job's one absolute deadline; the others a day after their use.
"""

INPUTS_PER_KEY = 1000
"""Map tasks whose splits share one ``input`` hash: bounds a hash, and spreads a big job."""

CONTROL = (
    "meta", "spec", "end", "code", "params", "ready", "processing", "lease", "attempts", "done",
    "result", "out", "last_claims", "failures", "budgets",
)  # fmt: skip
"""Names of the keys of one job that share its slot."""


class KeyNames:
    """Builds key names under one namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.jobs = f"{namespace}:jobs"  #: The index of jobs that may have work.
        self.recent = f"{namespace}:recent"  #: The index of jobs that still exist.
        self.deleted = f"{namespace}:deleted"  #: Rows of jobs that exist no more.
        self.workers = f"{namespace}:workers"  #: Rows of workers.

    def control(self, job: str, name: str) -> str:
        """Return a key of ``CONTROL``, in the job's own slot."""
        return f"{self.namespace}:{{{job}}}:{name}"

    def input(self, job: str, index: int) -> str:
        """Return the hash that holds the split of map task ``index``."""
        return f"{self.namespace}:{{{job}/i{index // INPUTS_PER_KEY}}}:input"

    def shuffle(self, job: str, partition: int) -> str:
        """Return the hash of all segments of one partition."""
        return f"{self.namespace}:{{{job}/r{partition}}}:shuffle"

    def bulk(self, job: str, n_map: int, partitions: int) -> list[str]:
        """Return every input and shuffle hash of a job of ``n_map`` map tasks."""
        inputs = [self.input(job, first) for first in range(0, n_map, INPUTS_PER_KEY)]
        return inputs + [self.shuffle(job, p) for p in range(partitions)]

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
