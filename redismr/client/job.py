"""``Job``: the handle of one submitted job, in the process that submitted it or in another.

Its duties are cut into ``JobAccess`` (state, cancel, delete), ``AwaitableJob`` (wait for the end)
and ``ReadableJob`` (read the results), each built on the one before.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from redismr.client.end_errors import failures_by_task
from redismr.client.job_progress import progress_of
from redismr.client.job_reading import ReadableJob
from redismr.client.job_waiting import deadline_of
from redismr.core.model import Failure, Skipped
from redismr.core.status_rows import Progress
from redismr.store import Store


class Job(ReadableJob):
    """The handle of a submitted job. Thread-safe.

    Making a handle costs nothing: the server is asked when a method is called. While Redis is away,
    each call waits up to ``wait_for_server`` seconds (a job option, 30 by default), and then raises
    ``StoreUnavailable``. For a job that Redis does not know any more, ``wait``, ``result`` and
    iteration raise ``JobLost``, and other calls ``JobNotFound``.

    >>> from redismr import Client
    >>> with Client(executors=1) as client:
    ...     job = client.submit(["b", "a", "b"], lambda item: [(item, 1)], "sum", txn="letters")
    ...     job.wait(), job.state, job.txn, dict(job.result())
    (True, 'succeeded', 'letters', {'b': 2, 'a': 1})

    Attributes:
        id: the id of the job, which no other job ever has.
        txn: the caller's label; the id if the caller gave none.
    """

    def __repr__(self) -> str:
        return f"<Job {self.id}>"

    @property
    def state(self) -> str:
        """State of the job: submitting, mapping, reducing, succeeded, failed or cancelled.

        >>> from redismr import Client
        >>> with Client(executors=1) as client:
        ...     job = client.submit([0], lambda item: [(item, 1 / item)], retries=0)
        ...     job.wait(), job.state
        (True, 'failed')

        Raises:
            JobNotFound: Redis does not know the job any more.
            StoreUnavailable: Redis was away for ``wait_for_server`` seconds.
        """
        return self._read_status().state

    @property
    def counters(self) -> dict[str, int]:
        """The counters of user functions, each task once; empty until the job has succeeded.

        >>> from redismr import Client, count
        >>> with Client(executors=1) as client:
        ...     job = client.submit(["a", "b"], lambda item: count("items"))
        ...     job.wait(), job.counters
        (True, {'items': 2})
        """
        if self._results is not None:
            return dict(self._results.counters)
        if self.state == "succeeded":
            return self._collect().counters
        return {}

    def progress(self) -> Progress:
        """Return how far the job is: a hint for people, from clear text of the server.

        A caller that asks each second is expected to show ``Progress.waiting``, the reason why the
        job waits; ``wait`` does not print the reason then.

        >>> from redismr import Client
        >>> with Client(executors=1) as client:
        ...     job = client.submit(["a"], lambda item: [(item, 1)], partitions=2)
        ...     job.wait(), job.progress().reduces_done
        (True, 2)
        """
        return progress_of(self._read_status(), self._spec, self._idle_explainer)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the job has ended in any way; return False after ``timeout`` seconds.

        The timeout is checked only while Redis answers.

        >>> import time
        >>> from redismr import Client
        >>> with Client(executors=1) as client:
        ...     job = client.submit([1], lambda item: time.sleep(item))
        ...     job.wait(0.1), job.wait()
        (False, True)

        Raises:
            JobLost: the job vanished from Redis.
            StoreUnavailable: Redis was away for ``wait_for_server`` seconds.
            NoWorkers: no worker took the job within ``wait_for_workers`` seconds.
            ConfigError: ``timeout`` is not a number of seconds.
        """
        return self._wait_for_end(deadline_of(timeout)) is not None

    def result(self, timeout: float | None = None, *, finish: bool = True) -> Any:
        """Wait for the job, and return its ``Results``, or what its finishfn makes of them.

        With ``finish=False`` finishfn is not called, and the return value is always ``Results``,
        which fetch a few MB at a time as they are read. A second call returns the same results.

        >>> from redismr import Client
        >>> with Client(executors=1) as client:
        ...     job = client.submit(["b", "a", "b"], lambda item: [(item, 1)], "sum", finishfn=len)
        ...     job.result(), job.result(finish=False)["b"]
        (2, 2)

        Raises:
            MapError, ReduceError: user code raised; the error is also an instance of the original
                class, if this process can import that.
            JobFailed, JobCancelled, JobLost: the job ended without a result.
            JobTimeout: ``timeout`` seconds are over; the job goes on.
            NoWorkers: no worker took the job within ``wait_for_workers`` seconds.
            SealError: what is in Redis is not what the workers put there.
            StoreUnavailable: Redis was away for ``wait_for_server`` seconds; the timeout is
                checked only while Redis answers.
            Exception: what finishfn raised; the results stay readable.
        """
        results = self._wait_for_results(timeout)
        return self._apply_finishfn(results) if finish else results

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        """Yield (key, value) pairs, partition by partition as the reduce tasks finish.

        Each partition is delivered once, in any order; up to 4 MB of it are in memory.

        >>> from redismr import Client
        >>> with Client(executors=1) as client:
        ...     sorted(client.submit(["b", "a", "b"], lambda item: [(item, 1)], "sum"))
        [('a', 1), ('b', 2)]

        Raises, after some pairs:
            JobError: the job fails later, or lost data has a partition that was delivered computed
                again.
        """
        for pairs in self._iterate_columns():
            # Not by itertools.chain: two threads that share it would skip pairs.
            yield from pairs

    def errors(self) -> list[Failure]:
        """Return the failed attempts that workers reported: the last one of each task.

        Failures are in the order of their tasks; those that are not sealed are left out.

        >>> from redismr import Client
        >>> with Client(executors=1) as client:
        ...     job = client.submit([0], lambda item: [(item, 1 / item)], retries=0)
        ...     job.wait(), [failure.error_name for failure in job.errors()]
        (True, ['ZeroDivisionError'])
        """
        return list(failures_by_task(self._sealer, self._store.failures(self.id)).values())

    def skipped(self) -> Skipped:
        """Return the records, and keys of reducefn, that ``on_error`` left out.

        The return value is a sequence of failures of kind "skipped" that say where, on what and
        why: the first 1000 of ``.total``. Before the job has succeeded they are those of its
        finished tasks.

        >>> from redismr import Client
        >>> with Client(executors=1) as client:
        ...     job = client.submit([0, 1], lambda item: [(item, 1 / item)], on_error="skip")
        ...     job.wait(), [(skip.where, skip.error_name) for skip in job.skipped()]
        (True, [('item 0 (key 0)', 'ZeroDivisionError')])

        Raises:
            SealError: what is in Redis is not what the workers put there.
        """
        return self._collect_skipped()

    def _with_store(self, store: Store) -> Job:
        return Job(store, self._keyring, self._spec, self._submitter_state, self._n_map)
