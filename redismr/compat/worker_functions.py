"""The functions that a worker has of its own: set on its ``Client``, not sent by a server."""

from __future__ import annotations

import functools
import os
import pickle
from collections.abc import Callable, Mapping
from typing import Any

FUNCTIONS_FD_VARIABLE = "REDISMR_MINCEMEAT_FUNCTIONS"
"""The environment variable with the descriptor of the file that holds these functions, pickled."""

LOG_LEVEL_VARIABLE = "REDISMR_MINCEMEAT_LEVEL"
"""The environment variable with the log level for these functions; empty if none was set."""


class WorkerFunction:
    """Names a function that workers have of their own. No dataclass: executors import this."""

    def __init__(self, name: str, *, optional: bool = False) -> None:
        self.name, self.optional = name, optional

    def look_up(self) -> Callable[..., Any] | None:
        """Return this worker's function; None if the worker has none and the job needs none.

        Raises:
            LookupError: the worker has no such function, and the job needs one.
        """
        function = _read_worker_functions().get(self.name)
        if function is None and not self.optional:
            raise LookupError(
                f"the server sent no {self.name}, and this worker has none of its own: set "
                f"Server.{self.name}, or {self.name} of the Client on every worker"
            )
        return function


@functools.cache
def _read_worker_functions() -> Mapping[str, Callable[..., Any]]:
    if not (descriptor := os.environ.get(FUNCTIONS_FD_VARIABLE)):
        return {}
    file = int(descriptor)
    # pread, because all executors share one file position. The file was written by the parent
    # process, which could run any code here anyway.
    return pickle.loads(os.pread(file, os.fstat(file).st_size, 0))  # type: ignore[no-any-return]  # noqa: S301
