"""What an executor keeps of one job: its spec, its functions, what its reducers are to read."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from redismr import context
from redismr.core.events import Event, encode
from redismr.core.functions import Program, prepare
from redismr.core.kernel import UserCodeError
from redismr.core.model import KEPT_PER_JOB, Claim, JobSpec, Made, MapManifest, Skipped
from redismr.core.vault import Vault, digest_of_maps
from redismr.core.words import plural
from redismr.errors import JobLost, SealError
from redismr.shipping import digest_of, load, load_params
from redismr.shipping.libraries import SUBMITTER, told_apart
from redismr.store import Moves, number
from redismr.workers.process import process_name

if TYPE_CHECKING:
    from redismr.core.seal import Keyring
    from redismr.store import Outcome, Store


class Altered(Exception):
    """Something that decides the job was altered in Redis: no task can be trusted to it."""


@dataclass(frozen=True, slots=True)
class Brief:
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
    def read(cls, store: Store, job: str) -> Brief | None:
        """The brief of a job, or None if it is gone."""
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
class Names:
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
        brief: Brief,
        claim: Claim,
        before: Session | None = None,
    ) -> None:
        self.store = store
        self.brief = brief
        self.job = brief.job
        self.vault = Vault(keyring, brief.job)
        spec, *self._sealed = claim.opening
        self.spec = self._opened(spec, claim.now_ms)
        self.made = Made(SUBMITTER, self.spec.libraries)
        self._names: Names | None = None
        #: For one basis, what ``Store.names`` would answer: a commit may say it.
        self.named: tuple[str, Outcome | None] = "", None
        self._expire_at, self._read_at = brief.expire_at, time.monotonic()
        self.program: Program | None = None
        #: What loading the code and initfn cost: a turn must be worth it.
        self.load_seconds = 0.0
        # The same code was loaded for an earlier job: its functions serve again.
        same = before is not None and before.spec.code_digest == self.spec.code_digest
        self._warm = before.program if before is not None and same else None
        self.params: Mapping[str, Any] = {}

    @property
    def expire_at(self) -> int:
        """The job's deadline for what is staged now; renewals push it forward."""
        now = time.monotonic()
        # A renewal extends after a quarter of the ttl: a sixteenth is soon enough to hear of it.
        if now - self._read_at > self.spec.ttl_ms / 16_000:
            self._read_at = now
            found = number(self.store.meta(self.job, "expire_at").get("expire_at"))
            self._expire_at = found or self._expire_at
        return self._expire_at

    @cached_property
    def moves(self) -> Moves:
        """What is published when the job moves on."""
        return Moves(self.spec.txn, self.news("reducing"), self.news("succeeded"))

    def news(self, kind: str, **data: object) -> bytes:
        """An event of the job, signed."""
        return encode(Event(self.job, self.spec.txn, 0, kind, data), self.vault.keyring)

    def load(self) -> Program:
        """The job's functions, loaded once; initfn has run.

        Raises:
            Altered: code or params are not what the submitter sealed.
            UserCodeError: initfn raised.
            Exception: whatever importing the user's modules raises.
        """
        if self.program is None:
            started = time.monotonic()
            try:
                sealed_code, sealed_params = self._sealed or self.store.parcel(self.job)
                code = self.vault.open_code(sealed_code)
                params = self.vault.open_params(sealed_params)
            except SealError as exc:
                raise Altered(str(exc)) from exc
            if digest_of(code, params) != self.spec.code_digest:
                raise Altered(f"the code of job {self.job} is not the code of its spec")
            if (program := self._warm) is None:
                with self.told_apart("the job's code", b""):
                    f = load(code).functions
                program = prepare(
                    f.get("mapfn"),
                    f.get("reducefn"),
                    combinefn=f.get("combinefn"),
                    partitionfn=f.get("partitionfn"),
                    initfn=f.get("initfn"),
                )
            program = replace(program, sort=self.spec.sort, memory=self.spec.memory)
            with self.told_apart("the job's params", params):
                self.params = load_params(params)
            if program.initfn:
                here = context.Here(self.job, "init")
                with context.running(context.TaskContext(here, self.params, countable=False)):
                    try:
                        program.initfn()
                    except BaseException as exc:
                        raise UserCodeError("initfn") from exc
            self.program, self._sealed = program, []
            self.load_seconds = time.monotonic() - started
        return self.program

    def told_apart(
        self, what: str, data: bytes, made: Made | None = None
    ) -> AbstractContextManager[None]:
        """Say so where a library is the cause that something of the job cannot be loaded here."""
        return told_apart(what, made or self.made, data, here=process_name())

    def names(self, basis: str) -> Names | None:
        """What a reducer of this basis reads; None if the stage has closed or moved on.

        Raises:
            Altered: the sealed end or a map record is not what was sealed.
        """
        if self._names and self._names.basis == basis:
            return self._names
        said_basis, said = self.named
        if said and said_basis == basis:
            end, records = said
        else:
            state, now_basis, end, records = self.store.names(self.job)
            if state != "reducing" or now_basis != basis:
                return None
        try:
            n_map = self.vault.open_end(end)
        except SealError as exc:
            raise Altered(str(exc)) from exc
        missing = [i for i in range(n_map) if i not in records]
        if missing or len(records) != n_map:
            raise Altered(
                f"job {self.job} has {plural(n_map, 'map task')}, but Redis has the records of "
                f"{len(records)}"
            )
        manifests, counters, skipped = list[MapManifest](), dict[str, int](), Skipped()
        for i in range(n_map):
            try:
                kept = KEPT_PER_JOB - len(skipped)
                manifest = self.vault.open_map_manifest(f"m{i}", records[i], kept)
            except SealError as exc:
                raise Altered(str(exc)) from exc
            manifests.append(manifest)
            if manifest.skipped.total:
                skipped = skipped.plus(manifest.skipped)
            for name, amount in manifest.counters.items():
                counters[name] = counters.get(name, 0) + amount
        self._names = Names(
            basis,
            tuple(manifests),
            digest_of_maps({i: m.token for i, m in enumerate(manifests)}),
            counters,
            sum(m.records_in for m in manifests),
            skipped,
        )
        return self._names

    def _opened(self, blob: bytes | None, now_ms: int) -> JobSpec:
        if blob is None:
            if self.store.meta(self.job, "state"):
                raise Altered(f"the spec of job {self.job} is missing in Redis")
            raise JobLost(f"job {self.job} is gone from Redis", job_id=self.job)
        try:
            spec = self.vault.open_spec(blob)
        except SealError as exc:
            raise Altered(str(exc)) from exc
        if spec.job_id != self.job:
            raise Altered(f"the spec of job {self.job} names another job")
        # The clear fields said that this process may run the job. What counts is sealed.
        brief = self.brief
        for name, clear, sealed in (
            ("python", brief.python, spec.python),
            ("protocol", brief.protocol, spec.protocol),
            ("digest", brief.digest, spec.code_digest),
            ("lease_ms", brief.lease_ms, spec.lease_ms),
        ):
            if clear != sealed:
                raise Altered(
                    f"{name} of job {self.job} was altered in Redis: it is {sealed!r} in the "
                    f"sealed spec and {str(clear)[:40]!r} beside it"
                )
        if now_ms > spec.not_after_ms:
            raise Altered(
                f"job {self.job} is older than a job may be: an old copy of it was put back"
            )
        return spec
