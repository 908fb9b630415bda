"""Whether a server may hold jobs, and lets this user do what it is here for.

It is asked before anything is written, and what it is asked touches nothing: commands are queued in
a transaction that is discarded, because a server checks there already what a user may do, and
whether it takes writes. A refusal within a script comes too late: what that wrote before stays.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import redis
from redis.exceptions import ResponseError

from redismr.config import DEFAULT_NAMESPACE, Connection
from redismr.errors import StoreError, StoreUnavailable, UnfitServer
from redismr.store.acl_rules import Role, commands, probe_commands
from redismr.store.connect import address, connect
from redismr.store.connection_errors import connection_error, unknown_command_text
from redismr.store.error_kinds import DEMOTED_WORDS, TEMPORARY_WORDS, error_kind
from redismr.store.keys import KeyNames
from redismr.store.sentinel import is_sentinel_url

if TYPE_CHECKING:
    from redis.connection import Connection as RedisConnection

MIN_VERSION = (7, 0)
"""Redis 7.0 (and Valkey 7.2, which calls itself 7.2): scripts with flags, ZRANGE BYSCORE."""

ANSWER_SECONDS = 2.5
"""A server that takes longer than this for one answer is said to be away."""

MAX_COMMANDS_NAMED = 6
"""Of commands that are refused, so many are named."""

Reply = object
"""What a server says to one command: its reply, or the error as redis-py's exception."""

MAX_CUT_CHECKS = 30
"""So often a look begins anew whose line was cut: it has forty answers, and a line that loses 3 %
of them cuts most looks."""


def check_server(connection: Connection, role: Role) -> None:
    """Return if the server may hold jobs and takes what such a user sends; two round trips.

    Raises:
        UnfitServer: it never will as it is; says what it is, and what to do.
        StoreUnavailable: it does not answer, or takes no writes for now.
    """
    client = connect(connection, name="redismr-check", timeout=ANSWER_SECONDS)
    shown_address = address(connection.url, client)
    remedy, cuts = _remedy(client, connection.namespace, role), 0
    try:
        while True:
            try:
                _inspect(client, connection, role, shown_address, remedy)
                break
            except redis.ConnectionError as exc:
                cuts += 1
                if cuts == MAX_CUT_CHECKS or "closed" not in str(exc):
                    raise
                client.connection_pool.disconnect()
    except StoreError:  # ours, and some of them are OSErrors
        raise
    except (redis.RedisError, OSError) as exc:
        raise connection_error(exc, connection, shown_address, ANSWER_SECONDS, remedy) from exc
    finally:
        client.connection_pool.disconnect()


def _inspect(
    client: redis.Redis, connection: Connection, role: Role, shown_address: str, remedy: str
) -> None:
    """One look, over one connection."""
    conn = client.connection_pool.get_connection()
    transaction_words = ["MULTI", "EXEC"] if "EXEC" in commands(role) else []
    info, multi_reply, *exec_reply = _send_commands(
        conn, [("INFO",), *((word,) for word in (*transaction_words, "MULTI"))]
    )
    if isinstance(info, Exception):
        _refuse_info(info, conn, shown_address)
    _check_info(_parse_info(info), shown_address, watched=is_sentinel_url(connection.url))
    refused = {
        word: answer
        for word, answer in zip(("MULTI", "EXEC"), (multi_reply, *exec_reply), strict=False)
        if isinstance(answer, ResponseError)
    }
    if "MULTI" not in refused:  # else what follows would be done
        probed = probe_commands(role, KeyNames(connection.namespace))
        answers = _send_commands(conn, [*probed.values(), ("DISCARD",)])
        refused |= {
            word: answer
            for word, answer in zip((*probed, "DISCARD"), answers, strict=True)
            if isinstance(answer, ResponseError)
        }
    _check_refusals(refused, shown_address, connection.namespace, remedy)


def _remedy(client: redis.Redis, namespace: str, role: Role) -> str:
    """How a user gets what is missing: what to type."""
    user = client.connection_pool.connection_kwargs.get("username")
    more = f" --user {user}" if user else ""
    more += "" if namespace == DEFAULT_NAMESPACE else f" --namespace {namespace}"
    if role == "monitor":  # as far as is known: who only reads, or who has only begun
        return f"`redismr acl submitter{more}` prints the rule it needs (or monitor, to only read)"
    return f"`redismr acl {role}{more}` prints the rule it needs"


def _send_commands(conn: RedisConnection, many: Sequence[Sequence[str]]) -> list[Reply]:
    """The answers to commands of one round trip, in order."""
    conn.send_packed_command(conn.pack_commands(many))  # type: ignore[no-untyped-call]
    return [_read_reply(conn) for _ in many]


def _read_reply(conn: RedisConnection) -> Reply:
    try:
        return conn.read_response()
    except ResponseError as exc:
        return exc


def _parse_info(info: Reply) -> dict[str, str]:
    """What INFO says."""
    text = info.decode("utf-8", "replace") if isinstance(info, bytes) else str(info)
    pairs = (row.partition(":") for row in text.splitlines() if not row.startswith("#"))
    return {name: value for name, _, value in pairs}


