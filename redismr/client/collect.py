"""Reads a finished job's result, believing only what is sealed.

``state`` in Redis is clear text, so it only says when to look. What is returned was proven: the
spec and the end are the submitter's, and every partition has a manifest, sealed by a worker, all
made from the same attempts of exactly the maps that the end names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from redismr.core.codec import decode_block, frames_of
from redismr.core.kernel import Block
from redismr.core.keyhash import partition_of
from redismr.core.model import JobSpec, ResultManifest, task_index
from redismr.core.vault import Vault
from redismr.errors import JobFailed, SealError
from redismr.store import Store

FETCH_CHUNKS = 4
"""Result chunks (of up to 1 MB) asked for at once: bounds the memory of who iterates."""

FindClass = Callable[[str, str], Any]


def collect(
    store: Store,
    vault: Vault,
    spec: JobSpec,
    *,
    partitionfn: Callable[[Any, int], int] | None,
    has_partitionfn: bool,
    find_class: FindClass | None,
) -> tuple[RemoteShelf, dict[str, int]]:
    """The verified result of a job that says it has succeeded, and its counters.

    Raises:
        SealError: a sealed piece is missing or not as sealed.
        JobFailed: the pieces are genuine but do not belong to one result.
    """
    n_map = vault.open_end(store.blob(vault.job, "end"))
    manifests: list[ResultManifest] = []
    if n_map:
        records = store.results(vault.job)
        for p in range(spec.partitions):
            if p not in records:
                raise SealError(
                    f"job {vault.job} is marked succeeded in Redis, but the result of partition "
                    f"{p} is not there: something without the secret changed it, or Redis lost data"
                )
            manifests.append(vault.open_result_manifest(p, records[p]))
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
    home = _homes(spec.partitions, partitionfn, custom=has_partitionfn)
    return RemoteShelf(store, vault, manifests, home, find_class), dict(counters)


def read_partition(
    store: Store, vault: Vault, manifest: ResultManifest, find_class: FindClass | None
) -> Iterator[Block]:
    """The blocks of one partition; each chunk is authenticated before it is parsed.

    Raises:
        SealError: a chunk that the manifest names is missing or not as sealed.
    """
    for frame in manifest.inline:
        yield decode_block(frame, find_class)
    partition = task_index(manifest.task)

    def chunks() -> Iterator[bytes]:
        for first in range(0, manifest.part.chunks, FETCH_CHUNKS):
            numbers = range(first, min(first + FETCH_CHUNKS, manifest.part.chunks))
            blobs = store.get_result(vault.job, [f"{manifest.token}.{n}" for n in numbers])
            for number, blob in zip(numbers, blobs, strict=True):
                yield vault.open_out(manifest.token, partition, number, blob)

    for frame in frames_of(chunks()):
        yield decode_block(frame, find_class)


class RemoteShelf:
    """The partitions of a result in Redis."""

    def __init__(
        self,
        store: Store,
        vault: Vault,
        manifests: Sequence[ResultManifest],
        home: Callable[[Any], int | None],
        find_class: FindClass | None,
    ) -> None:
        self._store, self._vault, self.manifests = store, vault, manifests
        self._find_class = find_class
        self.on_close: Callable[[], object] = lambda: None
        self.home = home
        self.records: Sequence[int] = [m.part.records for m in manifests]
        self.plain = not any(m.foreign for m in manifests)

    def blocks(self, partition: int) -> Iterator[Block]:
        """The blocks of a partition, some MB ahead of the reader at most."""
        return read_partition(self._store, self._vault, self.manifests[partition], self._find_class)

    def close(self) -> None:
        """Tell whoever owns the job."""
        self.on_close()


def _homes(
    partitions: int, partitionfn: Callable[[Any, int], int] | None, *, custom: bool
) -> Callable[[Any], int | None]:
    if partitionfn is not None:
        return lambda key: partitionfn(key, partitions)
    if custom:
        return lambda _key: None
    return lambda key: partition_of(key, partitions)
