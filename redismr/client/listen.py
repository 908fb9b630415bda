"""Follows jobs to their ends: over pub/sub, which may lose messages, and the keys, which do not."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from redismr.client.outcome import vanished
from redismr.core.events import Event, decode
from redismr.core.model import ENDED_STATES
from redismr.core.vault import Vault
from redismr.errors import JobError, KeysAltered, SealError

if TYPE_CHECKING:
    from redismr.client.job import Job
    from redismr.core.seal import Keyring
    from redismr.store import Store

LOOK_SECONDS = 1.0
"""How often the keys are read, whatever the channel says."""

COST = 20
"""A look takes a twentieth of the time at most, however many jobs there are."""

REMEMBERED = 10_000


class Ends:
    """The jobs of one transaction, or of all, or one job, that end from now on: each once.

    One that has ended already is no news, unless it is the one that is asked for.
    """

    def __init__(self, store: Store, keyring: Keyring, txn: str | None, job: str | None) -> None:
        self._store, self._keyring, self._txn, self._job = store, keyring, txn, job
        self._txns: dict[str, str | None] = {}
        self._over: set[str] = set()
        self._due = 0.0
        if job is None:
            for _ in self.missed():
                pass
            self._due = 0.0

    @property
    def due(self) -> bool:
        """Whether the keys were not read for long."""
        return time.monotonic() >= self._due

    def heard(self, event: Event) -> Event | None:
        """The end that a message tells of, if it is news. It is believed where the keys are gone.

        ``run`` deletes its jobs as soon as their results are closed.
        """
        if event.job in self._over:
            return None
        with contextlib.suppress(KeysAltered):
            if self._store.look(event.job) is not None:
                return self._end(event.job)
        self._over.add(event.job)
        return event

    def missed(self) -> Iterator[Event]:
        """The ends that no message told of."""
        began = time.monotonic()
        recent = self._store.recent() if self._job is None else [self._job]
        for job in recent:
            if job not in self._over and (end := self._end(job)):
                yield end
        if len(self._over) + len(self._txns) > 2 * len(recent) + REMEMBERED:
            self._over.intersection_update(recent)
            self._txns = {job: self._txns[job] for job in recent if job in self._txns}
        now = time.monotonic()
        self._due = now + max(LOOK_SECONDS, COST * (now - began))

    def _end(self, job: str) -> Event | None:
        txn = self._txn_of(job)
        if txn is None or (self._txn is not None and txn != self._txn):
            return None
        with contextlib.suppress(KeysAltered):
            look = self._store.look(job)
            if look is not None and look.state in ENDED_STATES:
                self._over.add(job)
                self._txns.pop(job, None)
                return Event(job, txn, 0, look.state)
        return None

    def _txn_of(self, job: str) -> str | None:
        """Its sealed label; None if it has none yet, or another secret."""
        if job not in self._txns:
            blob = self._store.blob(job, "spec")
            if blob is None:
                return None
            try:
                self._txns[job] = Vault(self._keyring, job).open_spec(blob).txn
            except SealError:
                self._txns[job] = None
        return self._txns[job]


def deliver(
    job: Job,
    fn: Callable[[str, Any], object],
    errorfn: Callable[[str, Exception], object] | None = None,
) -> object:
    """Wait for a job's end, and hand it over once; returns what ``fn`` or ``errorfn`` does.

    Raises:
        JobError, SealError: the job's error, if no ``errorfn`` takes it.
    """
    try:
        results = job.result()
    except (JobError, SealError) as error:
        if errorfn is None:
            raise
        return errorfn(job.txn, error)
    return fn(job.txn, results)


def follow(
    store: Store, keyring: Keyring, txn: str | None = None, job: str | None = None
) -> Iterator[Event]:
    """Events from the time of the call on; each job's end once, also where its message was lost."""
    return _follow(Ends(store, keyring, txn, job), store, keyring, txn, job)


def _follow(
    ends: Ends, store: Store, keyring: Keyring, txn: str | None, job: str | None
) -> Iterator[Event]:
    with store.subscribed(txn) as channel:
        while True:
            message = channel.get(LOOK_SECONDS)
            event = decode(message, keyring) if message else None
            if event and job in (None, event.job) and txn in (None, event.txn):
                if event.kind not in ENDED_STATES:
                    yield event
                elif end := ends.heard(event):
                    yield end
            if message is None or ends.due:
                yield from ends.missed()
                if job is not None and not store.meta(job, "state"):
                    raise vanished(job)
