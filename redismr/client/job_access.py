"""Access to one job on its server: read its state, end it, delete it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from redismr.client.end_errors import (
    end_error,
    job_not_found_error,
    job_vanished_error,
    unreachable_error,
)
from redismr.client.job_watch import JobWatch
from redismr.client.submitter import InputLost
from redismr.confidential import Unpicklable
from redismr.core.events import Event, encode_event
from redismr.core.job_payloads import JobSealer
from redismr.errors import KeysAltered, RedismrError, SealError, StoreUnavailable
from redismr.store import JobStatus, Store, clear_int

if TYPE_CHECKING:
    from redismr.client.job_options import SubmitterState
    from redismr.core.model import JobSpec
    from redismr.core.seal import Keyring

_MAX_INPUT_COUNT = 100_000_000


class JobAccess(Unpicklable):
    """The part of a handle that reads the state of one job and ends the job.

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
        self._store, self._keyring, self._spec = store, keyring, spec
        self._sealer, self._submitter_state = JobSealer(keyring, spec.job_id), submitter_state
        self._job_watch = JobWatch(store, self._sealer, spec)
        self._n_map = n_map

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
            raise job_not_found_error(self.id)
        if status != "OK":
            return False
        event = Event(self.id, self.txn, 0, "cancelled", {})
        self._store.publish(self.txn, encode_event(event, self._keyring))
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

    def _read_status(self) -> JobStatus:
        if (status := self._store.status(self.id)) is None:
            raise job_not_found_error(self.id)
        return status

    def _watch_status(self, *, with_results: bool = False) -> JobStatus:
        """Read the job's status for a caller that waits, and have the job's watch check it.

        Raises:
            JobLost: Redis does not know the job any more.
            JobFailed: the job's fields were altered. InputLost: a failover took back its input.
        """
        status = self._store.status(self.id, with_results=with_results)
        if status is None:
            raise job_vanished_error(self.id)
        try:
            self._job_watch.check(status, self._n_map)
        except InputLost:
            with contextlib.suppress(RedismrError):
                self.cancel()
            raise
        return status

    def _raise_unless_succeeded(self, status: JobStatus) -> None:
        if status.state != "succeeded":
            raise end_error(self._sealer, status, self._store.failures(self.id))

    def _unreachable_error(self, unavailable: StoreUnavailable) -> StoreUnavailable:
        if self._submitter_state and self._submitter_state.restart_worker:
            return unavailable  # the server was private: it is gone, and nobody can come back
        input_complete = self._submitter_state is None or self._n_map is not None
        return unreachable_error(unavailable, self.id, input_complete=input_complete)

    def _input_count(self) -> int:
        """Return how many map tasks may have input.

        Before the input is complete, only the clear text of the server tells.
        """
        if self._n_map is not None:
            return self._n_map
        with contextlib.suppress(SealError, KeysAltered):
            return self._sealer.open_end(self._store.get_sealed(self.id, "end"))
        with contextlib.suppress(KeysAltered):
            added = self._store.meta(self.id, "maps_added").get("maps_added")
            return min(max(0, clear_int(added)), _MAX_INPUT_COUNT)
        return 0
