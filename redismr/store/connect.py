"""Opens connections to a server.

redis-py retries any command by default, INCR and BLMOVE included; measured: an INCR counted twice.
So this module builds clients without retries, and the store repeats commands that are safe to
repeat.
"""

import re
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from redismr.confidential import redact_secrets
from redismr.config import Connection, int_rule, seconds_rule, show_value
from redismr.errors import ConfigError
from redismr.store.sentinel import is_sentinel_url, parse_sentinel_url, sentinel_client

BLOCK_SECONDS = 10.0
"""Longest time that a blocking pop may wait; socket timeouts are above it."""

_FIXED_OPTIONS = (
    "protocol", "decode_responses", "retry", "encoding", "encoding_errors", "client_name",
    "health_check_interval",
)  # fmt: skip
"""Options for which we ignore the URL: it may be meant for other programs too."""

_MIN_POOL_CONNECTIONS = 100
"""The default of redis-py: each thread that waits needs a connection of its own."""

_TIMEOUT = seconds_rule(0.001, 3600, "between 0.001 and 3600 seconds")
_URL_OPTION_RULES = {
    "db": int_rule(0, (1 << 31) - 1, "the number of a database, from 0 on"),
    "socket_timeout": _TIMEOUT,
    "socket_connect_timeout": _TIMEOUT,
    "socket_read_size": int_rule(1 << 9, 1 << 24),
}
_FLAG_OPTIONS = ("socket_keepalive", "retry_on_timeout", "ssl_check_hostname")
_TEXT_OPTIONS = (
    "username", "password", "lib_name", "lib_version", "retry_on_error", "max_connections",
)  # fmt: skip
_ALLOWED_OPTIONS = {*_FIXED_OPTIONS, *_URL_OPTION_RULES, *_FLAG_OPTIONS, *_TEXT_OPTIONS}
_FLAG_WORDS = ("0", "1", "true", "false", "yes", "no", "t", "f", "y", "n")


def connect(connection: Connection, *, name: str, timeout: float) -> redis.Redis:
    """Return a client with its own pool, whose replies may take ``timeout`` seconds; send nothing.

    Raises:
        ConfigError: redis-py does not understand the URL.
    """
    settings: dict[str, Any] = {
        "protocol": 2,
        "encoding": "utf-8",
        "encoding_errors": "strict",
        "decode_responses": False,
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": timeout,
        "socket_connect_timeout": min(5, timeout),
        "health_check_interval": 0,
        "client_name": name,
    }
    if not connection.url.startswith("unix:"):
        settings["socket_keepalive"] = True
    if is_sentinel_url(connection.url):
        return sentinel_client(parse_sentinel_url(connection.url), **settings)
    _check_query(connection.url)
    try:
        pool = redis.ConnectionPool.from_url(connection.url, **settings)
        given = pool.connection_kwargs
        for option, rule in _URL_OPTION_RULES.items():
            if option in given:
                given[option] = rule.check(option, given[option])
        given.update({name: settings[name] for name in _FIXED_OPTIONS})
        # A command that blocks on the server is answered late: no reason to hang up.
        given["socket_timeout"] = max(timeout, given["socket_timeout"])
        pool.max_connections = max(pool.max_connections, _MIN_POOL_CONNECTIONS)
        pool.connection_class(**given)  # not opened: are all its options known?
    except ConfigError as exc:
        raise ConfigError(f"the Redis URL: {exc}") from None
    except ValueError as exc:
        raise ConfigError(f"cannot use the Redis URL: {redact_secrets(str(exc))}") from None
    except TypeError as exc:
        found = re.search(r"argument '(\w+)'", str(exc))
        what = f"has an option {found[1]}" if found else f"has options ({redact_secrets(str(exc))})"
        tls = found is not None and found[1].startswith("ssl_")
        why = "only a rediss:// URL takes" if tls else "redis-py does not know"
        raise ConfigError(f"the Redis URL {what} that {why}") from None
    return redis.Redis.from_pool(pool)


def _check_query(url: str) -> None:
    """Refuse options that the URL gives twice, and those that a text in a URL cannot express."""
    parts = urlsplit(url)
    query = parse_qsl(parts.query)
    names = [name for name, _ in query]
    if parts.scheme != "unix" and parts.path.strip("/"):
        names.append("db")
    for name, value in query:
        if names.count(name) > 1:
            raise ConfigError(f"the Redis URL gives {name} twice")
        if name not in _ALLOWED_OPTIONS and not name.startswith("ssl_"):
            shown_name = redact_secrets(name)  # a password with a "?" in it looks like one
            raise ConfigError(f"the Redis URL has an option {shown_name} that a URL cannot have")
        if name in _FLAG_OPTIONS and value.lower() not in _FLAG_WORDS:
            raise ConfigError(f"the Redis URL: {name}={show_value(value)} must be true or false")


def address(url: str, client: redis.Redis) -> str:
    """Return where a client's server is, for messages, without passwords."""
    if is_sentinel_url(url):
        return str(parse_sentinel_url(url))
    kwargs = client.connection_pool.connection_kwargs
    if "path" in kwargs:
        return f"unix socket {kwargs['path']}"
    host = kwargs.get("host") or "localhost"
    return f"{f'[{host}]' if ':' in host else host}:{kwargs.get('port') or 6379}"
