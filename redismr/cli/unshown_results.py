"""A result that was computed is not thrown away: what becomes of one that cannot be shown."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from redismr import standard_streams
from redismr.errors import JobError, LibraryMismatch, RedismrError, SealError, StoreUnavailable
from redismr.standard_streams import OutputLost
from redismr.ui.error_screens import add_recovery_hint
from redismr.ui.result_lines import save_outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from redismr.client import Client, Results


def is_server_private(client: Client | None) -> bool:
    """Whether the server ends with this command, or there is none: an inline run."""
    return client is None or client.connection.embedded


@contextmanager
def keep_unless_shown(
    results: Results,
    finishfn: Callable[[Results], Any] | None = None,
    *,
    private: bool,
    as_json: bool = False,
) -> Iterator[Any]:
    """What finishfn makes of the results; their job is deleted when the body has shown that.

    Where anything keeps the body from it, the error says how to get at the result: on a server that
    others can ask the job stays, of a ``private`` one the result is saved in a file. Not where
    there is nothing to keep, nor for a reader who has seen enough, nor after Ctrl-C, nor where a
    function of the user's has ended the command well.
    """
    outcome, command = results, f"redismr result {results.job_id}"
    try:
        if finishfn:
            command += " --no-finishfn"
            outcome = finishfn(results)
            command = command.removesuffix(" --no-finishfn")
        yield outcome
        standard_streams.check_delivered()
    except BaseException as error:
        if _says_result_is_gone(results.job_id, error) or (
            isinstance(error, SystemExit) and not error.code
        ):
            pass
        elif not private and results.keep():
            server_lost = isinstance(error, StoreUnavailable)  # and may come back without its data
            how_long = (
                "was left there. When Redis is back" if server_lost else "is kept for its ttl"
            )
            add_recovery_hint(error, f"the result of job {results.job_id} {how_long}: {command}")
        elif not isinstance(error, KeyboardInterrupt) and not _reader_took_enough(error):
            add_recovery_hint(error, _save_result(outcome, as_json=as_json))
        raise
    finally:
        results.close()


def _says_result_is_gone(job_id: str, error: BaseException) -> bool:
    """Whether the error says that there is no such result any more."""
    if isinstance(error, JobError):
        return error.job_id == job_id and not isinstance(error, LibraryMismatch)
    return isinstance(error, SealError)


def _reader_took_enough(error: BaseException) -> bool:
    return isinstance(error, OutputLost) and error.reader_has_left


def _save_result(outcome: Any, *, as_json: bool) -> str:
    try:
        return f"the result is in {save_outcome(outcome, as_json=as_json)}"
    except (OSError, RedismrError) as error:
        return (
            f"the result is lost, as it cannot be saved ({error}) and the server ends with this "
            "command; on one that stays (`redismr up`, REDISMR_URL) it is kept"
        )
