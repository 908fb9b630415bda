"""The commands of each role on a server, and the ACL rule that allows these and no others.

A **worker** runs ``redismr worker``. A **submitter** hands jobs in, waits for them, reads, cancels
and deletes them. A **monitor** only reads: jobs, workers, progress, results and events.

Commands inside scripts are read from the scripts. The tests of the store run as these users.
"""

from functools import cache
from typing import Literal

from redismr.store.scripts import script

Role = Literal["worker", "submitter", "monitor"]
ROLES: tuple[Role, ...] = ("worker", "submitter", "monitor")

_SCRIPTS: dict[Role, str] = {
    "worker": "claim commit extend fail fail_job invalidate status map_outputs reclaim release renew steal",  # noqa: E501
    "submitter": "add cancel claim close commit create fail_job status reclaim",
    "monitor": "status",
}
"""Scripts of each role. In a job with one map task for each worker, the submitter claims and
commits for a worker that is gone."""

_PLAIN_COMMANDS: dict[Role, str] = {
    "worker": "BLPOP EXEC GET HDEL HGET HGETALL HLEN HMGET HSET LLEN LTRIM PEXPIRE PEXPIREAT"
    " PUBLISH RPUSH TIME TYPE UNLINK ZADD ZRANGE ZREM ZREMRANGEBYSCORE",
    "submitter": "EXEC GET HDEL HGET HGETALL HMGET HSET LTRIM PEXPIRE PEXPIREAT PUBLISH RPUSH"
    " SUBSCRIBE TIME TYPE UNLINK UNSUBSCRIBE ZADD ZRANGE ZREM ZREMRANGEBYSCORE ZSCORE",
    "monitor": "GET HGET HGETALL HMGET SUBSCRIBE TIME UNSUBSCRIBE ZRANGE",
}
"""Commands that each role sends outside of scripts."""

_SESSION_COMMANDS = "CLIENT|SETNAME DISCARD EVAL EVALSHA INFO MULTI SELECT"
"""Commands to connect, to ask what the server is and allows, and to run scripts. redis-py also
sends CLIENT SETINFO: Redis 7.0 has no such command to allow, and nothing needs it."""

_UNPROBED_COMMANDS = "CLIENT|SETNAME DISCARD EXEC INFO MULTI PUBLISH SELECT SUBSCRIBE UNSUBSCRIBE"
"""Commands that the probe itself sends, and those of channels, which carry only hints."""

_BY_ARGUMENT_COUNT = (
    "DEL EXISTS GET HGETALL HKEYS HLEN LLEN STRLEN TYPE UNLINK ZCARD",
    "BLPOP HDEL HEXISTS HGET HMGET LINDEX LPUSH PEXPIRE PEXPIREAT RPUSH SET ZREM ZSCORE",
    "HINCRBY HSET LRANGE LREM LTRIM ZADD ZRANGE ZREMRANGEBYSCORE",
)
"""Commands that take a key and, behind it, at least no, one, or two arguments."""


@cache
def commands(role: Role) -> tuple[str, ...]:
    """Return every command of the role, alone or in scripts, sorted."""
    used = {*_SESSION_COMMANDS.split(), *_PLAIN_COMMANDS[role].split()}
    for name in _SCRIPTS[role].split():
        used |= script(name).commands
    return tuple(sorted(used))


def acl_rule(role: Role, user: str, namespace: str) -> str:
    """Return the ACL command that makes such a user; ``PASSWORD`` stands for the password."""
    allowed = " ".join(f"+{command.lower()}" for command in commands(role))
    channels = f"&{namespace}:*"
    return f"ACL SETUSER {user} reset on >PASSWORD ~{namespace}:* {channels} -@all {allowed}"


def probe_commands(role: Role, key: str) -> dict[str, tuple[str, ...]]:
    """Return a form of each command, on a key of ours, to be queued and never executed."""
    forms = {
        "EVAL": ("EVAL", "return 0", "1", key),
        "EVALSHA": ("EVALSHA", "0" * 40, "1", key),
        "LMOVE": ("LMOVE", key, key, "LEFT", "RIGHT"),
        "TIME": ("TIME",),
    }
    for count, names in enumerate(_BY_ARGUMENT_COUNT):
        forms |= {name: (name, key, *["0"] * count) for name in names.split()}
    probed = [name for name in commands(role) if name not in _UNPROBED_COMMANDS.split()]
    return {name: forms[name] for name in probed}
