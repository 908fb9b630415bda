"""What an executor keeps of one job: its spec, its functions, what its reducers are to read."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from redismr import context
from redismr.core.events import Event, encode_event
from redismr.core.job_payloads import JobSealer, maps_digest_of
from redismr.core.model import MAX_SKIPPED_KEPT, Claim, JobSpec, MapManifest, Provenance, Skipped
from redismr.core.plurals import pluralize
from redismr.engine.kernel import UserCodeError
from redismr.engine.program import Program, prepare_program
from redismr.errors import JobLost, SealError
from redismr.shipping import digest_code, load_code, load_params
from redismr.shipping.libraries import SUBMITTER, explain_library_errors
from redismr.store import StageEvents, number
from redismr.workers.process_setup import process_name

if TYPE_CHECKING:
    from redismr.core.seal import Keyring
    from redismr.store import EndAndRecords, Store


class JobAltered(Exception):
    """Something that decides the job was altered in Redis: no task can be trusted to it."""


@dataclass(frozen=True, slots=True)
class JobHeader:
    """The clear fields of a job that say whether this executor can take it. Only hints."""

    job: str
    python: str
    protocol: int
    key_id: str
    digest: str
    priority: int
    lease_ms: int
    expire_at: int

    @classmethod
    def read(cls, store: Store, job: str) -> JobHeader | None:
        """The header of a job, or None if it is gone."""
        m = store.meta(
            job, "python", "protocol", "key_id", "digest", "priority", "lease_ms", "expire_at"
        )
        if not m:
            return None
        return cls(
            job,
            m["python"],
            number(m["protocol"]),
            m["key_id"],
            m["digest"],
            number(m["priority"]),
            number(m["lease_ms"]),
            number(m["expire_at"]),
        )


@dataclass(frozen=True, slots=True)
class MapOutputs:
    """The map attempts that one opening of the reduce stage names: all of them, verified."""

    basis: str
    manifests: tuple[MapManifest, ...]
    digest: str
    counters: dict[str, int]
    records_in: int
    skipped: Skipped


class Session:
    """One job as one executor sees it. Everything in it was opened with the secret."""

    def __init__(
        self,
        store: Store,
        keyring: Keyring,
        header: JobHeader,
        claim: Claim,
        previous: Session | None = None,
    ) -> None:
        self.store = store
        self.header = header
        self.job = header.job
        self.sealer = JobSealer(keyring, header.job)
        spec, *self._sealed_parcel = claim.sealed_job
        self.spec = self._open_spec(spec, claim.now_ms)
        self.provenance = Provenance(SUBMITTER, self.spec.libraries)
        self._map_outputs: MapOutputs | None = None
        #: For one basis, what ``Store.map_outputs`` would answer: a commit may say it.
        self.outputs_from_commit: tuple[str, EndAndRecords | None] = "", None
        self._expire_at, self._expire_read_at = header.expire_at, time.monotonic()
        self.program: Program | None = None
        #: What loading the code and initfn cost: a turn must be worth it.
        self.load_seconds = 0.0
        # The same code was loaded for an earlier job: its functions serve again.
        same = previous is not None and previous.spec.code_digest == self.spec.code_digest
        self._loaded_program = previous.program if previous is not None and same else None
        self.params: Mapping[str, Any] = {}

    @property
    def expire_at(self) -> int:
        """The job's deadline for what is staged now; renewals push it forward."""
        now = time.monotonic()
        # A renewal extends after a quarter of the ttl: a sixteenth is soon enough to hear of it.
        if now - self._expire_read_at > self.spec.ttl_ms / 16_000:
            self._expire_read_at = now
            found = number(self.store.meta(self.job, "expire_at").get("expire_at"))
            self._expire_at = found or self._expire_at
        return self._expire_at

    @cached_property
    def stage_events(self) -> StageEvents:
        """What is published when the job moves on."""
        return StageEvents(
            self.spec.txn, self.signed_event("reducing"), self.signed_event("succeeded")
        )

    def signed_event(self, kind: str, **data: object) -> bytes:
        """An event of the job, signed."""
        return encode_event(Event(self.job, self.spec.txn, 0, kind, data), self.sealer.keyring)

    def load(self) -> Program:
        """The job's functions, loaded once; initfn has run.

        Raises:
            JobAltered: code or params are not what the submitter sealed.
            UserCodeError: initfn raised.
            Exception: whatever importing the user's modules raises.
        """
        if self.program is None:
            started = time.monotonic()
            try:
                sealed_code, sealed_params = self._sealed_parcel or self.store.get_code_and_params(
                    self.job
                )
                code = self.sealer.open_code(sealed_code)
                params = self.sealer.open_params(sealed_params)
            except SealError as exc:
                raise JobAltered(str(exc)) from exc
            if digest_code(code, params) != self.spec.code_digest:
                raise JobAltered(f"the code of job {self.job} is not the code of its spec")
            if (program := self._loaded_program) is None:
                with self.explain_library_errors("the job's code", b""):
                    f = load_code(code).functions
                program = prepare_program(
                    f.get("mapfn"),
                    f.get("reducefn"),
                    combinefn=f.get("combinefn"),
                    partitionfn=f.get("partitionfn"),
                    initfn=f.get("initfn"),
                )
            program = replace(program, sort=self.spec.sort, memory=self.spec.memory)
            with self.explain_library_errors("the job's params", params):
                self.params = load_params(params)
            if program.initfn:
                here = context.Here(self.job, "init")
                with context.active_task(context.TaskContext(here, self.params, countable=False)):
                    try:
                        program.initfn()
                    except BaseException as exc:
                        raise UserCodeError("initfn") from exc
            self.program, self._sealed_parcel = program, []
            self.load_seconds = time.monotonic() - started
        return self.program

    def explain_library_errors(
        self, what: str, data: bytes, provenance: Provenance | None = None
    ) -> AbstractContextManager[None]:
        """Say so where a library is the cause that something of the job cannot be loaded here."""
        return explain_library_errors(
            what, provenance or self.provenance, data, worker=process_name()
        )

    def map_outputs(self, basis: str) -> MapOutputs | None:
        """What a reducer of this basis reads; None if the stage has closed or moved on.

        Raises:
            JobAltered: the sealed end or a map record is not what was sealed.
        """
        if self._map_outputs and self._map_outputs.basis == basis:
            return self._map_outputs
        commit_basis, from_commit = self.outputs_from_commit
        if from_commit and commit_basis == basis:
            end, records = from_commit
        else:
            reply = self.store.map_outputs(self.job)
            if reply.state != "reducing" or reply.basis != basis:
                return None
            end, records = reply.outputs
        try:
            n_map = self.sealer.open_end(end)
        except SealError as exc:
            raise JobAltered(str(exc)) from exc
        missing = [i for i in range(n_map) if i not in records]
        if missing or len(records) != n_map:
            raise JobAltered(
                f"job {self.job} has {pluralize(n_map, 'map task')}, but Redis has the records of "
                f"{len(records)}"
            )
        manifests, counters, skipped = list[MapManifest](), dict[str, int](), Skipped()
        for i in range(n_map):
            try:
                kept = MAX_SKIPPED_KEPT - len(skipped)
                manifest = self.sealer.open_map_manifest(f"m{i}", records[i], kept)
            except SealError as exc:
                raise JobAltered(str(exc)) from exc
            manifests.append(manifest)
            if manifest.skipped.total:
                skipped = skipped.plus(manifest.skipped)
            for name, amount in manifest.counters.items():
                counters[name] = counters.get(name, 0) + amount
        self._map_outputs = MapOutputs(
            basis,
            tuple(manifests),
            maps_digest_of({i: m.token for i, m in enumerate(manifests)}),
            counters,
            sum(m.records_in for m in manifests),
            skipped,
        )
        return self._map_outputs

    def _open_spec(self, blob: bytes | None, now_ms: int) -> JobSpec:
        if blob is None:
            if self.store.meta(self.job, "state"):
                raise JobAltered(f"the spec of job {self.job} is missing in Redis")
            raise JobLost(f"job {self.job} is gone from Redis", job_id=self.job)
        try:
            spec = self.sealer.open_spec(blob)
        except SealError as exc:
            raise JobAltered(str(exc)) from exc
        if spec.job_id != self.job:
            raise JobAltered(f"the spec of job {self.job} names another job")
        # The clear fields said that this process may run the job. What counts is sealed.
        header = self.header
        for name, clear, sealed in (
            ("python", header.python, spec.python),
            ("protocol", header.protocol, spec.protocol),
            ("digest", header.digest, spec.code_digest),
            ("lease_ms", header.lease_ms, spec.lease_ms),
        ):
            if clear != sealed:
                raise JobAltered(
                    f"{name} of job {self.job} was altered in Redis: it is {sealed!r} in the "
                    f"sealed spec and {str(clear)[:40]!r} beside it"
                )
        if now_ms > spec.not_after_ms:
            raise JobAltered(
                f"job {self.job} is older than a job may be: an old copy of it was put back"
            )
        return spec
