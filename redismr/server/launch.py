"""``start`` and ``serve``: check the options of a private server, and start it."""

import re

from redismr.confidential import MIN_SECRET_LENGTH, weakness_of
from redismr.config import MAX_PORT, int_rule, text_rule
from redismr.errors import ConfigError
from redismr.process_guards import refuse_too_deep, refuse_while_loading
from redismr.server.binary import find_binary
from redismr.server.credentials import derived_credentials, is_loopback, random_credentials
from redismr.server.early_listener import EarlyListener
from redismr.server.private import PrivateServer
from redismr.settings import check_text, resolve_namespace

_PORT_RULE = int_rule(0, MAX_PORT, f"a whole number (int) between 0 (any free port) and {MAX_PORT}")
_MAXMEMORY_RULE = int_rule(0, 1 << 62, "a whole number (int) of bytes, 0 for no limit")


def start(
    *,
    bind: str | None = None,
    port: int | None = None,
    password: str | None = None,
    namespace: str | None = None,
    maxmemory: int | None = None,
    wait: bool = True,
) -> PrivateServer:
    """Start a server on a unix socket that only this user can open, and on TCP if one is asked for.

    The options are those of ``serve``. TCP is on if ``bind`` or ``port`` is given. ``wait=False``
    returns at once; call ``ready`` before the server is used.

    Raises:
        ConfigError: there is no server binary, or the address is not one.
        RunawayJob: a worker is loading the module that calls this, or too many jobs are nested.
        OSError: the address is taken (EADDRINUSE), or is not of this machine.
        StoreUnavailable: the server did not start; the text holds the end of its output.
    """
    refuse_while_loading()
    refuse_too_deep()
    if maxmemory is not None:
        maxmemory = _MAXMEMORY_RULE.check("maxmemory", maxmemory)
    # The port comes first: scrypt and the server's start take time, and clients may come at once.
    early_listener = (
        None if bind is None and port is None else EarlyListener(*_checked_address(bind, port))
    )
    try:
        server = PrivateServer(
            binary=find_binary(),
            credentials=random_credentials() if password is None else derived_credentials(password),
            namespace=resolve_namespace(namespace),
            early_listener=early_listener,
            maxmemory=maxmemory,
        )
        if wait:
            server.ready()
    except BaseException:
        if early_listener:
            early_listener.close()
        raise
    return server


def serve(
    bind: str = "127.0.0.1",
    port: int = 0,
    password: str | None = None,
    *,
    namespace: str | None = None,
    maxmemory: int | None = None,
) -> PrivateServer:
    """Start a private server that others may join, until this process ends.

    Others join with ``url_for(host)`` and ``connection.secret`` as REDISMR_URL and REDISMR_SECRET,
    or with ``redismr.server.join(host, port, password)``. There is no TLS: a person who can read
    the network traffic reads the data, but cannot have anything run.

    >>> from redismr.server import serve
    >>> with serve() as server:
    ...     server.url_for("localhost").endswith(f"@localhost:{server.port}/0")
    True

    Args:
        bind: the address to listen at; "" for all addresses of this machine.
        port: the TCP port; 0 picks a free one, which is the server's ``port``.
        password: for ``join``; None: random secrets.
        namespace: the prefix of the keys and channels that the server's user may touch.
        maxmemory: bytes, 0 for no limit; None: half of the machine's memory.

    Returns:
        The server, which answers already; ``close`` or a ``with`` block ends it before the process.

    Raises:
        ConfigError: the password can be guessed, at an address that others can reach; or as
            ``start``.
        RunawayJob, OSError, StoreUnavailable: as ``start``.
    """
    if password is not None:
        check_text("the password", password)
    if password is not None and not is_loopback(bind) and (weakness := weakness_of(password)):
        raise ConfigError(
            f"the password for {bind or 'all addresses'} {weakness}. Whoever guesses it can run code "  # noqa: E501
            f"on every worker, so it must have at least {MIN_SECRET_LENGTH} characters that nobody "
            "guesses. `redismr secret` makes one; other passwords are allowed for 127.0.0.1 only"
        )
    return start(bind=bind, port=port, password=password, namespace=namespace, maxmemory=maxmemory)


def _checked_address(bind: str | None, port: int | None) -> tuple[str, int]:
    """Return host ("" for all) and port, checked: they become lines of the configuration."""
    host = "127.0.0.1" if bind is None else bind
    if not re.fullmatch(r"[A-Za-z0-9_.:%-]*", text_rule(255).check("bind", host)):
        raise ConfigError(f"cannot bind to {host!r}: not a host name or address")
    return host, 0 if port is None else _PORT_RULE.check("port", port)
