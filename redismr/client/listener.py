"""The listener: follows jobs to their ends, by messages, which may be lost, and by keys."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from redismr.client.end_errors import job_vanished_error
from redismr.client.job import Job
from redismr.core.events import Event, decode_event
from redismr.core.job_payloads import JobSealer
from redismr.core.model import ENDED_STATES
from redismr.core.seal import Keyring
from redismr.errors import JobError, JobLost, KeysAltered, SealError
from redismr.store import Store
from redismr.store.channel import Subscription

END_POLL_SECONDS = 1.0
"""Seconds between two readings of the keys, whatever messages say."""

POLL_COST_RATIO = 20
"""Reading the keys takes a twentieth of the time at most, however many jobs there are."""

MAX_REMEMBERED_JOBS = 10_000


class JobEndTracker:
    """Tells each end exactly once: of one job, or of all jobs (of one txn) that end from now on.

    A single job that is asked for may have ended before.
    """

    def __init__(self, store: Store, keyring: Keyring, txn: str | None, job: str | None) -> None:
        self._store, self._keyring, self._txn, self._job = store, keyring, txn, job
        self._ended_jobs = set[str]() if job else set(self._end_states(store.recent()))
        self.next_poll_at = 0.0  #: On ``time.monotonic()``: when to read the keys again.

    def matches(self, event: Event) -> bool:
        """True if the event is about a job that is asked for."""
        return self._job in (None, event.job) and self._txn in (None, event.txn)

    def end_from_message(self, event: Event) -> Event | None:
        """Return the end that a message tells of; None if the end was told or is not true.

        If the keys of the job are gone, the message is believed: ``run`` deletes its jobs as soon
        as their results are closed.
        """
        if event.job in self._ended_jobs:
            return None
        state = event.kind
        with contextlib.suppress(KeysAltered):
            state = self._store.meta(event.job, "state").get("state") or state
        if state not in ENDED_STATES:
            return None
        self._ended_jobs.add(event.job)
        return replace(event, kind=state)

    def find_missed_ends(self) -> list[Event]:
        """Read the keys, and return the ends of which no message told; set ``next_poll_at``."""
        began = time.monotonic()
        recent = [self._job] if self._job else self._store.recent()
        ended = self._end_states([job for job in recent if job not in self._ended_jobs])
        found = [end for job, state in ended.items() if (end := self._end_event(job, state))]
        if len(self._ended_jobs) > 2 * len(recent) + MAX_REMEMBERED_JOBS:
            self._ended_jobs.intersection_update(recent)
        now = time.monotonic()
        self.next_poll_at = now + max(END_POLL_SECONDS, POLL_COST_RATIO * (now - began))
        return found

    def raise_if_job_gone(self) -> None:
        """Raise JobLost if the one job that is asked for is gone, and so has no more events."""
        if self._job is not None and not self._store.meta(self._job, "state"):
            raise job_vanished_error(self._job)

    def _end_states(self, jobs: list[str]) -> dict[str, str]:
        states = self._store.states(jobs)
        return {job: state for job, state in states.items() if state in ENDED_STATES}

    def _end_event(self, job: str, state: str) -> Event | None:
        """Return the end of a job, if the label in its sealed spec is asked for."""
        self._ended_jobs.add(job)
        with contextlib.suppress(KeysAltered, SealError):  # the job has another secret, or is none
            if blob := self._store.get_sealed(job, "spec"):
                txn = JobSealer(self._keyring, job).open_spec(blob).txn
                return Event(job, txn, 0, state) if self._txn in (None, txn) else None
        return None


def deliver_result(
    job: Job,
    fn: Callable[[str, Any], object],
    errorfn: Callable[[str, Exception], object] | None = None,
) -> object:
    """Wait for a job's end, and call ``fn`` or ``errorfn`` once; return what that returns.

    JobLost is raised in any case, and other errors of the job if there is no ``errorfn``.
    """
    try:
        results = job.result()
    except (JobError, SealError) as error:
        if errorfn is None or isinstance(error, JobLost):
            raise
        return errorfn(job.txn, error)
    return fn(job.txn, results)


def follow_events(
    store: Store, keyring: Keyring, txn: str | None = None, job: str | None = None
) -> Iterator[Event]:
    """Yield events from this call on: each job's end once, even if its message was lost."""
    ends, channel = JobEndTracker(store, keyring, txn, job), store.subscribe(txn)
    channel.get(END_POLL_SECONDS)  # subscribes now, not when the first event is asked for
    return _read_events(ends, channel, keyring)


def _read_events(ends: JobEndTracker, channel: Subscription, keyring: Keyring) -> Iterator[Event]:
    with channel:
        while True:
            message = channel.get(max(0.0, ends.next_poll_at - time.monotonic()))
            event = decode_event(message, keyring) if message else None
            # A message came: an end is told once, other events as they come.
            if event and ends.matches(event):
                if event.kind not in ENDED_STATES:
                    yield event
                elif end := ends.end_from_message(event):
                    yield end
            # Messages may have been lost, or it is time: read the keys.
            if channel.resubscribed or time.monotonic() >= ends.next_poll_at:
                yield from ends.find_missed_ends()
                ends.raise_if_job_gone()
