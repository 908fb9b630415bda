"""The sealed records of one job: the fields of each, and the place that each is bound to.

One pair of methods per kind, so that no caller chooses a place: the manifest of one task cannot be
opened as that of another. All data that decides a result passes through here.
"""

import hashlib
import json
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from redismr.confidential import Unpicklable
from redismr.core.model import (
    MAX_SKIPPED_KEPT,
    Crash,
    Failure,
    JobSpec,
    MapManifest,
    PartSize,
    Provenance,
    ResultManifest,
    Skipped,
    TracebackLine,
)
from redismr.core.pickle_by_value import PICKLE_PROTOCOL
from redismr.core.seal import Keyring
from redismr.errors import SealError

# The most raw bytes of a record; checked before decompression.
MAX_CHUNK_BYTES = (1 << 20) + 64
MAX_CODE_BYTES = 64 << 20  # also of a manifest
_MAX_PARAMS_BYTES = 512 << 20
_MAX_SMALL_RECORD_BYTES = 1 << 20
_Place = tuple[str | int, ...]
_NO_SKIPPED = Skipped()
_NO_PROVENANCE = Provenance()


def maps_digest_of(tokens: Mapping[int, str]) -> str:
    """Return one name for map index -> token of its committed attempt: equal if all are equal."""
    text = ",".join(f"{index}:{tokens[index]}" for index in sorted(tokens))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class JobSealer(Unpicklable):
    """Seals and opens the records of one job.

    Every ``open_`` method raises SealError if a record is missing, altered, or from another place.
    """

    keyring: Keyring
    job: str

    def seal_spec(self, spec: JobSpec) -> bytes:
        """Seal the job's options: JSON of all fields, by name."""
        return self._seal_json("spec", (), asdict(spec))

    def open_spec(self, blob: bytes | None) -> JobSpec:
        """Return the job's options as the submitter sealed them; unknown fields are ignored."""
        given = json.loads(self._open("spec", (), blob))
        return JobSpec(**{f.name: given[f.name] for f in fields(JobSpec) if f.name in given})

    def seal_end(self, n_map: int) -> bytes:
        """Seal the number of map tasks: JSON ``{"n_map": ...}``."""
        return self._seal_json("end", (), {"n_map": n_map})

    def open_end(self, blob: bytes | None) -> int:
        """Return the number of map tasks."""
        return int(json.loads(self._open("end", (), blob))["n_map"])

    def seal_code(self, code: bytes) -> bytes:
        """Seal the packed functions and modules."""
        return self._seal("code", (), code)

    def open_code(self, blob: bytes | None) -> bytes:
        """Return the packed functions and modules."""
        return self._open("code", (), blob, MAX_CODE_BYTES)

    def seal_params(self, params: bytes) -> bytes:
        """Seal the packed params."""
        return self._seal("params", (), params)

    def open_params(self, blob: bytes | None) -> bytes:
        """Return the packed params."""
        return self._open("params", (), blob, _MAX_PARAMS_BYTES)

    def seal_input(self, task: str, piece: int, data: bytes) -> bytes:
        """Seal one piece of a map task's split."""
        return self._seal("input", (task, piece), data)

    def open_input(self, task: str, piece: int, blob: bytes | None) -> bytes:
        """Return one piece of a map task's split."""
        return self._open("input", (task, piece), blob, MAX_CHUNK_BYTES)

    def seal_segment(self, token: str, partition: int, chunk: int, data: bytes) -> bytes:
        """Seal one chunk of a map attempt's output for one partition."""
        return self._seal("segment", (token, partition, chunk), data)

    def open_segment(self, token: str, partition: int, chunk: int, blob: bytes | None) -> bytes:
        """Return one chunk of a map attempt's output for one partition."""
        return self._open("segment", (token, partition, chunk), blob, MAX_CHUNK_BYTES)

    def seal_result_chunk(self, token: str, partition: int, chunk: int, data: bytes) -> bytes:
        """Seal one chunk of a partition's result."""
        return self._seal("out", (token, partition, chunk), data)

    def open_result_chunk(
        self, token: str, partition: int, chunk: int, blob: bytes | None
    ) -> bytes:
        """Return one chunk of a partition's result."""
        return self._open("out", (token, partition, chunk), blob, MAX_CHUNK_BYTES)

    def seal_map_manifest(self, manifest: MapManifest) -> bytes:
        """Seal what a map attempt wrote: a pickled tuple, see ``MapManifest`` for the fields."""
        parts = {p: (x.chunks, x.records, x.raw_bytes) for p, x in manifest.parts.items()}
        body = (
            parts,  # partition -> (chunks, records, raw_bytes)
            dict(manifest.inline),  # partition -> encoded blocks
            manifest.records_in,
            manifest.records_out,
            dict(manifest.counters),  # name -> amount
            _pack_skipped(manifest.skipped),  # (total, failures in full as JSON)
            _pack_provenance(manifest.provenance),  # (made_by, name -> version), or ()
        )
        return self._seal_manifest("manifest", manifest, body)

    def open_map_manifest(
        self, task: str, record: bytes, kept: int = MAX_SKIPPED_KEPT
    ) -> MapManifest:
        """Return the manifest of a map task's committed attempt, from its record in ``done``.

        At most ``kept`` skipped records are read in full: each takes 25 us and some KB.
        """
        token, body = self._open_manifest("manifest", task, record)
        parts, inline, records_in, records_out, counters, skipped, provenance = body
        return MapManifest(
            task=task,
            token=token,
            parts={p: PartSize(*x) for p, x in parts.items()},
            inline=inline,
            records_in=records_in,
            records_out=records_out,
            counters=counters,
            skipped=_unpack_skipped(skipped, kept),
            provenance=Provenance(*provenance) if provenance else _NO_PROVENANCE,
        )

    def seal_result_manifest(self, manifest: ResultManifest) -> bytes:
        """Seal what a reduce attempt wrote: a pickled tuple, see ``ResultManifest``."""
        body = (
            manifest.basis,
            manifest.maps,
            manifest.maps_digest,
            (manifest.part.chunks, manifest.part.records, manifest.part.raw_bytes),
            manifest.inline,  # encoded frames
            manifest.has_irregular_keys,
            dict(manifest.counters),  # name -> amount
            dict(manifest.map_counters),
            manifest.records_in,
            _pack_skipped(manifest.skipped),
            _pack_skipped(manifest.map_skipped),
            _pack_provenance(manifest.provenance),
        )
        return self._seal_manifest("result", manifest, body)

    def open_result_manifest(self, partition: int, record: bytes) -> ResultManifest:
        """Return the manifest of a partition's committed attempt, from its record in ``result``."""
        task = f"r{partition}"
        token, body = self._open_manifest("result", task, record)
        basis, maps, digest, part, inline, has_irregular_keys, *counts = body
        counters, map_counters, records_in, skipped, map_skipped, provenance = counts
        return ResultManifest(
            task=task,
            token=token,
            basis=basis,
            maps=maps,
            maps_digest=digest,
            part=PartSize(*part),
            inline=inline,
            has_irregular_keys=has_irregular_keys,
            counters=counters,
            map_counters=map_counters,
            records_in=records_in,
            skipped=_unpack_skipped(skipped),
            map_skipped=_unpack_skipped(map_skipped),
            provenance=Provenance(*provenance) if provenance else _NO_PROVENANCE,
        )

    def seal_failure(self, failure: Failure, place: str) -> bytes:
        """Seal the reason why a task failed; at the place "job", why the whole job failed."""
        return self.keyring.seal(self.job, "failure", (place,), encode_failure(failure))

    def open_failure(self, place: str, blob: bytes | None) -> Failure:
        """Return the reason why a task, or the whole job, failed."""
        return decode_failure(self._open("failure", (place,), blob))

    def seal_crash(self, task: str, token: str, crash: Crash) -> bytes:
        """Seal the record at which the process of an attempt ended: JSON of all fields."""
        return self._seal_json("skip", (task, token), asdict(crash))

    def open_crash(self, task: str, token: str, blob: bytes) -> Crash:
        """Return the record at which the process of an attempt ended."""
        return Crash(**json.loads(self._open("skip", (task, token), blob)))

    def _seal(self, kind: str, place: _Place, data: bytes) -> bytes:
        return self.keyring.seal(self.job, kind, place, data, compress=True)

    def _seal_json(self, kind: str, place: _Place, record: dict[str, Any]) -> bytes:
        return self.keyring.seal(self.job, kind, place, json.dumps(record).encode())

    def _open(
        self, kind: str, place: _Place, blob: bytes | None, limit: int = _MAX_SMALL_RECORD_BYTES
    ) -> bytes:
        if blob is None:
            what = " ".join(filter(None, (kind, ", ".join(map(str, place)))))
            raise SealError(f"the {what} of job {self.job} is missing in Redis")
        return self.keyring.open(self.job, kind, place, blob, limit=limit)

    def _seal_manifest(
        self, kind: str, manifest: MapManifest | ResultManifest, body: tuple[Any, ...]
    ) -> bytes:
        data = pickle.dumps(body, PICKLE_PROTOCOL)
        return self._seal(kind, (manifest.task, manifest.token), data)

    def _open_manifest(self, kind: str, task: str, record: bytes) -> tuple[str, tuple[Any, ...]]:
        # A record is "token manifest". The token is clear text for the scripts; the seal proves it.
        token_bytes, _, blob = record.partition(b" ")
        token = token_bytes.decode("utf-8", "replace")
        data = self._open(kind, (task, token), blob, MAX_CODE_BYTES)
        return token, pickle.loads(data)  # the line above has checked the seal


