"""octo.py: one machine serves a job file at a port, others work for it, and for the next one."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import redismr
from redismr.compat.functions import any_key
from redismr.compat.hosting import take
from redismr.errors import ConfigError
from redismr.ui.errors import say

if TYPE_CHECKING:
    from redismr.compat.hosting import Host
    from redismr.core.model import Progress

DEFAULT_PORT = 18273


def run_server(
    source: Any,
    functions: Mapping[str, Any],
    show: Callable[[Any], object],
    *,
    port: int = DEFAULT_PORT,
    password: str = "",
    **options: Any,
) -> None:
    """Serve one job at a port until it is done, and show its results; waits for workers.

    ``functions`` and ``options`` are those of ``redismr.run``. Without a password only this
    machine can join.

    Raises:
        MapError, ReduceError: a user function raised; also of the original class.
        ConfigError: the port is taken, or cannot be used.
    """
    watch = _Watch()
    try:
        host = watch.host = take(watch, "", port, password)
    except OSError as error:
        raise ConfigError(f"cannot serve on port {port}: {error.strerror}") from error
    try:
        results = redismr.run(
            source,
            **{**functions, "partitionfn": functions.get("partitionfn") or any_key},
            client=host.client,
            progress=watch,
            **options,
        )
        with contextlib.closing(results) if hasattr(results, "close") else contextlib.nullcontext():
            show(results)
    finally:
        host.release(close=True)


class _Watch:
    """Owns a host while the job runs; says on stderr what that waits for, each reason once."""

    host: Host

    def __init__(self) -> None:
        self._told = ""

    def heard(self, *_: object) -> None:
        """Nobody has a command for octo.py."""

    def __call__(self, progress: Progress) -> None:
        """Take note of one look at the job."""
        if not progress.waiting or progress.waiting == self._told:
            return
        self._told = why = progress.waiting
        if not self.host.client.workers():
            how = self.host.how_to_join().replace("redismr mincemeat", "redismr octo client")
            why = f"no workers yet; to start one: {how}"
        say(f"waiting: {why}", sys.stderr)
