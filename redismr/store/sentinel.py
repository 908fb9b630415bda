"""Servers that Sentinel watches: the URL that names them, and a client that follows the master.

The URL is the one of other projects: ``redis+sentinel://HOST[:26379][,HOST...]/SERVICE[/DB]``. The
master's ``[USER]:PASSWORD@`` stands before the hosts, the login of the sentinels in the query
(``sentinel_username``, ``sentinel_password``). ``rediss+sentinel`` means TLS to all of them.
"""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

import redis
from redis.sentinel import Sentinel

from redismr.errors import ConfigError

SENTINEL_SECONDS = 1.0
"""A sentinel that takes longer for an answer is passed over: the next may know the master."""

_URL = re.compile(
    r"(?P<scheme>rediss?)\+sentinel://"
    r"(?:(?P<username>[^:@/?#]*)(?::(?P<password>[^@/?#]*))?@)?"
    r"(?P<hosts>[^/@?#]+)/(?P<service>[^/?#]+)(?:/(?P<db>\d{1,9})?)?(?:\?(?P<query>[^#]*))?"
)
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[^\[\]:\s]+)(?::(?P<port>\d{1,5}))?")
_QUERY = ("sentinel_username", "sentinel_password")


@dataclass(frozen=True, slots=True)
class SentinelService:
    """A service, the sentinels that know its master, and the login of each."""

    service: str  #: The name by which the sentinels know the master.
    sentinels: tuple[tuple[str, int], ...]  #: Host and port of each.
    db: int  #: Number of the database.
    login: dict[str, str]  #: Username and password for the master, where given.
    sentinel_login: dict[str, str]  #: The same for the sentinels.
    tls: bool  #: True for rediss.

    def __str__(self) -> str:
        """For messages, without passwords."""
        hosts = ", ".join(f"{host}:{port}" for host, port in self.sentinels)
        return f"the master of {self.service!r} (sentinels {hosts})"


def is_sentinel_url(url: str) -> bool:
    """True if the URL names sentinels instead of a server."""
    return url.partition("://")[0] in ("redis+sentinel", "rediss+sentinel")


def parse_sentinel_url(url: str) -> SentinelService:
    """Parse a sentinel URL.

    Raises:
        ConfigError: the URL has another form; the text holds no password.
    """
    match = _URL.fullmatch(url)
    if match is None:
        raise ConfigError(
            "the sentinel URL must be redis+sentinel://[[USER]:PASSWORD@]HOST[:26379][,HOST...]"
            "/SERVICE[/DB], with special characters of the password percent-encoded"
        )
    sentinels = []
    for host in match["hosts"].split(","):
        found = _HOST.fullmatch(host)
        port = int(found["port"] or 26379) if found else 0
        if found is None or not 0 < port < 65536:
            raise ConfigError(f"the sentinel URL names {host!r}, which is not HOST or HOST:PORT")
        sentinels.append((found["name"].strip("[]"), port))
    query = dict(parse_qsl(match["query"] or "", keep_blank_values=True))
    if unknown := sorted(query.keys() - set(_QUERY)):
        raise ConfigError(
            f"the sentinel URL has an option {', '.join(unknown)}; there are: {', '.join(_QUERY)}"
        )
    return SentinelService(
        unquote(match["service"]),
        tuple(sentinels),
        int(match["db"] or 0),
        {n: unquote(match[n]) for n in ("username", "password") if match[n]},
        {name.removeprefix("sentinel_"): query[name] for name in _QUERY if query.get(name)},
        match["scheme"] == "rediss",
    )


def sentinel_client(service: SentinelService, **settings: Any) -> redis.Redis:
    """Return a client that connects to whichever server is the master at that moment."""
    tls = {"ssl": True} if service.tls else {}
    timeouts = {"socket_timeout": SENTINEL_SECONDS, "socket_connect_timeout": SENTINEL_SECONDS}
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        service.sentinels, sentinel_kwargs={**settings, **timeouts, **tls, **service.sentinel_login}
    )
    return sentinel.master_for(  # type: ignore[no-any-return, no-untyped-call]
        service.service, db=service.db, **service.login, **tls, **settings
    )
