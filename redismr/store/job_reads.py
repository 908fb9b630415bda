"""Reads the control keys of a job without a script, one key or one round trip at a time."""

import contextlib
from collections.abc import Iterable, Sequence

from redismr.errors import KeysAltered
from redismr.store.chunks import split_batches
from redismr.store.replies import EndAndRecords
from redismr.store.reply_values import clear_int, parse_records, reply_text
from redismr.store.store_base import StoreBase

JOBS_PER_ROUND_TRIP = 1000


class JobReads(StoreBase):
    """Reads clear fields and sealed values of a job."""

    def get_sealed(self, job: str, name: str) -> bytes | None:
        """Return a sealed string of the job: ``spec``, ``end``, ``code`` or ``params``."""
        return self.redis_client.command("GET", self.keys.control(job, name))  # type: ignore[no-any-return]

    def get_code_and_params(self, job: str) -> list[bytes | None]:
        """Return the sealed code and the sealed params."""
        names = ("code", "params")
        return self.redis_client.pipeline([("GET", self.keys.control(job, name)) for name in names])

    def meta(self, job: str, *fields: str) -> dict[str, str]:
        """Return clear fields of the job; no fields if the job is gone.

        A field that is missing is empty text.
        """
        values = self.redis_client.command("HMGET", self.keys.control(job, "meta"), *fields)
        if all(value is None for value in values):
            return {}
        return {field: reply_text(value) for field, value in zip(fields, values, strict=True)}

    def states(self, jobs: Sequence[str]) -> dict[str, str]:
        """Return job -> state in clear, without jobs that are gone or whose keys were altered."""
        found: dict[str, str] = {}
        for batch in split_batches(list(jobs), JOBS_PER_ROUND_TRIP):
            found |= self._states(batch)
        return found

    def _states(self, jobs: Sequence[str]) -> dict[str, str]:
        try:
            values = self.redis_client.pipeline(
                [("HGET", self.keys.control(job, "meta"), "state") for job in jobs]
            )
        except KeysAltered:  # of one of these jobs: find the others all the same
            half = len(jobs) // 2
            return self._states(jobs[:half]) | self._states(jobs[half:]) if half else {}
        return {job: reply_text(state) for job, state in zip(jobs, values, strict=True) if state}

    def ready_count(self, job: str) -> int:
        """Number of tasks of the job that wait to be claimed."""
        return int(self.redis_client.command("LLEN", self.keys.control(job, "ready")))

    def budget_used(self, job: str, task: str, kind: str) -> int:
        """Number of charges to one budget (``error`` or ``lost``) of a task so far."""
        key = self.keys.control(job, "budgets")
        return clear_int(self.redis_client.command("HGET", key, f"{kind}:{task}"))

    def failures(self, job: str) -> dict[str, bytes]:
        """Return task id -> sealed failure.

        ``job`` stands for a failure of the whole job, ``last:<id>`` for the last failure of a task
        that is tried again.
        """
        found = self.redis_client.command("HGETALL", self.keys.control(job, "failures"))
        return {reply_text(t): blob for t, blob in found.items() if not t.startswith(b"crash:")}

    def crash_notes(self, job: str, task: str) -> list[tuple[str, bytes]]:
        """Return (token, sealed note) of each attempt of a task whose process died in a record."""
        key = self.keys.control(job, "failures")
        found = self.redis_client.command("HGET", key, f"crash:{task}") or b""
        crashes = list[tuple[str, bytes]]()
        for note in found.split(b","):
            with contextlib.suppress(ValueError):  # not what the script wrote
                _, token, blob = reply_text(note).split(" ")
                crashes.append((token, bytes.fromhex(blob)))
        return crashes

    def committed_maps(self, job: str) -> dict[int, bytes]:
        """Return map index -> committed record; a job that has succeeded has none."""
        found = self.redis_client.command("HGETALL", self.keys.control(job, "done"))
        return parse_records(found.items())

    def committed_results(
        self, job: str, partitions: Iterable[int] | None = None
    ) -> dict[int, bytes]:
        """Return partition -> committed record, of all partitions or of the given ones."""
        key = self.keys.control(job, "result")
        if partitions is None:
            return parse_records(self.redis_client.command("HGETALL", key).items())
        if not (wanted := list(partitions)):
            return {}
        found = self.redis_client.command("HMGET", key, *wanted)
        return {p: record for p, record in zip(wanted, found, strict=True) if record is not None}

    def end_and_results(self, job: str) -> EndAndRecords:
        """Return the sealed end and the result records of a job that has succeeded."""
        end, found = self.redis_client.pipeline(
            [("GET", self.keys.control(job, "end")), ("HGETALL", self.keys.control(job, "result"))]
        )
        return EndAndRecords(end, parse_records(found.items()))
