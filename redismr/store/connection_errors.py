"""Turns an error of redis-py into one that says why a server cannot be reached or used.

``StoreUnavailable`` is a trouble that may pass by itself: workers wait. ``UnfitServer`` is one that
stays until somebody changes the URL or the server.
"""

import contextlib
import re
import socket
import ssl
from urllib.parse import unquote, urlsplit

import redis
from redis.exceptions import InvalidResponse

from redismr.confidential import passwords_in
from redismr.config import Connection
from redismr.errors import StoreError, StoreUnavailable, UnfitServer
from redismr.store.error_kinds import NO_ANSWER_ERRORS, TEMPORARY_WORDS, error_kind, error_text
from redismr.store.sentinel import is_sentinel_url

PROBE_SECONDS = 0.5
"""Longest time that a question about a port (TLS? Redis?) takes."""


def connection_error(
    exc: Exception, connection: Connection, shown_address: str, seconds: float, remedy: str
) -> StoreError:
    """Return the error to raise for an error that came while a server was checked.

    ``seconds`` is how long the check waited for an answer; ``remedy`` says how a user gets rights.
    """
    server = f"the server at {shown_address}"
    word, message = kind = error_kind(exc)
    if isinstance(exc, redis.AuthenticationError):  # a ConnectionError to redis-py
        return UnfitServer(_login_trouble(message, connection, server))
    if word == "NOPERM":
        found = re.search(r"'([\w|]+)' command", message)
        command = found[1].replace("|", " ").upper() if found else "a command"
        return UnfitServer(f"{server} does not let this user use {command} (NOPERM): {remedy}")
    if word == "DENIED":
        return UnfitServer(_protected_mode_text(server))
    if word in TEMPORARY_WORDS:
        return StoreUnavailable(f"{server} is not ready: {kind.full_text}")
    if isinstance(exc, (*NO_ANSWER_ERRORS, InvalidResponse)):
        return _unreached_error(exc, connection, shown_address, seconds)
    if "index is out of range" in message or "invalid DB index" in message:
        return UnfitServer(
            f"{server} has no database of that number ({message}): the URL's last part must be "
            "below its setting `databases`, which is 16 by default"
        )
    unknown = re.search(r"(?i)unknown command\W*(\w+)", message)
    if unknown and is_sentinel_url(connection.url):
        return UnfitServer(
            f"what answers for {shown_address} is no Sentinel: name a server by redis://HOST:PORT"
        )
    if unknown:
        return UnfitServer(unknown_command_text(server, unknown[1]))
    return UnfitServer(f"{server} refused the check before the first job: {message}")


def unknown_command_text(server: str, names: str) -> str:
    """Return the text for a server that does not know these commands."""
    return (
        f"{server} knows no {names} (rename-command in its settings?), which redismr needs: give "
        "it a server with all commands"
    )


def _protected_mode_text(server: str) -> str:
    return (
        f"{server} is in protected mode: it serves only its own machine until it has a password "
        "(requirepass), which then goes into the URL"
    )


def _login_trouble(message: str, connection: Connection, server: str) -> str:
    """Return what is wrong with the user name and the password, or with giving none."""
    if "Authentication required" in message or not passwords_in(connection.url):
        return (
            f"{server} asks for a password: write it into the URL, "
            "redis://USER:PASSWORD@HOST (or :PASSWORD@HOST), or set REDISMR_PASSWORD to it"
        )
    if "without any password configured" in message:
        return f"{server} has no password, and the URL gives one: leave that out"
    return f"{server} refused the URL's user or password: {message}"


