"""State that an executor keeps of one job: header, spec, functions, and the input of reducers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

from redismr import context
from redismr.core.events import Event, encode_event
from redismr.core.job_payloads import JobSealer, maps_digest_of
from redismr.core.model import MAX_SKIPPED_KEPT, Claim, JobSpec, MapManifest, Provenance, Skipped
from redismr.core.plurals import pluralize
from redismr.core.seal import Keyring
from redismr.engine.kernel import UserCodeError
from redismr.engine.program import Program, prepare_program
from redismr.errors import JobLost, SealError
from redismr.shipping import digest_code, load_code, load_params
from redismr.shipping.libraries import SUBMITTER, explain_library_errors
from redismr.store import EndAndRecords, StageEvents, Store, clear_int
from redismr.workers.process_setup import process_name
from redismr.workers.shared_slots import Holding


class JobAltered(Exception):
    """Data that decides a whole job was altered in Redis, so no task of the job can be trusted."""


@dataclass(frozen=True, slots=True)
class JobHeader:
    """Tells whether this executor can take a job. Only hints: the sealed spec decides."""

    job: str
    python: str  #: ``major.minor`` of the submitter.
    key_id: str  #: Fingerprint of the secret that the job is sealed with.
    code_digest: str  #: Digest of code and params.
    protocol: int  #: ``PROTOCOL`` of the submitter.
    priority: int
    lease_ms: int  #: How long a task stays leased without a renewal.
    expire_at: int  #: When the job's keys expire, in ms on the server's clock.

    @classmethod
    def read(cls, store: Store, job: str) -> Self | None:
        """Return the header of a job, or None if the job is gone."""
        m = store.meta(
            job, "python", "protocol", "key_id", "code_digest", "priority", "lease_ms", "expire_at"
        )
        if not m:
            return None
        names = "protocol", "priority", "lease_ms", "expire_at"
        numbers = {name: clear_int(m[name]) for name in names}
        return cls(job, m["python"], m["key_id"], m["code_digest"], **numbers)


@dataclass(frozen=True, slots=True)
class MapOutputs:
    """The map attempts that one opening of the reduce stage names."""

    basis: str
    manifests: tuple[MapManifest, ...]  #: By index of the map task.
    digest: str  #: Of all tokens: equal in all results that were made from these attempts.
    counters: dict[str, int]  #: What map functions counted, over all maps.
    records_in: int  #: Records that all maps read.
    skipped: Skipped  #: Records that all maps left out.

    @classmethod
    def open(cls, sealer: JobSealer, basis: str, outputs: EndAndRecords) -> Self:
        """Verify the sealed end and all map records; JobAltered: one is not as it was sealed."""
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


class Session:
    """One job as one executor sees it. All data in it was verified with the secret."""

    def __init__(
        self,
        store: Store,
        keyring: Keyring,
        header: JobHeader,
        claim: Claim,
        previous: Session | None = None,
    ) -> None:
        self.store, self.header, self.job = store, header, header.job
        self.sealer = JobSealer(keyring, header.job)
        #: Sealed code and params, if the claim's answer brought them.
        spec, *self._sealed_code_and_params = claim.sealed_job
        self.spec = self._open_spec(spec, claim.now_ms)
        self.provenance = Provenance(SUBMITTER, self.spec.libraries)
        self._map_outputs: MapOutputs | None = None
        #: A basis and its map outputs, from the answer to a commit; None if that brought none.
        self.outputs_from_commit: tuple[str, EndAndRecords | None] = "", None
        self._expire_at, self._expire_read_at = header.expire_at, time.monotonic()
        self.program: Program | None = None
        #: Seconds that ``load`` took, initfn included. An executor's turn must be worth it.
        self.load_seconds = 0.0
        # If the same code was loaded for an earlier job, its functions are used again.
        same = previous is not None and previous.spec.code_digest == self.spec.code_digest
        self._loaded_program = previous.program if previous is not None and same else None
        self.params: Mapping[str, Any] = {}

    @property
    def expire_at(self) -> int:
        """Deadline of what is staged now, in ms on the server's clock; renewals push it forward."""
        now = time.monotonic()
        # A renewal extends it below EXTEND_BELOW_TTL of the ttl: 16 reads per ttl are enough.
        if now - self._expire_read_at > self.spec.ttl_ms / 16_000:
            self._expire_read_at = now
            found = clear_int(self.store.meta(self.job, "expire_at").get("expire_at"))
            self._expire_at = found or self._expire_at
        return self._expire_at

    def holding(
        self, nonce: str = "", tasks: tuple[str, ...] = (), next_nonce: str = ""
    ) -> Holding:
        """Return what to write into the slot for these tasks and this next claim."""
        timeout_ms = self.spec.task_timeout_ms or 0
        return Holding(self.job, nonce, next_nonce, tasks, self.header.lease_ms, timeout_ms)

    @cached_property
    def stage_events(self) -> StageEvents:
        """The events that a commit publishes when the job's stage changes."""
        return StageEvents(
            self.spec.txn, self.signed_event("reducing"), self.signed_event("succeeded")
        )

    def signed_event(self, kind: str, **data: object) -> bytes:
        """Return a signed event of the job."""
        return encode_event(Event(self.job, self.spec.txn, 0, kind, data), self.sealer.keyring)

    def load(self) -> Program:
        """Load the job's functions and run initfn, at the first call; return the functions.

        Raises:
            JobAltered: code or params are not what the submitter sealed.
            UserCodeError: initfn raised.
            Exception: an import of the user's modules raised it.
        """
        if self.program is None:
            started = time.monotonic()
            try:
                sealed_code, sealed_params = (
                    self._sealed_code_and_params or self.store.get_code_and_params(self.job)
                )
                code = self.sealer.open_code(sealed_code)
                params = self.sealer.open_params(sealed_params)
            except SealError as exc:
                raise JobAltered(str(exc)) from exc
            if digest_code(code, params) != self.spec.code_digest:
                raise JobAltered(f"the code or params of job {self.job} are not those of its spec")
            if (program := self._loaded_program) is None:
                with explain_library_errors(
                    "the job's code", self.provenance, worker=process_name()
                ):
                    functions = load_code(code).functions
                # The submitter calls finishfn; another release may know more functions.
                program = prepare_program(
                    functions.get("mapfn"),
                    functions.get("reducefn"),
                    combinefn=functions.get("combinefn"),
                    partitionfn=functions.get("partitionfn"),
                    initfn=functions.get("initfn"),
                )
            program = replace(program, sort=self.spec.sort, memory=self.spec.memory)
            with explain_library_errors(
                "the job's params", self.provenance, params, process_name()
            ):
                self.params = load_params(params)
            if program.initfn:
                here = context.Here(self.job, "init")
                with context.active_task(context.TaskContext(here, self.params, countable=False)):
                    try:
                        program.initfn()
                    except BaseException as exc:
                        raise UserCodeError("initfn") from exc
            self.program, self._sealed_code_and_params = program, []
            self.load_seconds = time.monotonic() - started
        return self.program

    def map_outputs(self, basis: str) -> MapOutputs | None:
        """Return what a reducer of this basis reads; None if the stage was closed or reopened."""
        if self._map_outputs and self._map_outputs.basis == basis:
            return self._map_outputs
        commit_basis, outputs = self.outputs_from_commit
        if outputs is None or commit_basis != basis:
            reply = self.store.map_outputs(self.job)
            if reply.state != "reducing" or reply.basis != basis:
                return None
            outputs = reply.outputs
        self._map_outputs = MapOutputs.open(self.sealer, basis, outputs)
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
        # The clear fields said that this process may run the job. Only the sealed fields count.
        for name in ("python", "protocol", "code_digest", "lease_ms"):
            clear, sealed = getattr(self.header, name), getattr(spec, name)
            if clear != sealed:
                raise JobAltered(
                    f"{name} of job {self.job} was altered in Redis: {sealed!r} in the sealed "
                    f"spec, {str(clear)[:40]!r} in the clear field"
                )
        if now_ms > spec.not_after_ms:
            raise JobAltered(
                f"job {self.job} is older than a job may be: an old copy was put back into Redis"
            )
        return spec
