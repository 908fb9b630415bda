"""The sealed things of one job: what each is made of, and the place it is bound to.

One method pair per kind, so that no caller chooses a place by hand: what was sealed as one task's
manifest cannot be opened as another's. Whatever decides a result passes through here.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from redismr.confidential import Unpicklable
from redismr.core.failure_record import decode_failure, encode_failure
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
)
from redismr.core.pickle_by_value import PICKLE_PROTOCOL
from redismr.core.seal import Keyring
from redismr.errors import SealError

MAX_CHUNK_BYTES = (1 << 20) + 64
"""Most raw bytes of one chunk: checked before anything is decompressed."""

MAX_CODE_BYTES = 64 << 20

_NO_SKIPPED = Skipped()
_NO_PROVENANCE = Provenance()


def maps_digest_of(tokens: Mapping[int, str]) -> str:
    """One name for a set of map attempts; equal exactly if every map has the same token."""
    text = ",".join(f"{index}:{tokens[index]}" for index in sorted(tokens))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class JobSealer(Unpicklable):
    """Seals and opens for one job. Every ``open_`` raises SealError if a byte is not as sealed."""

    keyring: Keyring
    job: str

    def seal_spec(self, spec: JobSpec) -> bytes:
        """The job's options."""
        return self.keyring.seal(self.job, "spec", (), json.dumps(asdict(spec)).encode())

    def open_spec(self, blob: bytes | None) -> JobSpec:
        """The job's options, as its submitter sealed them."""
        fields = json.loads(self._open("spec", (), blob))
        known = JobSpec.__dataclass_fields__
        return JobSpec(**{name: value for name, value in fields.items() if name in known})

    def seal_end(self, n_map: int) -> bytes:
        """How many map tasks there are."""
        return self.keyring.seal(self.job, "end", (), json.dumps({"n_map": n_map}).encode())

    def open_end(self, blob: bytes | None) -> int:
        """How many map tasks there are."""
        return int(json.loads(self._open("end", (), blob))["n_map"])

    def seal_code(self, code: bytes) -> bytes:
        """Functions and modules."""
        return self.keyring.seal(self.job, "code", (), code, compress=True)

    def open_code(self, blob: bytes | None) -> bytes:
        """Functions and modules."""
        return self._open("code", (), blob, MAX_CODE_BYTES)

    def seal_params(self, params: bytes) -> bytes:
        """The job's params."""
        return self.keyring.seal(self.job, "params", (), params, compress=True)

    def open_params(self, blob: bytes | None) -> bytes:
        """The job's params."""
        return self._open("params", (), blob, 512 << 20)

    def seal_input(self, task: str, piece: int, data: bytes) -> bytes:
        """One piece of a map task's split."""
        return self.keyring.seal(self.job, "input", (task, piece), data, compress=True)

    def open_input(self, task: str, piece: int, blob: bytes | None) -> bytes:
        """One piece of a map task's split."""
        return self._open("input", (task, piece), blob, MAX_CHUNK_BYTES)

    def seal_segment(self, token: str, partition: int, chunk: int, data: bytes) -> bytes:
        """One chunk of a map attempt's output for one partition."""
        return self.keyring.seal(
            self.job, "segment", (token, partition, chunk), data, compress=True
        )

    def open_segment(self, token: str, partition: int, chunk: int, blob: bytes | None) -> bytes:
        """One chunk of a map attempt's output for one partition."""
        return self._open("segment", (token, partition, chunk), blob, MAX_CHUNK_BYTES)

    def seal_result_chunk(self, token: str, partition: int, chunk: int, data: bytes) -> bytes:
        """One chunk of a partition's result."""
        return self.keyring.seal(self.job, "out", (token, partition, chunk), data, compress=True)

    def open_result_chunk(
        self, token: str, partition: int, chunk: int, blob: bytes | None
    ) -> bytes:
        """One chunk of a partition's result."""
        return self._open("out", (token, partition, chunk), blob, MAX_CHUNK_BYTES)

    def seal_map_manifest(self, manifest: MapManifest) -> bytes:
        """What a map attempt wrote."""
        parts = {p: (x.chunks, x.records, x.raw_bytes) for p, x in manifest.parts.items()}
        counts = manifest.records_in, manifest.records_out, dict(manifest.counters)
        body = (
            parts,
            dict(manifest.inline),
            *counts,
            _pack_skipped(manifest.skipped),
            _pack_provenance(manifest.provenance),
        )
        return self._seal_manifest("manifest", manifest.task, manifest.token, body)

    def open_map_manifest(
        self, task: str, record: bytes, kept: int = MAX_SKIPPED_KEPT
    ) -> MapManifest:
        """What the committed attempt of a map task wrote, from its record in ``done``.

        Of its skips at most ``kept`` in full: each is 25 us, and some KB.
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
        """What a reduce attempt wrote, and from what."""
        part = (manifest.part.chunks, manifest.part.records, manifest.part.raw_bytes)
        body = (
            manifest.basis,
            manifest.maps,
            manifest.maps_digest,
            part,
            manifest.inline,
            manifest.has_irregular_keys,
            dict(manifest.counters),
            dict(manifest.map_counters),
            manifest.records_in,
            _pack_skipped(manifest.skipped),
            _pack_skipped(manifest.map_skipped),
            _pack_provenance(manifest.provenance),
        )
        return self._seal_manifest("result", manifest.task, manifest.token, body)

    def open_result_manifest(self, partition: int, record: bytes) -> ResultManifest:
        """What the committed attempt of a partition wrote, from its record in ``result``."""
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
        """Why a task (or, at place ``job``, the whole job) failed."""
        return self.keyring.seal(self.job, "failure", (place,), encode_failure(failure))

    def open_failure(self, place: str, blob: bytes | None) -> Failure:
        """Why a task, or the whole job, failed."""
        return decode_failure(self._open("failure", (place,), blob, 1 << 20))

    def seal_crash(self, task: str, token: str, crash: Crash) -> bytes:
        """At which record the process of an attempt ended."""
        return self.keyring.seal(
            self.job, "skip", (task, token), json.dumps(asdict(crash)).encode()
        )

    def open_crash(self, task: str, token: str, blob: bytes) -> Crash:
        """At which record the process of an attempt ended."""
        return Crash(**json.loads(self._open("skip", (task, token), blob)))

    def _open(
        self, kind: str, place: tuple[str | int, ...], blob: bytes | None, limit: int = 1 << 20
    ) -> bytes:
        if blob is None:
            at = ", ".join(map(str, place))
            raise SealError(
                f"the {kind} {at} of job {self.job} is missing in Redis".replace("  ", " ")
            )
        return self.keyring.open(self.job, kind, place, blob, limit=limit)

    def _seal_manifest(self, kind: str, task: str, token: str, body: tuple[Any, ...]) -> bytes:
        data = pickle.dumps(body, PICKLE_PROTOCOL)
        return self.keyring.seal(self.job, kind, (task, token), data, compress=True)

    def _open_manifest(self, kind: str, task: str, record: bytes) -> tuple[str, tuple[Any, ...]]:
        """A record is ``token manifest``; the token is clear for the scripts, and bound here."""
        token_bytes, _, blob = record.partition(b" ")
        token = token_bytes.decode("utf-8", "replace")
        data = self._open(kind, (task, token), blob, MAX_CODE_BYTES)
        return token, pickle.loads(data)  # authenticated a line above


def _pack_provenance(provenance: Provenance) -> tuple[Any, ...]:
    """Nothing, where no library of the user's was loaded: the rule."""
    return (provenance.made_by, dict(provenance.libraries)) if provenance.libraries else ()


def _pack_skipped(skipped: Skipped) -> tuple[int, tuple[bytes, ...]]:
    return skipped.total, tuple(map(encode_failure, skipped))


def _unpack_skipped(packed: tuple[int, tuple[bytes, ...]], kept: int = MAX_SKIPPED_KEPT) -> Skipped:
    total, encoded = packed
    if not total:
        return _NO_SKIPPED
    return Skipped(map(decode_failure, encoded[:kept]), total)
