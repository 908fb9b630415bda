"""Waiting for the end of one job, with its progress or the reason why there is none."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from redismr.client.job_access import JobAccess
from redismr.client.job_progress import progress_of
from redismr.client.wait_reasons import IdleExplainer
from redismr.config import LEAP_YEAR_SECONDS, seconds_rule
from redismr.core.events import decode_event
from redismr.core.model import ENDED_STATES
from redismr.errors import NoWorkers, StoreUnavailable

if TYPE_CHECKING:
    from redismr.client.job_options import SubmitterState
    from redismr.core.model import JobSpec, Skipped
    from redismr.core.seal import Keyring
    from redismr.store import JobStatus, Store
    from redismr.store.channel import Subscription

JOB_POLL_SECONDS = 1.0
"""A waiting caller reads the status this often, whatever is published: messages may be lost."""

PROGRESS_SECONDS = 0.2
"""Progress is shown this often."""

_TIMEOUT_RULE = seconds_rule(
    -math.inf, LEAP_YEAR_SECONDS, "a number of seconds, at most 366 days; None waits for ever"
)
_END_STATE_BYTES = [state.encode() for state in ENDED_STATES]
"""Encoded as in a message: a message without any of these states need not be authenticated."""


class AwaitableJob(JobAccess):
    """A job whose end can be waited for."""

    def __init__(
        self,
        store: Store,
        keyring: Keyring,
        spec: JobSpec,
        submitter_state: SubmitterState | None = None,
        n_map: int | None = None,
    ) -> None:
        super().__init__(store, keyring, spec, submitter_state, n_map)
        self._idle_explainer = IdleExplainer(store, keyring, spec)
        self._show_progress = submitter_state.show_progress if submitter_state else None
        self._progress_shown_at = 0.0
        self._reported_at = time.monotonic()

    def _wait_for_end(
        self, deadline: float | None, *, with_results: bool = False
    ) -> JobStatus | None:
        """Return the status that shows the end of the job; None if the deadline came first.

        ``deadline`` is a time of ``time.monotonic()``; None waits for ever.
        """
        try:
            return self._poll_until_end(deadline, with_results=with_results)
        except StoreUnavailable as unavailable:
            raise self._unreachable_error(unavailable) from unavailable.__cause__

    def _poll_until_end(self, deadline: float | None, *, with_results: bool) -> JobStatus | None:
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
                # The job runs: wait for a message that tells of its end, or for the next look.
                if self._show_progress:
                    remaining = min(remaining, PROGRESS_SECONDS)
                wait_for_end_event(channel, self._keyring, self.id, remaining)

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
        self._idle_explainer.observe(status, silent=shows_progress)
        wait_limit = submitter.wait_for_workers if submitter else None
        if wait_limit is not None and self._idle_explainer.idle_seconds > wait_limit:
            raise NoWorkers(
                f"no worker took job {self.id} within {wait_limit:g} s: "
                f"{self._idle_explainer.reason() or 'all of them are busy with other jobs'}",
                job_id=self.id,
            )

    def _show(self, status: JobStatus, skipped: Skipped | None = None) -> None:
        """Show the progress, if the caller wants to see any; at the end with skipped records."""
        if self._show_progress:
            progress = progress_of(status, self._spec, self._idle_explainer)
            self._show_progress(replace(progress, skipped=skipped) if skipped else progress)


def deadline_of(timeout: float | None) -> float | None:
    """Return the time of ``time.monotonic()`` in ``timeout`` seconds; None for never.

    Raises:
        ConfigError: the timeout is not a number, or is longer than 366 days.
    """
    if timeout is None:
        return None
    return time.monotonic() + float(_TIMEOUT_RULE.check("timeout", timeout))


def wait_for_end_event(channel: Subscription, keyring: Keyring, job: str, seconds: float) -> None:
    """Wait until a message says that the job has ended, the channel is cut, or time is over.

    Other messages do not end the wait: a look at the job for each of them would slow down the
    workers that send them.
    """
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if (message := channel.get(left)) is None:
            return
        # Most messages tell of no end. Authenticating one takes 30 us, and a small job sends six.
        if not any(state in message for state in _END_STATE_BYTES):
            continue
        event = decode_event(message, keyring)
        if event is not None and event.job == job and event.kind in ENDED_STATES:
            return
