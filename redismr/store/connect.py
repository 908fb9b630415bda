"""Opens connections to a server.

redis-py's defaults retry any command, INCR and BLMOVE included; measured: an INCR counted twice.
So clients are built without retries here, and ``store`` repeats what is safe to repeat.
"""

from __future__ import annotations

import re
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from redismr.confidential import blanked
from redismr.config import Connection
from redismr.errors import ConfigError
from redismr.store.sentinel import follow, is_watched, watched

BLOCK_SECONDS = 10.0
"""The longest a blocking pop may wait; socket timeouts stand above it."""

DEFAULT_PORT = 6379

_OURS = ("protocol", "decode_responses", "retry")
"""What a URL that other programs use as well may say otherwise: it is not for us."""


def connect(connection: Connection, *, name: str, timeout: float) -> redis.Redis:
    """A client on its own pool, whose replies may take ``timeout`` seconds. Nothing is sent yet.

    Raises:
        ConfigError: the URL is not one that redis-py understands.
    """
    settings: dict[str, Any] = {
        "protocol": 2,
        "decode_responses": False,
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": timeout,
        "socket_connect_timeout": min(5, timeout),
        "health_check_interval": 0,
        "client_name": name,
    }
    if not connection.url.startswith("unix:"):
        settings["socket_keepalive"] = True
    if is_watched(connection.url):
        return follow(watched(connection.url), **settings)
    try:
        pool = redis.ConnectionPool.from_url(connection.url, **settings)
        pool.connection_kwargs.update({name: settings[name] for name in _OURS})
        pool.connection_class(**pool.connection_kwargs)  # not opened: are all its options known?
    except ValueError as exc:
        raise ConfigError(f"cannot use the Redis URL: {blanked(str(exc))}") from None
    except TypeError as exc:
        found = re.search(r"argument '(\w+)'", str(exc))
        what = f"has an option {found[1]}" if found else f"has options ({blanked(str(exc))})"
        tls = found is not None and found[1].startswith("ssl_")
        why = "only a rediss:// URL takes" if tls else "redis-py does not know"
        raise ConfigError(f"the Redis URL {what} that {why}") from None
    return redis.Redis.from_pool(pool)


def address(url: str, client: redis.Redis) -> str:
    """Where a client's server is, for messages, without passwords."""
    if is_watched(url):
        return str(watched(url))
    kwargs = client.connection_pool.connection_kwargs
    if "path" in kwargs:
        return f"unix socket {kwargs['path']}"
    host = kwargs.get("host") or "localhost"
    return f"{f'[{host}]' if ':' in host else host}:{kwargs.get('port') or DEFAULT_PORT}"


def replicas(client: redis.Redis) -> int:
    """How many replicas follow the server."""
    return int(client.info("replication").get("connected_slaves", 0))