def encode_failure(failure: Failure) -> bytes:
    """Return the failure as JSON, readable in any language."""
    return json.dumps(asdict(failure), separators=(",", ":")).encode()


def decode_failure(data: bytes) -> Failure:
    """Return the failure, without fields of a newer version; ValueError if ``data`` is none."""
    try:
        message = json.loads(data)
        known = {f.name: message[f.name] for f in fields(Failure) if f.name in message}
        known["frames"] = tuple(TracebackLine(**frame) for frame in known.get("frames", ()))
        known["notes"] = tuple(known.get("notes", ()))
        return Failure(**known)
    except (TypeError, KeyError) as error:
        raise ValueError(f"not a failure: {error}") from error


def _pack_provenance(provenance: Provenance) -> tuple[Any, ...]:
    # Usually (), because no library of the user's was loaded.
    return (provenance.made_by, dict(provenance.libraries)) if provenance.libraries else ()


def _pack_skipped(skipped: Skipped) -> tuple[int, tuple[bytes, ...]]:
    return skipped.total, tuple(map(encode_failure, skipped))


def _unpack_skipped(packed: tuple[int, tuple[bytes, ...]], kept: int = MAX_SKIPPED_KEPT) -> Skipped:
    total, encoded = packed
    if not total:
        return _NO_SKIPPED
    return Skipped(map(decode_failure, encoded[:kept]), total)
