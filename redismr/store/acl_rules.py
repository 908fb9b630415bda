"""What each kind of user does on a server: its commands, and the ACL rule that allows no other.

A **worker** runs ``redismr worker``. A **submitter** hands jobs in, waits for them, reads, cancels
and deletes them. A **monitor** only reads: jobs, workers, progress, results and events.

What scripts call is read from the scripts; the tests of the store run as these users.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

from redismr.store.keys import Keys
from redismr.store.scripts import script

Role = Literal["worker", "submitter", "monitor"]
ROLES: tuple[Role, ...] = ("worker", "submitter", "monitor")

_SCRIPTS: dict[Role, str] = {
    "worker": "claim commit extend fail fail_job invalidate status map_outputs reclaim release renew steal",  # noqa: E501
    "submitter": "add cancel claim close commit create fail_job status reclaim",
    "monitor": "status",
}
"""The scripts that each one runs. A submitter claims and commits for a worker that is gone, of a
job with one map task for each worker."""

_PLAIN_COMMANDS: dict[Role, str] = {
    "worker": "BLPOP EXEC GET HDEL HGET HGETALL HLEN HMGET HSET LLEN LTRIM PEXPIRE PEXPIREAT"
    " PUBLISH RPUSH TIME TYPE UNLINK ZADD ZRANGE ZREM ZREMRANGEBYSCORE",
    "submitter": "EXEC GET HDEL HGET HGETALL HMGET HSET LTRIM PEXPIRE PEXPIREAT PUBLISH RPUSH"
    " SUBSCRIBE TIME TYPE UNLINK UNSUBSCRIBE ZADD ZRANGE ZREM ZREMRANGEBYSCORE ZSCORE",
    "monitor": "GET HGET HGETALL HMGET SUBSCRIBE TIME UNSUBSCRIBE ZRANGE",
}
"""What is sent outside of scripts."""

_SESSION_COMMANDS = "CLIENT|SETNAME DISCARD EVAL EVALSHA INFO MULTI SELECT"
"""To connect, to ask what the server is and allows, and to run scripts. redis-py also says by
CLIENT SETINFO who it is: Redis 7.0 has no such command to allow, and nothing needs it."""

_UNPROBED_COMMANDS = "CLIENT|SETNAME DISCARD EXEC INFO MULTI PUBLISH SELECT SUBSCRIBE UNSUBSCRIBE"
"""Sent, or refused, when the others are asked for; and channels, which carry only hints."""

_BY_ARGUMENT_COUNT = (
    "DEL EXISTS GET HGETALL HKEYS HLEN LLEN STRLEN TYPE UNLINK ZCARD",
    "BLPOP HDEL HEXISTS HGET HMGET LINDEX LPUSH PEXPIRE PEXPIREAT RPUSH SET ZREM ZSCORE",
    "HINCRBY HSET LRANGE LREM LTRIM ZADD ZRANGE ZREMRANGEBYSCORE",
)
"""The commands that take a key and at least no, one, or two arguments behind it."""


@cache
def commands(role: Role) -> tuple[str, ...]:
    """Every command that such a user sends, alone or in scripts, in order."""
    used = {*_SESSION_COMMANDS.split(), *_PLAIN_COMMANDS[role].split()}
    for name in _SCRIPTS[role].split():
        used |= script(name).commands
    return tuple(sorted(used))


def acl_rule(role: Role, user: str, namespace: str) -> str:
    """The ACL command that makes such a user, with ``PASSWORD`` where its password goes."""
    allowed = " ".join(f"+{command.lower()}" for command in commands(role))
    channels = f"&{namespace}:*"
    return f"ACL SETUSER {user} reset on >PASSWORD ~{namespace}:* {channels} -@all {allowed}"


def probe_commands(role: Role, keys: Keys) -> dict[str, tuple[str, ...]]:
    """Each of its commands, on keys of ours: to be queued in a transaction, and never executed."""
    key = keys.control("probe", "meta")
    unprobed = _UNPROBED_COMMANDS.split()
    return {
        command: _probe_form(command, key) for command in commands(role) if command not in unprobed
    }


def _probe_form(command: str, key: str) -> tuple[str, ...]:
    special = {
        "EVAL": ("EVAL", "return 0", "1", key),
        "EVALSHA": ("EVALSHA", "0" * 40, "1", key),
        "LMOVE": ("LMOVE", key, key, "LEFT", "RIGHT"),
        "TIME": ("TIME",),
    }
    if command in special:
        return special[command]
    behind = next(n for n, names in enumerate(_BY_ARGUMENT_COUNT) if command in names.split())
    return (command, key, *["0"] * behind)
