"""Every command to Redis is a method of ``redismr.store``: no other room sends one."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "redismr"
SENDING_METHODS = frozenset(
    {"best_effort", "call", "call_each", "command", "execute_command", "pipeline", "with_retries"}
)
"""Methods of RetryingClient and of redis-py's client that send commands."""

CLIENT_NAMES = frozenset({"client", "connection", "pipe", "redis", "redis_client"})
"""Names that the code gives to a RetryingClient, to a client of redis-py, or to a pipeline."""


def test_no_other_room_sends_commands() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{line}"
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).parts[0] != "store"
        for line in lines_that_reach_redis(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_a_planted_command_is_found() -> None:
    planted = """
import redis
from redis.client import Redis
store.redis_client.command("PING")
self._store.redis_client.pipeline([("PING",)])
store.redis_client.client.ping()
client.execute_command("PING")
"""
    assert lines_that_reach_redis(planted) == [2, 3, 4, 5, 6, 7]
    harmless = (
        "@click.command()\ndef run(): ...\nstore.redis_client.check('worker')\nserver.close()\n"
    )
    assert lines_that_reach_redis(harmless) == []


def lines_that_reach_redis(source: str) -> list[int]:
    """Lines that import redis-py, take the client out of a RetryingClient, or send a command."""
    return sorted({node.lineno for node in ast.walk(ast.parse(source)) if reaches_redis(node)})


def reaches_redis(node: ast.AST) -> bool:
    match node:
        case ast.Import(names=names):
            return any(alias.name.split(".")[0] == "redis" for alias in names)
        case ast.ImportFrom(module=module):
            return (module or "").split(".")[0] == "redis"
        case ast.Attribute(value=ast.Attribute(attr="redis_client"), attr="client"):
            return True
        case ast.Call(func=ast.Attribute(value=receiver, attr=method)):
            return method in SENDING_METHODS and last_name(receiver).lstrip("_") in CLIENT_NAMES
    return False


def last_name(node: ast.expr) -> str:
    """``server`` of ``self.store.redis_client``; "" for what is no name."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""
