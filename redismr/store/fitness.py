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
from redismr.store.access import Role, commands, probes
from redismr.store.connect import address, connect
from redismr.store.keys import Keys
from redismr.store.reach import explained, unknowing
from redismr.store.refusals import DEMOTED, PASSING, refusal
from redismr.store.sentinel import is_watched

if TYPE_CHECKING:
    from redis.connection import Connection as Line

FLOOR = (7, 0)
"""Redis 7.0 (and Valkey 7.2, which calls itself 7.2): scripts with flags, ZRANGE BYSCORE."""

ANSWER_SECONDS = 2.5
"""A server that takes longer than this for one answer is said to be away."""

MOST_NAMED = 6
"""Of commands that are refused, so many are named."""

Answer = object
"""What a server says to one command: its reply, or the error as redis-py's exception."""

CUT_TRIES = 30
"""So often a look begins anew whose line was cut: it has forty answers, and a line that loses 3 %
of them cuts most looks."""


def examine(connection: Connection, role: Role) -> None:
    """Return if the server may hold jobs and takes what such a user sends; two round trips.

    Raises:
        UnfitServer: it never will as it is; says what it is, and what to do.
        StoreUnavailable: it does not answer, or takes no writes for now.
    """
    client = connect(connection, name="redismr-check", timeout=ANSWER_SECONDS)
    where = address(connection.url, client)
    way_out, tries = _way_out(client, connection.namespace, role), 0
    try:
        while True:
            try:
                _look(client, connection, role, where, way_out)
                break
            except redis.ConnectionError as exc:
                tries += 1
                if tries == CUT_TRIES or "closed" not in str(exc):
                    raise
                client.connection_pool.disconnect()
    except StoreError:  # ours, and some of them are OSErrors
        raise
    except (redis.RedisError, OSError) as exc:
        raise explained(exc, connection, where, ANSWER_SECONDS, way_out) from exc
    finally:
        client.connection_pool.disconnect()


def _look(
    client: redis.Redis, connection: Connection, role: Role, where: str, way_out: str
) -> None:
    """One look, over one connection."""
    line = client.connection_pool.get_connection()
    ending = ["MULTI", "EXEC"] if "EXEC" in commands(role) else []
    told, begun, *ended = _ask(line, [("INFO",), *((word,) for word in (*ending, "MULTI"))])
    if isinstance(told, Exception):
        _refuse_info(told, line, where)
    _judge(_parsed(told), where, watched=is_watched(connection.url))
    refused = {
        word: answer
        for word, answer in zip(("MULTI", "EXEC"), (begun, *ended), strict=False)
        if isinstance(answer, ResponseError)
    }
    if "MULTI" not in refused:  # else what follows would be done
        asked = probes(role, Keys(connection.namespace))
        answers = _ask(line, [*asked.values(), ("DISCARD",)])
        refused |= {
            word: answer
            for word, answer in zip((*asked, "DISCARD"), answers, strict=True)
            if isinstance(answer, ResponseError)
        }
    _judge_refusals(refused, where, connection.namespace, way_out)


def _way_out(client: redis.Redis, namespace: str, role: Role) -> str:
    """How a user gets what is missing: what to type."""
    user = client.connection_pool.connection_kwargs.get("username")
    more = f" --user {user}" if user else ""
    more += "" if namespace == DEFAULT_NAMESPACE else f" --namespace {namespace}"
    if role == "monitor":  # as far as is known: who only reads, or who has only begun
        return f"`redismr acl submitter{more}` prints the rule it needs (or monitor, to only read)"
    return f"`redismr acl {role}{more}` prints the rule it needs"


def _ask(line: Line, many: Sequence[Sequence[str]]) -> list[Answer]:
    """The answers to commands of one round trip, in order."""
    line.send_packed_command(line.pack_commands(many))  # type: ignore[no-untyped-call]
    return [_answer(line) for _ in many]


def _answer(line: Line) -> Answer:
    try:
        return line.read_response()
    except ResponseError as exc:
        return exc


def _parsed(told: Answer) -> dict[str, str]:
    """What INFO says."""
    text = told.decode("utf-8", "replace") if isinstance(told, bytes) else str(told)
    pairs = (row.partition(":") for row in text.splitlines() if not row.startswith("#"))
    return {name: value for name, _, value in pairs}


