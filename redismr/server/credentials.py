"""Who may do what on a private server: its one user, and the secrets that others join with."""

from __future__ import annotations

import functools
import hashlib
import hmac
import ipaddress
import re
import secrets
from dataclasses import dataclass, field

from redismr.confidential import Unpicklable, remember_secrets
from redismr.config import Connection
from redismr.settings import resolve_namespace

JOIN_USER, KEEPER_USER = "redismr", "keeper"
"""Whom others join as, and who opens and closes the port: that is known to no other process."""


@dataclass(frozen=True, slots=True)
class Credentials(Unpicklable):
    """``auth`` is shown to the server, in clear on the wire; ``secret`` signs and never leaves."""

    auth: str = field(repr=False)
    secret: str = field(repr=False)

    def __post_init__(self) -> None:
        """Remember what must not leave this process."""
        remember_secrets(self.auth, self.secret, private=True)


def random_credentials() -> Credentials:
    """Two secrets that tell nothing about each other."""
    return Credentials(auth=secrets.token_hex(32), secret=secrets.token_hex(32))


@functools.lru_cache(maxsize=8)
def derived_credentials(password: str) -> Credentials:
    """The same two secrets on every machine that knows the password.

    Whoever overhears AUTH can only guess the password, at 0.2 s of scrypt a guess. 64 hex digits
    are taken as 32 random bytes and not stretched.
    """
    remember_secrets(password)  # it gives both
    if re.fullmatch(r"[0-9a-f]{64}", password):
        master_key = bytes.fromhex(password)
    else:
        master_key = hashlib.scrypt(
            password.encode(), salt=b"redismr/serve/1", n=2**15, r=8, p=1, maxmem=64 << 20
        )

    def derive(purpose: bytes) -> str:
        return hmac.digest(master_key, purpose, "sha256").hex()

    return Credentials(auth=derive(b"redismr/serve/auth"), secret=derive(b"redismr/serve/secret"))


def join(host: str, port: int, password: str, *, namespace: str | None = None) -> Connection:
    """How another machine reaches ``serve(bind, port, password)``. Nothing is sent."""
    credentials = derived_credentials(password)
    return Connection(
        url=tcp_url(host, port, credentials.auth),
        secret=credentials.secret,
        namespace=resolve_namespace(namespace),
    )


def tcp_url(host: str, port: int, auth: str) -> str:
    """The URL of the server as seen from a machine that calls it ``host``."""
    return f"redis://{JOIN_USER}:{auth}@{f'[{host}]' if ':' in host else host}:{port}/0"


def user_acl(auth: str, namespace: str) -> str:
    """Configuration that leaves one user, with the namespace's keys and channels and no power.

    Refused: CONFIG, SHUTDOWN, REPLICAOF, FLUSHALL, DEBUG, KEYS, MIGRATE, other clients' fate. INFO
    is dangerous only by its category: it tells the version, the memory policy and how full it is.
    """
    allowed = "+@all -@admin -@dangerous +info"
    return (
        "user default reset\n"
        f"user {JOIN_USER} reset on >{auth} ~{namespace}:* &{namespace}:* {allowed}\n"
    )


def keeper_acl(auth: str) -> str:
    """Configuration of the user who may change settings, the port, and nothing else."""
    return f"user {KEEPER_USER} reset on >{auth} +config|set\n"


def is_loopback(bind: str) -> bool:
    """Whether only this machine can reach a server bound to that address."""
    try:
        return ipaddress.ip_address(bind).is_loopback
    except ValueError:
        return bind == "localhost"
