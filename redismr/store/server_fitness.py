"""Checks that a server may hold jobs, and lets this user send what its role needs.

The check comes before anything is written, and changes nothing: it queues commands in a transaction
and discards it. A server checks already there what a user may do, and whether it takes writes. A
refusal inside a script would come too late: what the script wrote before stays.
"""

import re
from collections.abc import Mapping, Sequence

import redis
from redis.connection import Connection as RedisConnection
from redis.exceptions import ResponseError

from redismr.config import DEFAULT_NAMESPACE, Connection
from redismr.errors import StoreError, StoreUnavailable, UnfitServer
from redismr.store.acl_rules import Role, commands, probe_commands
from redismr.store.connect import address, connect
from redismr.store.connection_errors import connection_error, unknown_command_text
from redismr.store.error_kinds import DEMOTED_WORDS, TEMPORARY_WORDS, error_kind
from redismr.store.keys import KeyNames
from redismr.store.reply_values import reply_text
from redismr.store.sentinel import is_sentinel_url

MIN_VERSION = (7, 0)
"""Redis 7.0, for scripts with flags and ZRANGE BYSCORE. Valkey 7.2 says that it is 7.2."""

ANSWER_SECONDS = 2.5
"""A server that takes longer than this for one answer counts as away."""

MAX_COMMANDS_NAMED = 6
"""Number of refused commands that an error names."""

MAX_CUT_CHECKS = 30
"""How often a check starts again after its connection was cut: it has forty answers, and a network
that loses 3 % of them cuts most checks."""


def check_server(connection: Connection, role: Role) -> None:
    """Return if the server may hold jobs and takes the commands of the role; two round trips.

    Raises:
        UnfitServer: the server cannot hold jobs as it is configured, or refuses commands of the
        role; the text says what to do.
        StoreUnavailable: the server does not answer, or takes no writes for now.
    """
    client = connect(connection, name="redismr-check", timeout=ANSWER_SECONDS)
    shown_address = address(connection.url, client)
    remedy = _remedy(client, connection.namespace, role)
    try:
        for cuts in range(1, MAX_CUT_CHECKS + 1):
            try:
                _inspect(client, connection, role, shown_address, remedy)
                break
            except redis.ConnectionError as exc:
                if cuts == MAX_CUT_CHECKS or "closed" not in str(exc):
                    raise
                client.connection_pool.disconnect()
    except StoreError:  # our own errors, some of which are OSErrors
        raise
    except (redis.RedisError, OSError) as exc:
        raise connection_error(exc, connection, shown_address, ANSWER_SECONDS, remedy) from exc
    finally:
        client.connection_pool.disconnect()


def _inspect(
    client: redis.Redis, connection: Connection, role: Role, shown_address: str, remedy: str
) -> None:
    conn, server = client.connection_pool.get_connection(), f"the server at {shown_address}"
    transaction = [("MULTI",), ("EXEC",)] if "EXEC" in commands(role) else []
    info, multi_reply, *exec_reply = _send_commands(conn, [("INFO",), *transaction, ("MULTI",)])
    if isinstance(info, Exception):
        _refuse_info(info, conn, server)
    fields = dict(row.partition(":")[::2] for row in reply_text(info).splitlines())
    _check_info(fields, shown_address, watched=is_sentinel_url(connection.url))
    answers = dict(zip(("MULTI", "EXEC"), (multi_reply, *exec_reply), strict=False))
    if not isinstance(multi_reply, ResponseError):  # else the server would execute the commands
        probes = probe_commands(role, KeyNames(connection.namespace).control("probe", "meta"))
        probes["DISCARD"] = ("DISCARD",)
        answers |= zip(probes, _send_commands(conn, [*probes.values()]), strict=True)
    refused = {
        word: answer for word, answer in answers.items() if isinstance(answer, ResponseError)
    }
    _check_refusals(refused, server, connection.namespace, remedy)


def _remedy(client: redis.Redis, namespace: str, role: Role) -> str:
    """Return what to type to see the rights that a user needs."""
    user = client.connection_pool.connection_kwargs.get("username")
    more = f" --user {user}" if user else ""
    more += "" if namespace == DEFAULT_NAMESPACE else f" --namespace {namespace}"
    if role == "monitor":  # every client begins as one, and may submit later
        return f"`redismr acl submitter{more}` prints the rule it needs (or monitor, to only read)"
    return f"`redismr acl {role}{more}` prints the rule it needs"


def _send_commands(conn: RedisConnection, many: Sequence[Sequence[str]]) -> list[object]:
    """Send commands in one round trip; return the reply to each, or redis-py's exception."""
    conn.send_packed_command(conn.pack_commands(many))  # type: ignore[no-untyped-call]
    answers = list[object]()
    for _ in many:
        try:
            answers.append(conn.read_response())
        except ResponseError as exc:
            answers.append(exc)
    return answers


