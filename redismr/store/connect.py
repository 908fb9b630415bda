"""Opens connections to a server, and refuses one that would lose job data.

redis-py's defaults retry any command, INCR and BLMOVE included; measured: an INCR counted twice.
So clients are built without retries here, and ``store`` repeats what is safe to repeat.
"""

from __future__ import annotations

from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from redismr.confidential import blanked
from redismr.config import Connection
from redismr.errors import ConfigError, StoreUnavailable, UnfitServer
from redismr.store.sentinel import follow, is_watched, watched

FLOOR = (7, 0)
"""Redis 7.0 (and Valkey 7.2, which calls itself 7.2): scripts with flags, ZRANGE BYSCORE."""

BLOCK_SECONDS = 10.0
"""The longest a blocking pop may wait; socket timeouts stand above it."""


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
        "socket_connect_timeout": 5,
        "health_check_interval": 0,
        "client_name": name,
    }
    if not connection.url.startswith("unix:"):
        settings["socket_keepalive"] = True
    if is_watched(connection.url):
        return follow(watched(connection.url), **settings)
    try:
        return redis.Redis.from_url(connection.url, **settings)
    except ValueError as exc:
        raise ConfigError(f"cannot use the Redis URL: {blanked(str(exc))}") from None


def address(url: str, client: redis.Redis) -> str:
    """Where a client's server is, for messages, without passwords."""
    if is_watched(url):
        return str(watched(url))
    kwargs = client.connection_pool.connection_kwargs
    if "path" in kwargs:
        return f"unix socket {kwargs['path']}"
    return f"{kwargs.get('host')}:{kwargs.get('port')}"


def check_server(client: redis.Redis, where: str) -> None:
    """Refuse a server that is too old, or whose memory policy could evict a job's data.

    Raises:
        UnfitServer: says which setting, its value, and what to set; or that it lets us not in.
        StoreUnavailable: the server does not answer.
    """
    try:
        info = client.info("server")
        memory = client.info("memory")
    except redis.AuthenticationError as exc:  # a ConnectionError to redis-py
        raise UnfitServer(f"the server at {where} refused the URL's password: {exc}") from exc
    except (redis.ConnectionError, redis.TimeoutError, OSError) as exc:
        raise StoreUnavailable(f"no Redis answers at {where}: {exc}") from exc
    except RedisError as exc:
        raise UnfitServer(f"the server at {where} refused INFO: {exc}") from exc
    version = str(info.get("redis_version", "0"))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < FLOOR:
        raise UnfitServer(
            f"the server at {where} is Redis {version}; redismr needs Redis 7.0 or Valkey 7.2"
        )
    policy = str(memory.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        raise UnfitServer(
            f"the server at {where} evicts keys when it is full (maxmemory-policy {policy}), "
            "which would lose parts of a job. Set it: CONFIG SET maxmemory-policy noeviction, or "
            "give redismr a server of its own"
        )


def replicas(client: redis.Redis) -> int:
    """How many replicas follow the server."""
    return int(client.info("replication").get("connected_slaves", 0))
