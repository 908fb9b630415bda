"""octo.py: one machine serves a job file at a port, others work for it, and for the next one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import redismr
from redismr.compat.hosting import take
from redismr.compat.progress import Explain
from redismr.core.keyhash import partition_of_any
from redismr.errors import ConfigError, StoreError

DEFAULT_PORT = 18273


def run_server(
    source: Any,
    functions: Mapping[str, Any],
    show: Callable[[Any, bool], object],
    *,
    port: int = DEFAULT_PORT,
    password: str = "",
    **options: Any,
) -> None:
    """Serve one job at a port until it is done, and show its results; waits for workers.

    ``functions`` and ``options`` are those of ``redismr.run``; ``show`` gets the results and
    whether their server ends with this call. Without a password only this machine can join.

    Raises:
        MapError, ReduceError, SourceRaised: user code raised; also of the original class.
        ConfigError: the port is taken, or cannot be used. StoreError: REDISMR_URL's server.
    """
    try:
        host = take(_Owner(), "", port, password, opening="Give -p PASSWORD")
    except StoreError:  # some are OSErrors
        raise
    except OSError as error:
        raise ConfigError(f"cannot serve on port {port}: {error.strerror}") from error
    try:
        results = redismr.run(
            source,
            **{**functions, "partitionfn": functions.get("partitionfn") or partition_of_any},
            client=host.client,
            progress=Explain(host, "redismr octo client", DEFAULT_PORT),
            finish=False,
            **options,
        )
        show(results, host.server is not None)
    finally:
        host.release(close=True)


class _Owner:
    """Owns a host while the job runs."""

    def heard(self, *_: object) -> None:
        """Nobody has a command for octo.py."""
