"""Keep a computed result that cannot be printed, and tell the user where the result is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import redismr
from redismr.errors import JobError, LibraryMismatch, RedismrError, SealError, StoreUnavailable
from redismr.standard_streams import OutputLost, check_delivered
from redismr.ui.error_screens import add_recovery_hint
from redismr.ui.result_lines import save_outcome


def is_server_private(client: redismr.Client | None) -> bool:
    """True if the server ends with this command, or there is no server (an inline run)."""
    return client is None or client.connection.embedded


@contextmanager
def keep_unless_shown(
    results: redismr.Results,
    finishfn: Callable[[redismr.Results], Any] | None = None,
    *,
    private: bool,
    as_json: bool = False,
) -> Iterator[Any]:
    """Yield the outcome that the body prints; delete the job when the body has printed it.

    The outcome is what finishfn returns, or the results. If anything keeps the body from printing,
    the result is kept, and a recovery hint on the error says where: the job stays on the server,
    or, if the server is ``private``, the result is saved in a file.
    """
    outcome, command = results, f"redismr result {results.job_id}"
    try:
        if finishfn:
            command += " --no-finishfn"
            outcome = finishfn(results)
            command = command.removesuffix(" --no-finishfn")
        yield outcome
        check_delivered()
    except BaseException as error:
        user_exited_well = isinstance(error, SystemExit) and not error.code
        # Case 1: there is nothing to keep, or user code has ended the command with success.
        if _says_result_is_gone(results.job_id, error) or user_exited_well:
            pass
        # Case 2: the job stays on the server. A server that was lost may come back without data.
        elif not private and results.keep():
            server_lost = isinstance(error, StoreUnavailable)
            state = "was left there. When Redis is back" if server_lost else "is kept for its ttl"
            add_recovery_hint(error, f"the result of job {results.job_id} {state}: {command}")
        # Case 3: the server ends now. No file after Ctrl-C, or for a reader who took enough.
        elif not (
            isinstance(error, KeyboardInterrupt)
            or (isinstance(error, OutputLost) and error.reader_has_left)
        ):
            add_recovery_hint(error, _save_result(outcome, as_json=as_json))
        raise
    finally:
        results.close()


def _says_result_is_gone(job_id: str, error: BaseException) -> bool:
    if isinstance(error, JobError):
        return error.job_id == job_id and not isinstance(error, LibraryMismatch)
    return isinstance(error, SealError)


def _save_result(outcome: Any, *, as_json: bool) -> str:
    try:
        return f"the result is in {save_outcome(outcome, as_json=as_json)}"
    except (OSError, RedismrError) as error:
        return (
            f"the result is lost, as it cannot be saved ({error}) and the server ends with this "
            "command; on one that stays (`redismr up`, REDISMR_URL) it is kept"
        )
