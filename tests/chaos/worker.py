"""``redismr worker`` that may end itself by SIGKILL at a named point of an attempt's life.

``CHAOS_POINTS`` is JSON: point -> how often, as a fraction. The points wrap the real methods from
outside, so the package knows nothing of them:

- claimed: the server granted tasks, nothing was done with them
- staged: a map's bulk data was written, no commit names it yet
- named: a reducer knows what it is to read; read: it has some of its segments
- written: a reducer's bulk result was written, no commit names it yet
- uncommitted: right before the commit is sent
- committed: the server counted the attempt, its reply is not looked at
- freed: the segments of a partition that was counted are gone
- failed: the server took a failure of user code; released: it took claimed tasks back
- renewed, reclaimed, reported, returned: the supervisor, after it extended leases, took back those
  of others, handed in the death of an executor, gave back what that had not begun

``CHAOS_CLOCK`` shifts this process's idea of the time of day, in seconds. ``CHAOS_PAUSE``: at the
same points an executor now and then waits up to so many seconds, so that others overtake it there.
``CHAOS_TWICE``: this fraction of claims and commits is sent twice, as if a reply had been lost.
``CHAOS_LOG`` is a file that gets a line for each thing ``LOGGED`` names: what a row counts.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from redismr.store import Store
from redismr.workers.child import Child
from redismr.workers.executor_exits import ExecutorExits
from redismr.workers.reporter import Reporter
from redismr.workers.shared_slots import Slot

LOGGED = """
attempt             an executor began a task
grant N             it was given N tasks at once
fenced N            N attempts were refused because others were counted
erred               an attempt failed by itself: user code raised
staged N            bulk data was written: too late for N attempts, which are counted already
freed N             segments were deleted: too early those of N attempts, which a reducer is to read
kill POINT PID AT   it ends itself here, at this time.monotonic()
settled PID AT      its supervisor has handed in what it held
stopped WHY         its supervisor ended it: WHY is "lease lost", or a task's time is over, ...
"""


def main() -> None:
    """Wrap the points, then run the worker."""
    points: dict[str, float] = json.loads(os.environ.get("CHAOS_POINTS", "{}"))
    for point, chance in points.items():
        _deadly(point, chance)
    if often := float(os.environ.get("CHAOS_TWICE", "0")):
        for name in ("claim", "commit"):
            _twice(name, often)
    if pause := float(os.environ.get("CHAOS_PAUSE", "0")):
        for name in sorted(set(_METHODS.values())):
            _dawdling(name, pause)
    if path := os.environ.get("CHAOS_LOG"):
        _log_to(path)
    if shift := float(os.environ.get("CHAOS_CLOCK", "0")):
        real = time.time
        time.time = lambda: real() + shift
    from redismr.cli import cli

    cli(["worker", *_arguments()], prog_name="redismr")


_METHODS = {
    "claimed": "claim",
    "staged": "put_segments",
    "named": "map_outputs",
    "read": "get_segments",
    "written": "put_result",
    "uncommitted": "commit",
    "committed": "commit",
    "freed": "drop_segments",
    "failed": "fail",
    "released": "release",
    "renewed": "renew_all",
    "reclaimed": "reclaim_all",
    "reported": "fail",
    "returned": "release",
}
_BEFORE = {"uncommitted"}
OF_SUPERVISORS = frozenset({"renewed", "reclaimed", "reported", "returned"})

_note: Callable[[str], object] = lambda _line: None


def _deadly(point: str, often: float) -> None:
    name, before = _METHODS[point], point in _BEFORE
    real = getattr(Store, name)
    supervisor = os.getpid()

    def die() -> None:
        ours = (os.getpid() == supervisor) == (point in OF_SUPERVISORS)
        if ours and random.SystemRandom().random() < often:
            _note(f"kill {point} {os.getpid()} {time.monotonic()}")
            os.kill(os.getpid(), signal.SIGKILL)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if before:
            die()
        reply = real(*args, **kwargs)
        if not before:
            die()
        return reply

    setattr(Store, name, wrapped)


def _twice(name: str, often: float) -> None:
    real, dice = getattr(Store, name), random.SystemRandom()

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if dice.random() < often:
            real(*args, **kwargs)
        return real(*args, **kwargs)

    setattr(Store, name, wrapped)


def _dawdling(name: str, pause: float) -> None:
    dice, supervisor = random.SystemRandom(), os.getpid()

    def wait(*_: Any) -> None:
        if os.getpid() != supervisor and dice.random() < 0.3:
            time.sleep(dice.uniform(0, pause))

    _after(Store, name, wait)


def _log_to(path: str) -> None:
    global _note  # noqa: PLW0603
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    _note = lambda line: os.write(file, f"{line}\n".encode())
    _after(Slot, "set_running", lambda _, args: args[1] >= 0 and _note("attempt"))
    _after(Store, "claim", lambda reply, _: reply and _granted(reply))
    _after(Store, "commit", lambda reply, _: reply and _committed(reply))
    _after(Reporter, "report_failure", lambda *_: _note("erred"))
    _after(Store, "put_segments", lambda _, args: _note(f"staged {_maps(*args[:3])}"))
    _after(Store, "put_result", lambda _, args: _note(f"staged {_counted(*args[:3], 'result')}"))
    _after(Store, "drop_segments", lambda _, args: _note(f"freed {_maps(*args, unread=True)}"))
    _after(Child, "kill", lambda _, args: _note(f"stopped {args[1]}"))
    _after(
        ExecutorExits,
        "_report_exit",
        lambda _, args: _note(f"settled {args[1].pid} {time.monotonic()}"),
    )


def _counted(store: Store, job: str, fields: Iterable[str], book: str) -> int:
    """Count the fields whose attempts have been counted."""
    tokens = {field.rpartition(".")[0] for field in fields}
    key = store.keys.control(job, book)
    records = [
        store.redis_client.command("HGET", key, token.partition(".")[0][1:]) for token in tokens
    ]
    begin = [f"{token} ".encode() for token in tokens]
    return sum((r or b"").startswith(b) for r, b in zip(records, begin, strict=True))


def _maps(
    store: Store, job: str, parts: Mapping[int, Iterable[str]], *, unread: bool = False
) -> int:
    """Count segments likewise; with ``unread``, only of partitions without a result."""
    key = store.keys.control(job, "result")
    return sum(
        _counted(store, job, fields, "done")
        for partition, fields in parts.items()
        if not (unread and store.redis_client.command("HEXISTS", key, partition))
    )


def _granted(claim: Any) -> None:
    if claim.tasks:
        _note(f"grant {len(claim.tasks)}")


def _committed(committed: Any) -> None:
    if fenced := committed.statuses.count("FENCED"):
        _note(f"fenced {fenced}")
    _granted(committed.claim)


def _after(owner: type, name: str, tell: Callable[[Any, Any], object]) -> None:
    real = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        reply = real(*args, **kwargs)
        tell(reply, args)
        return reply

    setattr(owner, name, wrapped)


def _arguments() -> list[str]:
    import sys

    return sys.argv[1:]


if __name__ == "__main__":
    main()
