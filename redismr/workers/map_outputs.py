"""The map outputs that a reducer reads: the manifests of all map tasks, verified."""

from dataclasses import dataclass
from typing import Self

from redismr.core.job_payloads import JobSealer, maps_digest_of
from redismr.core.model import MAX_SKIPPED_KEPT, MapManifest, Skipped
from redismr.core.plurals import pluralize
from redismr.errors import SealError
from redismr.store import EndAndRecords
from redismr.workers.job_header import JobAltered


@dataclass(frozen=True, slots=True)
class MapOutputs:
    """The map attempts that one opening of the reduce stage names."""

    basis: str
    #: By index of the map task.
    manifests: tuple[MapManifest, ...]
    #: Digest of all tokens: equal in all results that were made from these attempts.
    digest: str
    counters: dict[str, int]  #: What map functions counted, over all maps.
    records_in: int  #: Records that all maps read.
    skipped: Skipped  #: Records that all maps left out.

    @classmethod
    def open(cls, sealer: JobSealer, basis: str, outputs: EndAndRecords) -> Self:
        """Verify the sealed end and all map records.

        Raises:
            JobAltered: one of them is missing or not as sealed.
        """
        end, records = outputs
        try:
            n_map = sealer.open_end(end)
        except SealError as exc:
            raise JobAltered(str(exc)) from exc
        if len(records) != n_map or any(i not in records for i in range(n_map)):
            raise JobAltered(
                f"job {sealer.job} has {pluralize(n_map, 'map task')}, but Redis has the manifests "
                f"of {len(records)}"
            )
        manifests, counters, skipped = list[MapManifest](), dict[str, int](), Skipped()
        for i in range(n_map):
            try:
                kept = MAX_SKIPPED_KEPT - len(skipped)
                manifest = sealer.open_map_manifest(f"m{i}", records[i], kept)
            except SealError as exc:
                raise JobAltered(str(exc)) from exc
            manifests.append(manifest)
            if manifest.skipped.total:
                skipped = skipped.plus(manifest.skipped)
            for name, amount in manifest.counters.items():
                counters[name] = counters.get(name, 0) + amount
        return cls(
            basis,
            tuple(manifests),
            maps_digest_of({i: m.token for i, m in enumerate(manifests)}),
            counters,
            sum(m.records_in for m in manifests),
            skipped,
        )
