"""Waiting for the end of one job, with its progress or the reason why there is none; ending it."""

import contextlib
import math
import time
from dataclasses import replace

from redismr.client import end_errors
from redismr.client.job_options import SubmitterState, scheduling_fields
from redismr.client.job_progress import ProgressObserver
from redismr.client.submitter import InputRolledBack, JobEnded, close_input, input_lost_error
from redismr.confidential import Unpicklable
from redismr.config import LEAP_YEAR_SECONDS, seconds_rule
from redismr.core.events import Event, decode_event, encode_event
from redismr.core.job_payloads import JobSealer
from redismr.core.model import ENDED_STATES, RUNNING_STATES, JobSpec, Skipped
from redismr.core.seal import Keyring
from redismr.errors import KeysAltered, NoWorkers, RedismrError, SealError, StoreUnavailable
from redismr.store import LIMITS, JobStatus, Store, clear_int
from redismr.store.channel import Subscription

JOB_POLL_SECONDS = 1.0
"""A waiting caller reads the status this often, whatever is published: messages may be lost."""

PROGRESS_SECONDS = 0.2
"""Progress is shown this often."""

ANNOUNCE_SECONDS = 2.0
"""A job that is waited for is listed again this often, in case the index lost it."""

_MAX_INPUT_COUNT = 100_000_000
_TIMEOUT_RULE = seconds_rule(
    -math.inf, LEAP_YEAR_SECONDS, "a number of seconds, at most 366 days; None waits for ever"
)
_END_STATE_BYTES = [state.encode() for state in ENDED_STATES]
"""Encoded as in a message: a message without any of these states need not be authenticated."""


