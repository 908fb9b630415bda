"""Every error redismr raises, and the one tree they form.

```
RedismrError
  ConfigError (ValueError)            a wrong option, URL or secret; nothing was started
  SourceError                         input that cannot be read: which file, which byte
    SourceChanged                     a file is not the one that was split
    BadInput                          a record in another encoding, no JSON, no CSV; a cut .gz
    SourceRaised                      the source's code raised; also an instance of that class
  CodeError                           functions or modules that cannot be shipped or loaded
    RunawayJob                        a module that starts its job whenever it is loaded
  DebuggerError                       breakpoint() or pdb on a worker, where nobody can type
  RecordError (TypeError)             what user code emitted cannot be used, by name
    BadPair                           mapfn yielded something that is not a pair
    BadKey                            a key that is unhashable or has no stable hash
    BadValue                          a value that cannot be pickled
  SealError                           bytes from Redis that are not what the secret signed
    WrongSecret                       signed with another secret: both fingerprints are named
  StoreError                          Redis answered with a fault
    StoreUnavailable (ConnectionError)  no answer: try again later; .job_id may still be running
    StoreFull                         the server is at maxmemory
    UnfitServer                       a server that cannot run jobs, or not for this user
    KeysAltered                       a key holds what redismr never puts there
  JobError                            what became of one job: .job_id, .failure of a task
    JobNotFound                       no such job, or its ttl is over
    JobLost                           the job's keys vanished while it ran
    JobCancelled
    NoWorkers (TimeoutError)          no worker took the job in time, and why
    JobTimeout (TimeoutError)         result(timeout) ran out; the job goes on
    LibraryMismatch (ImportError)     a library that data needs is missing, or another version
    JobFailed                         the job ended without a result; .failure if a task failed
      SubmitterLost                   the submitter died before the input was complete
      TooManySkipped                  more records failed than on_error allows to skip
      TaskError                       user code raised; also an instance of the original class
        MapError
        ReduceError
  ResultsClosed                       the results' job was deleted
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redismr.core.model import Failure


def error_phrase(error: object) -> str:
    """Return the text of a foreign error without its full stop, to be used within a sentence.

    >>> error_phrase(ValueError("no more.")), error_phrase("and so on...")
    ('no more', 'and so on...')
    """
    text = str(error)
    return text if text.endswith("..") else text.removesuffix(".")


class RedismrError(Exception):
    """The root of every error that redismr raises on purpose."""


class ConfigError(RedismrError, ValueError):
    """A wrong option, URL or secret. Nothing was started."""


class SourceError(RedismrError):
    """Input that cannot be read; the message names the file and, where known, the byte."""


class SourceChanged(SourceError):
    """A file is not as it was when it was split: reading on could double or cut lines."""


class BadInput(SourceError):
    """A record in another encoding, no JSON, no CSV; a cut .gz. Never retried: all see it."""


class SourceRaised(SourceError):
    """The source's own code raised. Also an instance of the original exception's class."""


class CodeError(RedismrError):
    """A function or module cannot be sent to workers, or cannot be loaded there."""


class RunawayJob(CodeError):
    """A job would start itself again without end, because its module starts it on import."""


class DebuggerError(RedismrError):
    """User code called a debugger on a worker, where nobody can type: run it with inline=True."""


class RecordError(RedismrError, TypeError):
    """User code emitted a record that cannot be used. Never retried: it would fail again."""


class BadPair(RecordError):
    """mapfn (or an iterator-form reducer) emitted something that is not a (key, value) pair."""


class BadKey(RecordError):
    """A key that is unhashable, or whose hash differs from process to process."""


class BadValue(RecordError):
    """A value that cannot be pickled."""


NOT_RETRYABLE = (RecordError, BadInput, SourceChanged, RunawayJob, DebuggerError)
"""Errors that every other attempt of the task would meet again, on any worker."""


class SealError(RedismrError):
    """Bytes in Redis are not the ones that a holder of the secret put at that place."""


class WrongSecret(SealError):
    """Bytes were sealed with another secret; the message names both fingerprints."""


class StoreError(RedismrError):
    """Redis answered with a fault; redis-py's error is the ``__cause__``."""


class StoreUnavailable(StoreError, ConnectionError):
    """Redis did not answer. The same call may succeed later.

    ``job_id`` is the job that the caller waited for, which may still be running; empty if none.
    """

    job_id = ""


class StoreFull(StoreError):
    """Redis is at its memory limit (maxmemory) and refused to store more."""


class UnfitServer(StoreError):
    """The server cannot run jobs, or does not let this user run them.

    It is too old, a replica, a Cluster node, or no Redis at all; its settings would lose job data;
    the password is wrong; a command is not allowed. The message says which, and what to do.
    """


class KeysAltered(StoreError):
    """A key in Redis holds data that redismr never writes: another program wrote to it."""


class JobError(RedismrError):
    """One job, ``job_id``, has no result. ``failure`` is that of a task, if one has failed."""

    def __init__(self, message: str, *, job_id: str = "", failure: Failure | None = None) -> None:
        super().__init__(message)
        self.job_id, self.failure = job_id, failure


class JobNotFound(JobError):
    """There is no job of that id: never submitted here, deleted, or its ttl is over."""


class JobLost(JobError):
    """The job's keys vanished from Redis while it ran (FLUSHALL, eviction, failover)."""


class JobCancelled(JobError):
    """Somebody cancelled the job."""


class NoWorkers(JobError, TimeoutError):
    """No worker took the job in time; the message says why."""


class JobTimeout(JobError, TimeoutError):
    """``result(timeout)`` ran out of time. The job itself goes on."""


class LibraryMismatch(JobError, ImportError):
    """A library that a job's code or data needs is missing on a machine, or of another version.

    The message names the library, both versions, and the worker. A worker leaves such tasks to
    other workers for a while. If ``failure`` is set, the job failed with it; if not, this process
    cannot read the result, which stays on the server.
    """


class JobFailed(JobError):
    """The job ended without a result."""


class SubmitterLost(JobFailed):
    """The submitter died before it had added the whole input."""


class TooManySkipped(JobFailed):
    """More records failed than ``on_error`` allows to skip. May be a MapError as well."""


class TaskError(JobFailed):
    """User code raised in a task. Also an instance of the original exception's class."""


class MapError(TaskError):
    """mapfn, combinefn or partitionfn raised."""


class ReduceError(TaskError):
    """reducefn raised, or partitionfn sent one key to two partitions."""


class ResultsClosed(RedismrError):
    """The results were closed, and their job deleted, before they were read."""
