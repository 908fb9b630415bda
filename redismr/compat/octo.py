"""octo.py: one machine serves a job file at a port, others work for it and for the next one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import redismr
from redismr.compat.doorway import partition_or_zero
from redismr.compat.hosting import WaitReporter, acquire_server
from redismr.errors import ConfigError, StoreError

OCTO_PORT = 18273


def run_server(
    source: Any,
    functions: Mapping[str, Any],
    show: Callable[[Any, bool], object],
    *,
    port: int = OCTO_PORT,
    password: str = "",
    **options: Any,
) -> None:
    """Serve one job at a port until it is done, and show its results; wait for workers.

    ``functions`` and ``options`` are those of ``redismr.run``. ``show`` is called with the results,
    and with True if their server ends with this call. Without a password no other machine can join.

    Raises:
        MapError, ReduceError, SourceRaised: user code raised; also of the original class.
        ConfigError: the port is taken, or cannot be used.
        StoreError: from the server at REDISMR_URL.
    """
    try:
        hosted_server = acquire_server(lambda *_: None, "", port, password, "Give -p PASSWORD")
    except StoreError:  # some are OSErrors too
        raise
    except OSError as error:
        raise ConfigError(f"cannot serve on port {port}: {error.strerror}") from error
    try:
        results = redismr.run(
            source,
            **{**functions, "partitionfn": functions.get("partitionfn") or partition_or_zero},
            client=hosted_server.client,
            progress=WaitReporter(hosted_server, "redismr octo client", OCTO_PORT),
            finish=False,
            **options,
        )
        show(results, hosted_server.server is not None)
    finally:
        hosted_server.release(close=True)