def _refuse_info(exc: Exception, conn: RedisConnection, shown_address: str) -> None:
    """Say what kind of server tells nothing of itself.

    Raises:
        UnfitServer, StoreUnavailable: always.
    """
    if "unknown command" not in str(exc).lower():
        raise exc
    _, hello = _send_commands(conn, [("DISCARD",), ("HELLO", "2")])
    words = list(map(_as_text, hello)) if isinstance(hello, list) else []
    what = dict(zip(words[::2], words[1::2], strict=False))
    if "fake" in what.get("server", ""):
        raise UnfitServer(
            f"the server at {shown_address} is {what['server']} {what.get('version', '')}, which imitates "  # noqa: E501
            "Redis for tests and cannot run redismr's scripts: use a real server (`redismr up` "
            "starts one)"
        ) from exc
    raise UnfitServer(unknown_command_text(shown_address, "INFO")) from exc


def _as_text(part: object) -> str:
    return part.decode("utf-8", "replace") if isinstance(part, bytes) else str(part)


def _check_info(info: Mapping[str, str], shown_address: str, *, watched: bool) -> None:
    """Refuse what the server says of itself.

    Raises:
        UnfitServer: not a server for jobs; says which setting, its value, and what to do.
        StoreUnavailable: it is not ready yet.
    """
    if "sentinel_masters" in info:
        found = re.match(r"name=([^,]+)", info.get("master0", ""))
        service = found[1] if found else "SERVICE"
        raise UnfitServer(
            f"the server at {shown_address} is a Sentinel, which holds no data: write the URL as "
            f"redis+sentinel://{shown_address}/{service}"
        )
    version = info.get("redis_version", "0")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < MIN_VERSION:
        raise UnfitServer(
            f"the server at {shown_address} is Redis {version}; redismr needs Redis 7.0 or Valkey 7.2"  # noqa: E501
        )
    if info.get("cluster_enabled") == "1":
        raise UnfitServer(
            f"the server at {shown_address} is a node of a Redis Cluster (cluster-enabled yes), which "  # noqa: E501
            "redismr does not use: give it a server without cluster mode"
        )
    if info.get("loading") == "1":
        done = info.get("loading_loaded_perc", "?").partition(".")[0]
        raise StoreUnavailable(
            f"the server at {shown_address} is loading its data ({done} %): try again when it is done"  # noqa: E501
        )
    if info.get("role") == "slave":
        master = f"{info.get('master_host', '?')}:{info.get('master_port', '?')}"
        if watched:
            raise StoreUnavailable(f"{shown_address} has just become a replica of {master}")
        raise UnfitServer(
            f"the server at {shown_address} is a replica of {master} and takes no writes: use that server, "  # noqa: E501
            "or a redis+sentinel:// URL, which follows the master"
        )
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise UnfitServer(
            f"the server at {shown_address} evicts keys when it is full (maxmemory-policy {policy}), "  # noqa: E501
            "which would lose parts of a job. Set it: CONFIG SET maxmemory-policy noeviction, or "
            "give redismr a server of its own"
        )


_TEMPORARY_CAUSES = {
    "NOREPLICAS": "too few replicas are connected to it: connect them, or lower its "
    "min-replicas-to-write",
    "MISCONF": "it cannot save its data to disk: its log says why (a full disk?); then BGSAVE, or "
    "CONFIG SET stop-writes-on-bgsave-error no",
}


def _check_refusals(
    refused: Mapping[str, Exception], shown_address: str, namespace: str, remedy: str
) -> None:
    """Say what the server does not let this user do.

    Raises:
        UnfitServer: commands that it does not know, or that the user may not use.
        StoreUnavailable: it takes no writes for now.
    """
    kinds = {command: error_kind(exc) for command, exc in refused.items()}
    unknown = [command for command, (_, text) in kinds.items() if "unknown command" in text.lower()]
    if unknown:
        raise UnfitServer(unknown_command_text(shown_address, _name_some(unknown)))
    denied = [command for command, (word, _) in kinds.items() if word == "NOPERM"]
    if denied:
        if all("' command" not in kinds[command][1] for command in denied):  # it is the keys
            raise UnfitServer(
                f"the server at {shown_address} lets this user use no keys of the namespace {namespace} "  # noqa: E501
                f"(NOPERM): set --namespace or REDISMR_NAMESPACE to the one that is the user's; or "
                f"{remedy}"
            )
        raise UnfitServer(
            f"the server at {shown_address} does not let this user use {_name_some(denied)} (NOPERM): "  # noqa: E501
            f"{remedy}"
        )
    for word, text in kinds.values():
        if word in TEMPORARY_WORDS:
            why = _TEMPORARY_CAUSES.get(
                word, "try again when it is a master" if word in DEMOTED_WORDS else ""
            )
            raise StoreUnavailable(
                f"the server at {shown_address} takes no writes for now ({word}"
                + (f"): {why}" if why else f": {text})")
            )


def _name_some(commands_: Sequence[str]) -> str:
    """Names of commands, the first few of many."""
    named = ", ".join(command.replace("|", " ") for command in commands_[:MAX_COMMANDS_NAMED])
    more = len(commands_) - MAX_COMMANDS_NAMED
    return f"{named} and {more} more" if more > 0 else named