def _unreached_error(
    exc: Exception, connection: Connection, shown_address: str, seconds: float
) -> StoreError:
    """Return the error for a server of which no answer came, or none in the form of Redis."""
    server, message = f"the server at {shown_address}", error_text(exc)
    if is_sentinel_url(connection.url):  # cut off the representations of redis-py's clients
        message, _, more = message.partition(" : ")
        message = message.partition(" for '")[0]  # the service stands in our text
        message += ", and not all sentinels answer" if more else ""
    if "path too long" in message:
        return UnfitServer(f"{shown_address} has too long a path: some 100 bytes are possible")
    greeting = "" if isinstance(exc, redis.TimeoutError | TimeoutError) else _greeting(connection)
    if "-DENIED" in greeting:
        return UnfitServer(_protected_mode_text(server))
    if "max number of clients" in message + greeting:
        return StoreUnavailable(
            f"{server} has reached its limit of clients (maxclients): end some, or raise it"
        )
    if trouble := _tls_trouble(exc, connection, shown_address):
        return UnfitServer(trouble)
    if isinstance(exc, InvalidResponse):
        return UnfitServer(f"what listens at {shown_address} is no Redis: {message}")
    if isinstance(exc, TimeoutError | redis.TimeoutError) and "connecting" not in message.lower():
        return StoreUnavailable(
            f"no Redis answers at {shown_address}: the connection was accepted, but no answer came "
            f"within {seconds:g} s"
        )
    return StoreUnavailable(f"no Redis answers at {shown_address}: {message}")


def _tls_trouble(exc: Exception, connection: Connection, shown_address: str) -> str:
    """Return what is wrong with TLS; "" if nothing is known to be wrong."""
    url = urlsplit(connection.url)
    if url.scheme not in ("redis", "rediss") or not url.hostname:
        return ""
    endpoint = (url.hostname, url.port or 6379)
    server, message = f"the server at {shown_address}", str(exc)
    if url.scheme == "redis":
        silent = isinstance(exc, redis.TimeoutError)  # a TLS server hangs up on plain text
        if silent or "refused" in message or not _speaks_tls(endpoint):
            return ""
        return f"{server} speaks TLS: write rediss:// instead of redis://"
    if "No such file" in message:
        return "a file that the URL names for TLS (ssl_ca_certs, ssl_certfile...) is not there"
    if "CERTIFICATE_VERIFY_FAILED" in message:
        why = message.partition("CERTIFICATE_VERIFY_FAILED]")[2].partition("(_ssl")[0].strip()
        return (
            f"the certificate of {server} is not trusted here ({why}): add "
            "?ssl_ca_certs=FILE to the URL, with the authority that signed it"
        )
    if "CERTIFICATE_REQUIRED" in message or "certificate required" in message:
        return (
            f"{server} asks for a certificate of ours: add "
            "?ssl_certfile=FILE&ssl_keyfile=FILE to the URL"
        )
    if _speaks_redis(endpoint):
        return f"{server} speaks no TLS: write redis:// instead of rediss://"
    if "WRONG_VERSION_NUMBER" in message or "RECORD_LAYER" in message:
        return f"what listens at {shown_address} speaks neither TLS nor Redis: {error_text(exc)}"
    return ""


def _greeting(connection: Connection) -> str:
    """Return what a server sends first: why it hangs up. A client that writes first may miss it."""
    url = urlsplit(connection.url)
    with contextlib.suppress(OSError, ValueError):
        if url.scheme == "unix":
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(PROBE_SECONDS)
                sock.connect(unquote(url.path))
                return sock.recv(256).decode("utf-8", "replace")
        if url.scheme == "redis" and url.hostname:
            with socket.create_connection((url.hostname, url.port or 6379), PROBE_SECONDS) as sock:
                return sock.recv(256).decode("utf-8", "replace")
    return ""


def _speaks_tls(endpoint: tuple[str, int]) -> bool:
    """True if a TLS handshake is answered. Nothing secret is sent, so no certificate is needed."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with socket.create_connection(endpoint, PROBE_SECONDS) as sock, context.wrap_socket(sock):
            return True
    except ssl.SSLError as exc:
        return "ALERT" in (exc.reason or "")  # only a TLS server refuses in this way
    except OSError:
        return False


def _speaks_redis(endpoint: tuple[str, int]) -> bool:
    """True if a PING in clear, which tells no secret, gets an answer of Redis."""
    with contextlib.suppress(OSError), socket.create_connection(endpoint, PROBE_SECONDS) as sock:
        sock.sendall(b"PING\r\n")
        message = sock.recv(64)
        return message.startswith(
            (b"+PONG", b"-NOAUTH", b"-ERR", b"-NOPERM", b"-DENIED", b"-LOADING")
        )
    return False