class AwaitableJob(Unpicklable):
    """The part of a handle that waits for the end of one job, or ends the job.

    ``submitter_state`` is None in a process that did not submit the job. ``n_map`` is the number
    of map tasks, once this process has added all of them: Redis may forget tasks in a failover.
    """

    def __init__(
        self,
        store: Store,
        keyring: Keyring,
        spec: JobSpec,
        submitter_state: SubmitterState | None = None,
        n_map: int | None = None,
    ) -> None:
        self.id, self.txn = spec.job_id, spec.txn
        self._store, self._spec, self._n_map = store, spec, n_map
        self._sealer, self._submitter_state = JobSealer(keyring, spec.job_id), submitter_state
        self._observer = ProgressObserver(store, keyring, spec)
        self._show_progress = submitter_state.show_progress if submitter_state else None
        self._progress_shown_at = 0.0
        self._reported_at = self._announced_at = time.monotonic()

    def cancel(self) -> bool:
        """Stop the job and free its input and intermediate data; False if it had ended before.

        >>> from redismr import Client
        >>> with Client(executors=1) as client:
        ...     job = client.submit([60], lambda seconds: __import__("time").sleep(seconds))
        ...     job.cancel(), job.state, job.cancel()
        (True, 'cancelled', False)

        Raises:
            JobNotFound: Redis does not know the job any more.
        """
        status = self._store.cancel(self.id)
        if status == "GONE":
            raise end_errors.job_not_found_error(self.id)
        if status != "OK":
            return False
        event = Event(self.id, self.txn, 0, "cancelled", {})
        self._store.publish(self.txn, encode_event(event, self._sealer.keyring))
        self._store.free_bulk(self.id, self._input_count(), self._spec.partitions)
        self._store.move_last(self.id, self._store.server_ms())
        return True

    def delete(self) -> None:
        """Delete the job and its results from Redis; if it runs, cancel it first.

        Deleting a job that is gone does nothing.

        >>> from redismr import Client
        >>> with Client(executors=1) as client:
        ...     job = client.submit(["a"], lambda item: [(item, 1)])
        ...     job.delete()
        ...     job.id in [info.job_id for info in client.jobs()]
        False
        """
        # A submitter that is still at work must not add tasks that nobody would delete.
        if self._n_map is None:
            with contextlib.suppress(KeysAltered):
                self._store.cancel(self.id)
        self._store.delete(self.id, self._input_count(), self._spec.partitions)

    def _input_count(self) -> int:
        """Return how many map tasks may have input: from clear text, if its end is not sealed."""
        if self._n_map is not None:
            return self._n_map
        with contextlib.suppress(SealError, KeysAltered):
            return self._sealer.open_end(self._store.get_sealed(self.id, "end"))
        with contextlib.suppress(KeysAltered):
            added = self._store.meta(self.id, "maps_added").get("maps_added")
            return min(max(0, clear_int(added)), _MAX_INPUT_COUNT)
        return 0

    def _read_status(self) -> JobStatus:
        if (status := self._store.status(self.id)) is None:
            raise end_errors.job_not_found_error(self.id)
        return status

    def _watch_status(self, *, with_results: bool = False) -> JobStatus:
        """Read the job's status for a caller that waits; repair what a failover took back.

        So a job that is waited for cannot stand still without an error.

        Raises:
            JobLost: Redis does not know the job any more.
            JobFailed: the job's fields were altered. InputLost: a failover took back its input.
        """
        status = self._store.status(self.id, with_results=with_results)
        if status is None:
            raise end_errors.job_vanished_error(self.id)
        if status.state in ENDED_STATES:
            return status
        if time.monotonic() - self._announced_at > ANNOUNCE_SECONDS:
            self._announced_at = time.monotonic()
            self._store.announce(self.id, self._spec.priority, self._spec.submitted_ms)
        alteration = altered_field(status, self._spec, self._sealer.keyring.key_id)
        if status.state == "submitting":
            # The end of the input is sealed: then the state must not be "submitting" any more. One
            # script writes both, so a state that is read after the end is a later one.
            if self._store.get_sealed(self.id, "end") is not None:
                later = self._store.status(self.id)
                if later and later.state == "submitting":
                    why = "its state says that the input is incomplete, but it is complete"
                    alteration = alteration or why
            # This process has closed the input, and a failover took that back: close it again.
            elif self._n_map is not None:
                self._close_input_again(self._n_map)
        if alteration:
            raise end_errors.fail_as_altered(self._store, self._sealer, alteration)
        return status

    def _close_input_again(self, n_map: int) -> None:
        """Close the input once more, after a failover that took the server back to before that.

        The source is not read again: it may have changed since ``submit`` returned.
        """
        try:
            close_input(self._store, self._sealer, self._spec.python, n_map)
        except JobEnded:
            return  # the next status tells how it ended
        except InputRolledBack:
            with contextlib.suppress(RedismrError):
                self.cancel()
            raise input_lost_error(self.id, "after all of it had been submitted") from None

    def _raise_unless_succeeded(self, status: JobStatus) -> None:
        if status.state != "succeeded":
            raise end_errors.end_error(self._sealer, status, self._store.failures(self.id))

    def _unreachable_error(self, unavailable: StoreUnavailable) -> StoreUnavailable:
        """Return the error for a server that was away too long: how to come back to the job."""
        state = self._submitter_state
        if state and state.restart_worker:
            return unavailable  # the server was private: it is gone, and nobody can come back
        is_complete = state is None or self._n_map is not None
        doing = "may still be running" if is_complete else "may have only a part of its input"
        error = StoreUnavailable(
            f"{unavailable}\n  job {self.id} {doing}. When Redis is back: redismr result {self.id} "
            "--wait"
        )
        error.job_id = self.id
        return error

    def _wait_for_end(
        self, deadline: float | None, *, with_results: bool = False
    ) -> JobStatus | None:
        """Return the status at the job's end; None at the ``deadline``, a ``time.monotonic()``."""
        try:
            with self._store.subscribe(self.txn) as channel:
                # Right after its submission no job has ended: a first look would be in vain.
                if self._n_map is not None and deadline is None:
                    channel.get(JOB_POLL_SECONDS)
                while True:
                    status = self._watch_status(with_results=with_results)
                    self._report(status)
                    # The job has ended.
                    if status.state in ENDED_STATES:
                        return status
                    remaining = JOB_POLL_SECONDS
                    if deadline is not None:
                        remaining = min(remaining, deadline - time.monotonic())
                    # The caller's time is over.
                    if remaining <= 0:
                        return None
                    # The job runs: wait for a message of its end, or for the next look.
                    if self._show_progress:
                        remaining = min(remaining, PROGRESS_SECONDS)
                    self._wait_for_end_event(channel, remaining)
        except StoreUnavailable as unavailable:
            raise self._unreachable_error(unavailable) from unavailable.__cause__

    def _wait_for_end_event(self, channel: Subscription, seconds: float) -> None:
        """Wait until a message says that the job has ended, the channel is cut, or time is over.

        Other messages do not end the wait: a look at the job for each of them would slow down the
        workers that send them.
        """
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if (message := channel.get(left)) is None:
                return
            # Most messages tell of no end. Authenticating one takes 30 us; a small job sends six.
            if not any(state in message for state in _END_STATE_BYTES):
                continue
            event = decode_event(message, self._sealer.keyring)
            if event is not None and event.job == self.id and event.kind in ENDED_STATES:
                return

    def _on_submit_step(self) -> None:
        """Report the progress now and then; the submitter calls this often."""
        now = time.monotonic()
        if now - self._reported_at >= PROGRESS_SECONDS:
            self._reported_at = now
            self._report(self._watch_status())

    def _report(self, status: JobStatus) -> None:
        """Show the progress, or print on stderr why there is none."""
        now, ended = time.monotonic(), status.state in ENDED_STATES
        submitter = self._submitter_state
        shows_progress = self._show_progress is not None
        if shows_progress and (ended or now - self._progress_shown_at >= PROGRESS_SECONDS):
            self._progress_shown_at = now
            self._show(status)
        if ended:
            return
        if submitter and submitter.restart_worker:
            submitter.restart_worker()
        self._observer.observe(status, silent=shows_progress)
        wait_limit = submitter.wait_for_workers if submitter else None
        if wait_limit is not None and self._observer.idle_seconds > wait_limit:
            raise NoWorkers(
                f"no worker took job {self.id} within {wait_limit:g} s: "
                f"{self._observer.reason() or 'all of them are busy with other jobs'}",
                job_id=self.id,
            )

    def _show(self, status: JobStatus, skipped: Skipped | None = None) -> None:
        """Show the progress, if the caller wants to see any; at the end with skipped records."""
        if self._show_progress:
            progress = self._observer.progress(status)
            self._show_progress(replace(progress, skipped=skipped) if skipped else progress)


def deadline_of(timeout: float | None) -> float | None:
    """Return the time of ``time.monotonic()`` in ``timeout`` seconds; None for never."""
    if timeout is None:
        return None
    return time.monotonic() + float(_TIMEOUT_RULE.check("timeout", timeout))


def altered_field(status: JobStatus, spec: JobSpec, key_id: str) -> str:
    """Return which clear field of a running job differs from its sealed spec; empty if none does.

    No result depends on these fields, but with an altered one the job could stop without a reason.
    """
    if status.state not in RUNNING_STATES:
        return "its state in Redis is not the state of a job"
    for name, sealed in (scheduling_fields(spec, key_id) | {"ttl_ms": spec.ttl_ms}).items():
        if status.meta.get(name) != str(sealed):
            return f"{name} in Redis differs from what was submitted"
    deadline_ms = clear_int(status.meta.get("expire_at")) - status.now_ms
    if not 0 < deadline_ms < LIMITS["MAX_TTL_MS"].value:
        return "its deadline (expire_at) in Redis is impossible"
    return ""
