"""Reads a finished job's result, believing only what is sealed.

``state`` in Redis is clear text, so it only says when to look. What is returned was proven: the
spec and the end are the submitter's, and every partition has a manifest, sealed by a worker, all
made from the same attempts of exactly the maps that the end names.
"""

from __future__ import annotations

import operator
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

from redismr.client.outcome import vanished
from redismr.confidential import Confined
from redismr.core.codec import decode_block, frames_of
from redismr.core.kernel import Block
from redismr.core.keyhash import partition_of
from redismr.core.model import (
    KEPT_PER_JOB,
    RUNNING_STATES,
    JobSpec,
    ResultManifest,
    Skipped,
    task_index,
)
from redismr.core.skips import allowed, too_many
from redismr.core.trace import error_of
from redismr.core.vault import Vault
from redismr.errors import JobFailed, SealError
from redismr.shipping.libraries import told_apart
from redismr.store import Outcome, Store

FETCH_CHUNKS = 4
"""Result chunks (of up to 1 MB) asked for at once: bounds the memory of who iterates."""

FindClass = Callable[[str, str], Any]


def collect(
    store: Store,
    vault: Vault,
    spec: JobSpec,
    outcome: Outcome | None = None,
    *,
    partitionfn: Callable[[Any, int], int] | None,
    find_class: FindClass | None,
) -> tuple[RemoteShelf, dict[str, int], Skipped]:
    """The verified result of a job that says it has succeeded, its counters, and what it skipped.

    ``outcome`` is what was read of it, if it was; ``partitionfn`` the job's, where it is at hand.

    Raises:
        JobLost: the whole job is gone. Forgotten: its end is.
        SealError: a sealed piece is missing or not as sealed.
        TooManySkipped: more was skipped than the job's submitter allowed.
        JobFailed: the pieces are genuine but do not belong to one result.
    """
    with _gone_or_altered(store, vault.job), _running_or_altered(store, vault.job):
        end, records = outcome or store.outcome(vault.job)
        n_map = vault.open_end(end)
        manifests = _manifests(vault, records, spec.partitions if n_map else 0)
    if len({(m.basis, m.maps_digest, m.maps) for m in manifests}) > 1 or any(
        m.maps != n_map for m in manifests
    ):
        raise JobFailed(
            f"the partitions of job {vault.job} in Redis are of different runs of its maps: "
            "something without the secret put old ones back",
            job_id=vault.job,
        )
    counters: Counter[str] = Counter(manifests[0].map_counters if manifests else ())
    for manifest in manifests:
        counters.update(manifest.counters)
    shelf = RemoteShelf(store, vault, manifests, _candidates(spec, partitionfn), find_class)
    return shelf, dict(counters), _skipped(vault, spec, manifests)


def _manifests(vault: Vault, records: Mapping[int, bytes], partitions: int) -> list[ResultManifest]:
    for p in range(partitions):
        if p not in records:
            raise SealError(
                f"job {vault.job} is marked succeeded in Redis, but the result of partition "
                f"{p} is not there: something without the secret changed it, or Redis lost data"
            )
    return [vault.open_result_manifest(p, records[p]) for p in range(partitions)]


class Forgotten(JobFailed):
    """A failover took the server back to before the job's end: it runs again."""


class ComputedAgain(JobFailed):
    """What was handed out of a running job is no part of its result any more."""

    def __init__(self, job: str, partition: int) -> None:
        super().__init__(
            f"partition {partition} of job {job} was computed again after it had been read, since "
            "data of the job was lost: read the result once more",
            job_id=job,
        )


@contextmanager
def _gone_or_altered(store: Store, job: str) -> Iterator[None]:
    """Nothing was altered where all is gone (FLUSHALL, deleted): then the error is JobLost."""
    try:
        yield
    except SealError:
        if store.look(job) is None:
            raise vanished(job) from None
        raise


@contextmanager
def _running_or_altered(store: Store, job: str) -> Iterator[None]:
    """Nothing was altered where an ended job runs again: then the error is Forgotten."""
    try:
        yield
    except SealError:
        look = store.look(job)
        if look is not None and look.state in RUNNING_STATES:
            raise Forgotten(
                f"Redis forgot that job {job} had ended (a failover); it runs again: wait for its "
                "result once more",
                job_id=job,
            ) from None
        raise


