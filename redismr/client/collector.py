"""The collector: reads the result of a finished job, and believes only sealed records.

``state`` in Redis is clear text, and only says when to look. A result is returned after proof: the
submitter sealed the spec and the end; workers sealed a manifest for each partition; all manifests
were made from the same attempts of exactly the map tasks that the end counts.
"""

from __future__ import annotations

import operator
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

from redismr.client.end_errors import job_vanished_error
from redismr.confidential import Unpicklable
from redismr.core.codec import decode_block, join_frames
from redismr.core.job_payloads import JobSealer
from redismr.core.model import (
    MAX_SKIPPED_KEPT,
    RUNNING_STATES,
    CollectedResult,
    JobSpec,
    ResultManifest,
    Skipped,
    task_index,
)
from redismr.core.pickled_snapshots import FindClass
from redismr.core.task_errors import make_task_error
from redismr.engine.bad_records import max_skips, skip_limit_failure
from redismr.engine.kernel import Block
from redismr.engine.key_hash import partition_of
from redismr.errors import JobFailed, SealError
from redismr.shipping.libraries import explain_library_errors
from redismr.store import EndAndRecords, Store

CHUNKS_PER_FETCH = 4
"""Result chunks (of up to 1 MB) fetched at once: this bounds the memory of a reader."""


def collect(
    store: Store,
    sealer: JobSealer,
    spec: JobSpec,
    end_and_records: EndAndRecords | None = None,
    *,
    partitionfn: Callable[[Any, int], int] | None,
    find_class: FindClass | None,
) -> CollectedResult[RedisPartitions]:
    """Verify the result of a job whose state is "succeeded", and return it.

    ``end_and_records`` are the sealed end and manifests; None reads them. ``partitionfn`` is the
    job's, if this process has it.

    Raises:
        JobLost: the whole job is gone. EndRolledBack: a failover took back the job's end.
        SealError: a sealed record is missing or was altered.
        TooManySkipped: more records were skipped than the submitter allowed.
        JobFailed: the manifests are genuine, but do not belong to one result.
    """
    with _seal_errors_explained(store, sealer.job):
        end, records = end_and_records or store.end_and_results(sealer.job)
        n_map = sealer.open_end(end)
        manifests = _open_manifests(sealer, records, spec.partitions if n_map else 0)
    if len({(m.basis, m.maps_digest, m.maps) for m in manifests}) > 1 or any(
        m.maps != n_map for m in manifests
    ):
        raise JobFailed(
            f"the partitions of job {sealer.job} in Redis are of different runs of its maps: "
            "something without the secret put old ones back",
            job_id=sealer.job,
        )
    counters: Counter[str] = Counter(manifests[0].map_counters if manifests else ())
    for manifest in manifests:
        counters.update(manifest.counters)
    partitions = RedisPartitions(store, sealer, spec, manifests, partitionfn, find_class)
    return CollectedResult(partitions, dict(counters), _checked_skips(sealer, spec, manifests))


def _open_manifests(
    sealer: JobSealer, records: Mapping[int, bytes], partitions: int
) -> list[ResultManifest]:
    for p in range(partitions):
        if p not in records:
            raise SealError(
                f"job {sealer.job} is marked succeeded in Redis, but the result of partition "
                f"{p} is not there: something without the secret changed it, or Redis lost data"
            )
    return [sealer.open_result_manifest(p, records[p]) for p in range(partitions)]


class EndRolledBack(JobFailed):
    """A failover took the server back to before the end of the job, which runs again."""


class ComputedAgain(JobFailed):
    """A partition that was read while the job ran is no longer part of the job's result."""

    def __init__(self, job: str, partition: int) -> None:
        super().__init__(
            f"partition {partition} of job {job} was computed again after it had been read, since "
            "data of the job was lost: read the result once more",
            job_id=job,
        )


@contextmanager
def _seal_errors_explained(store: Store, job: str) -> Iterator[None]:
    """Turn SealError into JobLost if the job is gone, into EndRolledBack if it runs again."""
    try:
        yield
    except SealError:
        status = store.status(job)
        if status is None:
            raise job_vanished_error(job) from None
        if status.state in RUNNING_STATES:
            raise EndRolledBack(
                f"Redis forgot that job {job} had ended (a failover); it runs again: wait for its "
                "result once more",
                job_id=job,
            ) from None
        raise