def _refuse_info(exc: Exception, line: Line, where: str) -> None:
    """Say what kind of server tells nothing of itself.

    Raises:
        UnfitServer, StoreUnavailable: always.
    """
    if "unknown command" not in str(exc).lower():
        raise exc
    _, hello = _ask(line, [("DISCARD",), ("HELLO", "2")])
    words = list(map(_word, hello)) if isinstance(hello, list) else []
    what = dict(zip(words[::2], words[1::2], strict=False))
    if "fake" in what.get("server", ""):
        raise UnfitServer(
            f"the server at {where} is {what['server']} {what.get('version', '')}, which imitates "
            "Redis for tests and cannot run redismr's scripts: use a real server (`redismr up` "
            "starts one)"
        ) from exc
    raise UnfitServer(unknowing(where, "INFO")) from exc


def _word(part: object) -> str:
    return part.decode("utf-8", "replace") if isinstance(part, bytes) else str(part)


def _judge(info: Mapping[str, str], where: str, *, watched: bool) -> None:
    """Refuse what the server says of itself.

    Raises:
        UnfitServer: not a server for jobs; says which setting, its value, and what to do.
        StoreUnavailable: it is not ready yet.
    """
    if "sentinel_masters" in info:
        found = re.match(r"name=([^,]+)", info.get("master0", ""))
        service = found[1] if found else "SERVICE"
        raise UnfitServer(
            f"the server at {where} is a Sentinel, which holds no data: write the URL as "
            f"redis+sentinel://{where}/{service}"
        )
    version = info.get("redis_version", "0")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < FLOOR:
        raise UnfitServer(
            f"the server at {where} is Redis {version}; redismr needs Redis 7.0 or Valkey 7.2"
        )
    if info.get("cluster_enabled") == "1":
        raise UnfitServer(
            f"the server at {where} is a node of a Redis Cluster (cluster-enabled yes), which "
            "redismr does not use: give it a server without cluster mode"
        )
    if info.get("loading") == "1":
        done = info.get("loading_loaded_perc", "?").partition(".")[0]
        raise StoreUnavailable(
            f"the server at {where} is loading its data ({done} %): try again when it is done"
        )
    if info.get("role") == "slave":
        master = f"{info.get('master_host', '?')}:{info.get('master_port', '?')}"
        if watched:
            raise StoreUnavailable(f"{where} has just become a replica of {master}")
        raise UnfitServer(
            f"the server at {where} is a replica of {master} and takes no writes: use that server, "
            "or a redis+sentinel:// URL, which follows the master"
        )
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise UnfitServer(
            f"the server at {where} evicts keys when it is full (maxmemory-policy {policy}), "
            "which would lose parts of a job. Set it: CONFIG SET maxmemory-policy noeviction, or "
            "give redismr a server of its own"
        )


_FOR_NOW = {
    "NOREPLICAS": "too few replicas are connected to it: connect them, or lower its "
    "min-replicas-to-write",
    "MISCONF": "it cannot save its data to disk: its log says why (a full disk?); then BGSAVE, or "
    "CONFIG SET stop-writes-on-bgsave-error no",
}


def _judge_refusals(
    refused: Mapping[str, Exception], where: str, namespace: str, way_out: str
) -> None:
    """Say what the server does not let this user do.

    Raises:
        UnfitServer: commands that it does not know, or that the user may not use.
        StoreUnavailable: it takes no writes for now.
    """
    said = {command: refusal(exc) for command, exc in refused.items()}
    unknown = [command for command, (_, text) in said.items() if "unknown command" in text.lower()]
    if unknown:
        raise UnfitServer(unknowing(where, _listed(unknown)))
    denied = [command for command, (word, _) in said.items() if word == "NOPERM"]
    if denied:
        if all("' command" not in said[command][1] for command in denied):  # it is the keys
            raise UnfitServer(
                f"the server at {where} lets this user use no keys of the namespace {namespace} "
                f"(NOPERM): set --namespace or REDISMR_NAMESPACE to the one that is the user's; or "
                f"{way_out}"
            )
        raise UnfitServer(
            f"the server at {where} does not let this user use {_listed(denied)} (NOPERM): "
            f"{way_out}"
        )
    for word, text in said.values():
        if word in PASSING:
            why = _FOR_NOW.get(word, "try again when it is a master" if word in DEMOTED else "")
            raise StoreUnavailable(
                f"the server at {where} takes no writes for now ({word}"
                + (f"): {why}" if why else f": {text})")
            )


def _listed(commands_: Sequence[str]) -> str:
    """Names of commands, the first few of many."""
    named = ", ".join(command.replace("|", " ") for command in commands_[:MOST_NAMED])
    more = len(commands_) - MOST_NAMED
    return f"{named} and {more} more" if more > 0 else named
