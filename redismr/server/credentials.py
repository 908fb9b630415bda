"""The users of a private server, their rights, and the secrets that others join with."""

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
"""The user of jobs, and the user who opens and closes the port; only this process logs in as the
second."""


@dataclass(frozen=True, slots=True)
class Credentials(Unpicklable):
    """The two secrets of a private server."""

    auth: str = field(repr=False)  #: Password of the user of jobs; sent to the server, unencrypted.
    secret: str = field(repr=False)  #: The key that signs and seals; never sent.

    def __post_init__(self) -> None:
        remember_secrets(self.auth, self.secret, private=True)


def random_credentials() -> Credentials:
    """Return two random secrets that say nothing about each other."""
    return Credentials(auth=secrets.token_hex(32), secret=secrets.token_hex(32))


@functools.lru_cache(maxsize=8)
def derived_credentials(password: str) -> Credentials:
    """Return the two secrets that every machine derives from this password.

    A person who reads AUTH on the network can only guess the password, at 0.2 s of scrypt a guess.
    64 hex digits are taken as 32 random bytes, and not stretched.
    """
    remember_secrets(password)  # both secrets follow from it
    if re.fullmatch(r"[0-9a-f]{64}", password):
        master_key = bytes.fromhex(password)
    else:
        master_key = hashlib.scrypt(
            password.encode(), salt=b"redismr/serve/1", n=2**15, r=8, p=1, maxmem=64 << 20
        )

    auth = hmac.digest(master_key, b"redismr/serve/auth", "sha256").hex()
    return Credentials(auth, hmac.digest(master_key, b"redismr/serve/secret", "sha256").hex())


def join(host: str, port: int, password: str, *, namespace: str | None = None) -> Connection:
    """Return how another machine reaches ``serve(bind, port, password)``; nothing is sent.

    >>> from redismr.server import join
    >>> join("192.0.2.7", 6379, "words that nobody guesses", namespace="letters").namespace
    'letters'
    """
    credentials = derived_credentials(password)
    url = tcp_url(host, port, credentials.auth)
    return Connection(url=url, secret=credentials.secret, namespace=resolve_namespace(namespace))


def tcp_url(host: str, port: int, auth: str) -> str:
    """Return the URL of the server for a machine that calls the server's machine ``host``."""
    return f"redis://{JOIN_USER}:{auth}@{f'[{host}]' if ':' in host else host}:{port}/0"


def user_acl(auth: str, namespace: str) -> str:
    """Return configuration lines for one user, limited to the keys and channels of a namespace.

    Refused: CONFIG, SHUTDOWN, REPLICAOF, FLUSHALL, DEBUG, KEYS, MIGRATE, and CLIENT commands about
    other clients. INFO is allowed, although Redis counts it as dangerous: redismr reads from it the
    version, the memory policy and the memory in use.
    """
    allowed = f"~{namespace}:* &{namespace}:* +@all -@admin -@dangerous +info"
    return f"user default reset\nuser {JOIN_USER} reset on >{auth} {allowed}\n"


def is_loopback(bind: str) -> bool:
    """True if only this machine can reach a server that is bound to this address."""
    try:
        return ipaddress.ip_address(bind).is_loopback
    except ValueError:
        return bind == "localhost"