def _checked_skips(
    sealer: JobSealer, spec: JobSpec, manifests: Sequence[ResultManifest]
) -> Skipped:
    """Sum up the skipped records of all partitions, and check them against the sealed budget."""
    if spec.on_error == "fail" or not manifests:
        return Skipped()
    skipped = manifests[0].map_skipped
    for manifest in manifests:
        skipped = skipped.plus(manifest.skipped)
    records_in = manifests[0].records_in
    if skipped.total > max_skips(spec.on_error, records_in):
        raise make_task_error(skip_limit_failure(spec.on_error, skipped, records_in), sealer.job)
    return skipped


def skipped_so_far(store: Store, sealer: JobSealer) -> Skipped:
    """Return the records that the finished tasks of a running job have skipped."""
    skipped = Skipped()
    for index, record in sorted(store.committed_maps(sealer.job).items()):
        manifest = sealer.open_map_manifest(f"m{index}", record, MAX_SKIPPED_KEPT - len(skipped))
        skipped = skipped.plus(manifest.skipped)
    for partition, record in sorted(store.committed_results(sealer.job).items()):
        skipped = skipped.plus(sealer.open_result_manifest(partition, record).skipped)
    return skipped


def read_partition(
    store: Store, sealer: JobSealer, manifest: ResultManifest, find_class: FindClass | None
) -> Iterator[Block]:
    """Yield the blocks of one partition; each chunk is authenticated before it is parsed.

    Raises:
        SealError: a chunk that the manifest names is missing or was altered.
        LibraryMismatch: this process lacks a library that a block needs, or has another version.
    """
    partition = task_index(manifest.task)

    def decode(frame: bytes) -> Block:
        with explain_library_errors(f"the result of job {sealer.job}", manifest.provenance, frame):
            return decode_block(frame, find_class)

    yield from map(decode, manifest.inline)

    def chunks() -> Iterator[bytes]:
        for first in range(0, manifest.part.chunks, CHUNKS_PER_FETCH):
            numbers = range(first, min(first + CHUNKS_PER_FETCH, manifest.part.chunks))
            blobs = store.get_result(sealer.job, [f"{manifest.token}.{n}" for n in numbers])
            for number, blob in zip(numbers, blobs, strict=True):
                yield sealer.open_result_chunk(manifest.token, partition, number, blob)

    yield from map(decode, join_frames(chunks()))


class RedisPartitions(Unpicklable):
    """The partitions of a result in Redis.

    ``records`` are the numbers of records in the partitions. ``has_unique_keys`` is True if each
    key is known to occur once, in the partition that its hash names.
    """

    _display_name = "the result of a job"

    def __init__(
        self,
        store: Store,
        sealer: JobSealer,
        spec: JobSpec,
        manifests: Sequence[ResultManifest],
        partitionfn: Callable[[Any, int], int] | None,
        find_class: FindClass | None,
    ) -> None:
        self._store, self._sealer, self._spec, self.manifests = store, sealer, spec, manifests
        self._partitionfn, self._find_class = partitionfn, find_class
        self.on_close: weakref.finalize[[int], object] | None = None
        self.records: Sequence[int] = [m.part.records for m in manifests]
        self.has_unique_keys = not any(m.has_irregular_keys for m in manifests)

    def blocks(self, partition: int) -> Iterator[Block]:
        """Yield the blocks of a partition in order, fetched up to 4 MB ahead of the reader."""
        store, sealer, manifest = self._store, self._sealer, self.manifests[partition]
        with _seal_errors_explained(store, sealer.job):
            yield from read_partition(store, sealer, manifest, self._find_class)

    def candidate_partitions(self, key: Any) -> Iterable[int]:
        """Return the partitions that may hold a key, the likeliest first; some may be out of range.

        A partitionfn only says where to look first: in this process it may see other string hashes,
        or another state, than in the workers.
        """
        partitions, partitionfn = self._spec.partitions, self._partitionfn
        all_partitions = range(partitions)
        try:
            if partitionfn is not None:
                first = operator.index(partitionfn(key, partitions))
            elif self._spec.partitionfn:
                return all_partitions
            else:
                return (partition_of(key, partitions),)
        except Exception:  # noqa: BLE001 - BadKey, or what the user's function raises
            # A key of a class without a stable hash may equal one of a class that has one.
            return all_partitions
        return chain((first,), (p for p in all_partitions if p != first))

    def keep(self) -> bool:
        """Let the job stay when the result is closed; return True."""
        if self.on_close:
            self.on_close.detach()
        return True

    def close(self) -> None:
        """Delete the job, if the result owns it."""
        if self.on_close:
            self.on_close()