def _skipped(vault: Vault, spec: JobSpec, manifests: Sequence[ResultManifest]) -> Skipped:
    """What was left out, checked against the sealed budget: reducers did, each for itself."""
    if spec.on_error == "fail" or not manifests:
        return Skipped()
    skipped = manifests[0].map_skipped
    for manifest in manifests:
        skipped = skipped.plus(manifest.skipped)
    records_in = manifests[0].records_in
    if skipped.total > allowed(spec.on_error, records_in):
        raise error_of(too_many(spec.on_error, skipped, records_in), vault.job)
    return skipped


def skipped_so_far(store: Store, vault: Vault) -> Skipped:
    """What the finished tasks of a job have left out; its map records go when it has succeeded."""
    skipped = Skipped()
    for index, record in sorted(store.maps(vault.job).items()):
        manifest = vault.open_map_manifest(f"m{index}", record, KEPT_PER_JOB - len(skipped))
        skipped = skipped.plus(manifest.skipped)
    for partition, record in sorted(store.results(vault.job).items()):
        skipped = skipped.plus(vault.open_result_manifest(partition, record).skipped)
    return skipped


def read_partition(
    store: Store, vault: Vault, manifest: ResultManifest, find_class: FindClass | None
) -> Iterator[Block]:
    """The blocks of one partition; each chunk is authenticated before it is parsed.

    Raises:
        SealError: a chunk that the manifest names is missing or not as sealed.
        JobLost: the whole job is gone.
        LibraryMismatch: a library that it needs is missing in this process, or another version.
    """
    partition = task_index(manifest.task)

    def decoded(frame: bytes) -> Block:
        with told_apart(f"the result of job {vault.job}", manifest.made, frame):
            return decode_block(frame, find_class)

    yield from map(decoded, manifest.inline)

    def chunks() -> Iterator[bytes]:
        for first in range(0, manifest.part.chunks, FETCH_CHUNKS):
            numbers = range(first, min(first + FETCH_CHUNKS, manifest.part.chunks))
            blobs = store.get_result(vault.job, [f"{manifest.token}.{n}" for n in numbers])
            for number, blob in zip(numbers, blobs, strict=True):
                yield vault.open_out(manifest.token, partition, number, blob)

    with _gone_or_altered(store, vault.job):
        for frame in frames_of(chunks()):
            yield decoded(frame)


class RemoteShelf(Confined):
    """The partitions of a result in Redis."""

    _known_as = "the result of a job"

    def __init__(
        self,
        store: Store,
        vault: Vault,
        manifests: Sequence[ResultManifest],
        candidates: Callable[[Any], Iterable[int]],
        find_class: FindClass | None,
    ) -> None:
        self._store, self._vault, self.manifests = store, vault, manifests
        self._find_class = find_class
        self.on_close: weakref.finalize[[int], object] | None = None
        self.candidates = candidates
        self.records: Sequence[int] = [m.part.records for m in manifests]
        self.plain = not any(m.foreign for m in manifests)

    def blocks(self, partition: int) -> Iterator[Block]:
        """The blocks of a partition, some MB ahead of the reader at most."""
        store, vault, manifest = self._store, self._vault, self.manifests[partition]
        with _running_or_altered(store, vault.job):
            yield from read_partition(store, vault, manifest, self._find_class)

    def keep(self) -> bool:
        """Nobody owns the job any more."""
        if self.on_close:
            self.on_close.detach()
        return True

    def close(self) -> None:
        """Tell whoever owns the job."""
        if self.on_close:
            self.on_close()


def _candidates(
    spec: JobSpec, partitionfn: Callable[[Any, int], int] | None
) -> Callable[[Any], Iterable[int]]:
    """See ``Shelf.candidates``.

    A partitionfn is only asked where to look first: here it may see other string hashes, or another
    state, than in the workers.
    """

    def candidates(key: Any) -> Iterable[int]:
        everywhere = range(spec.partitions)
        try:
            if partitionfn is not None:
                first = operator.index(partitionfn(key, spec.partitions))
            elif spec.partitionfn:
                return everywhere
            else:
                return (partition_of(key, spec.partitions),)
        except Exception:  # noqa: BLE001 - BadKey, or what the user's function raises
            return everywhere  # a key of a class without a stable hash may be equal to one with
        return chain((first,), (p for p in everywhere if p != first))

    return candidates