def _refuse_info(exc: Exception, conn: RedisConnection, server: str) -> None:
    """Raise the error for a server that refuses INFO."""
    if "unknown command" not in str(exc).lower():
        raise exc
    _, hello = _send_commands(conn, [("DISCARD",), ("HELLO", "2")])
    words = list(map(reply_text, hello)) if isinstance(hello, list) else []
    what = dict(zip(words[::2], words[1::2], strict=False))
    if "fake" in what.get("server", ""):
        raise UnfitServer(
            f"{server} is {what['server']} {what.get('version', '')}, which imitates Redis for "
            "tests and cannot run redismr's scripts: use a real server (`redismr up` starts one)"
        ) from exc
    raise UnfitServer(unknown_command_text(server, "INFO")) from exc


def _check_info(info: Mapping[str, str], shown_address: str, *, watched: bool) -> None:
    """Refuse a server that INFO shows to be unfit."""
    server = f"the server at {shown_address}"
    if "sentinel_masters" in info:
        found = re.match(r"name=([^,]+)", info.get("master0", ""))
        url = f"redis+sentinel://{shown_address}/{found[1] if found else 'SERVICE'}"
        raise UnfitServer(f"{server} is a Sentinel, which holds no data: write the URL as {url}")
    version = info.get("redis_version", "0")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < MIN_VERSION:
        raise UnfitServer(f"{server} is Redis {version}; redismr needs Redis 7.0 or Valkey 7.2")
    if info.get("cluster_enabled") == "1":
        raise UnfitServer(
            f"{server} is a node of a Redis Cluster (cluster-enabled yes), which redismr does not "
            "use: give it a server without cluster mode"
        )
    if info.get("loading") == "1":
        done = info.get("loading_loaded_perc", "?").partition(".")[0]
        raise StoreUnavailable(
            f"{server} is loading its data ({done} %): try again when it is done"
        )
    if info.get("role") == "slave":
        master = f"{info.get('master_host', '?')}:{info.get('master_port', '?')}"
        if watched:
            raise StoreUnavailable(f"{shown_address} has just become a replica of {master}")
        raise UnfitServer(
            f"{server} is a replica of {master} and takes no writes: use that server, or a "
            "redis+sentinel:// URL, which follows the master"
        )
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise UnfitServer(
            f"{server} evicts keys when it is full (maxmemory-policy {policy}), which would lose "
            "parts of a job. Set it: CONFIG SET maxmemory-policy noeviction, or give redismr a "
            "server of its own"
        )


_TEMPORARY_CAUSES = {
    "NOREPLICAS": "too few replicas are connected to it: connect them, or lower its "
    "min-replicas-to-write",
    "MISCONF": "it cannot save its data to disk: its log says why (a full disk?); then BGSAVE, or "
    "CONFIG SET stop-writes-on-bgsave-error no",
}


def _check_refusals(
    refused: Mapping[str, Exception], server: str, namespace: str, remedy: str
) -> None:
    """Raise if the server does not let this user send a command of its role."""
    kinds = {command: error_kind(exc) for command, exc in refused.items()}
    unknown = [command for command, (_, text) in kinds.items() if "unknown command" in text.lower()]
    if unknown:
        raise UnfitServer(unknown_command_text(server, _name_some(unknown)))
    denied = [command for command, (word, _) in kinds.items() if word == "NOPERM"]
    if denied:
        if all("' command" not in kinds[command][1] for command in denied):  # the keys are refused
            raise UnfitServer(
                f"{server} does not let this user use keys of the namespace {namespace} (NOPERM): "
                f"set --namespace or REDISMR_NAMESPACE to the user's namespace; or {remedy}"
            )
        raise UnfitServer(
            f"{server} does not let this user use {_name_some(denied)} (NOPERM): {remedy}"
        )
    for word, text in kinds.values():
        if word in TEMPORARY_WORDS:
            why = "try again when it is a master" if word in DEMOTED_WORDS else ""
            why = _TEMPORARY_CAUSES.get(word, why)
            cause = f"{word}): {why}" if why else f"{word}: {text})"
            raise StoreUnavailable(f"{server} takes no writes for now ({cause}")


def _name_some(commands_: Sequence[str]) -> str:
    """Return names of commands: the first ones of many."""
    named = ", ".join(command.replace("|", " ") for command in commands_[:MAX_COMMANDS_NAMED])
    more = len(commands_) - MAX_COMMANDS_NAMED
    return f"{named} and {more} more" if more > 0 else named
