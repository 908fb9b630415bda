"""Why a server cannot be reached, or lets nobody in: from an error of redis-py to a true line.

What heals by itself, or may be started later, is ``StoreUnavailable``: workers wait for that. What
stays so until somebody changes the URL or the server is ``UnfitServer``.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
from urllib.parse import unquote, urlsplit

import redis
from redis.exceptions import BusyLoadingError, InvalidResponse

from redismr.confidential import passwords_in
from redismr.config import Connection
from redismr.errors import StoreError, StoreUnavailable, UnfitServer
from redismr.store.refusals import AWAY, PASSING, plainly, refusal, worded
from redismr.store.sentinel import is_watched

KNOCK_SECONDS = 0.5
"""How long a port is asked whether it speaks TLS."""


def explained(
    exc: Exception, connection: Connection, where: str, seconds: float, way_out: str
) -> StoreError:
    """The error to raise for one that came while a server was looked at.

    ``seconds`` is how long an answer was waited for; ``way_out`` says how a user gets its rights.
    """
    word, said = refusal(exc)
    if isinstance(exc, redis.AuthenticationError):  # a ConnectionError to redis-py
        return UnfitServer(_locked(said, connection, where))
    if word == "NOPERM":
        found = re.search(r"'([\w|]+)' command", said)
        command = found[1].replace("|", " ").upper() if found else "a command"
        return UnfitServer(
            f"the server at {where} does not let this user use {command} (NOPERM): {way_out}"
        )
    if word == "DENIED":
        return UnfitServer(_protected(where))
    if word in PASSING or isinstance(exc, BusyLoadingError):
        return StoreUnavailable(f"the server at {where} is not ready: {worded(word, said)}")
    if isinstance(exc, (*AWAY, InvalidResponse)):
        return _unreached(exc, connection, where, seconds)
    if "index is out of range" in said or "invalid DB index" in said:
        return UnfitServer(
            f"the server at {where} has no database of that number ({said}): the URL's last part "
            "must be below its setting `databases`, which is 16 by default"
        )
    unknown = re.search(r"(?i)unknown command\W*(\w+)", said)
    if unknown and is_watched(connection.url):
        return UnfitServer(
            f"what answers for {where} is no Sentinel: name a server by redis://HOST:PORT"
        )
    if unknown:
        return UnfitServer(unknowing(where, unknown[1]))
    return UnfitServer(f"the server at {where} refused to be looked at: {said}")


def unknowing(where: str, names: str) -> str:
    """What is said of a server that does not know these commands."""
    return (
        f"the server at {where} knows no {names} (rename-command in its settings?), which redismr "
        "needs: give it a server with all commands"
    )


def _protected(where: str) -> str:
    return (
        f"the server at {where} is in protected mode: it serves only its own machine until it has "
        "a password (requirepass), which then goes into the URL"
    )


def _locked(said: str, connection: Connection, where: str) -> str:
    """What is wrong with a user name and a password, or with having none."""
    if "Authentication required" in said or not passwords_in(connection.url):
        return (
            f"the server at {where} asks for a password: write it into the URL, "
            "redis://USER:PASSWORD@HOST (or :PASSWORD@HOST), or set REDISMR_PASSWORD to it"
        )
    if "without any password configured" in said:
        return f"the server at {where} has no password, and the URL gives one: leave that out"
    return f"the server at {where} refused the URL's user or password: {said}"


def _unreached(exc: Exception, connection: Connection, where: str, seconds: float) -> StoreError:
    """Nobody answered as Redis does."""
    said = plainly(exc)
    if is_watched(connection.url):  # what follows are representations of redis-py's clients
        said, _, more = said.partition(" : ")
        said = said.partition(" for '")[0]  # the service stands in our text
        said += ", and not all sentinels answer" if more else ""
    if "path too long" in said:
        return UnfitServer(f"{where} has too long a path: some 100 bytes are possible")
    greeting = "" if isinstance(exc, redis.TimeoutError | TimeoutError) else _greeting(connection)
    if "-DENIED" in greeting:
        return UnfitServer(_protected(where))
    if "max number of clients" in said + greeting:
        return StoreUnavailable(
            f"the server at {where} has as many clients as it takes: end some, or raise its "
            "maxclients"
        )
    if trouble := _tls_trouble(exc, connection, where):
        return UnfitServer(trouble)
    if isinstance(exc, InvalidResponse):
        return UnfitServer(f"what listens at {where} is no Redis: {said}")
    if isinstance(exc, TimeoutError | redis.TimeoutError) and "connecting" not in said.lower():
        return StoreUnavailable(
            f"no Redis answers at {where}: the connection was taken, and nothing was said for "
            f"{seconds:g} s"
        )
    return StoreUnavailable(f"no Redis answers at {where}: {said}")


def _tls_trouble(exc: Exception, connection: Connection, where: str) -> str:
    """What is wrong with TLS, "" if nothing is known to be."""
    url = urlsplit(connection.url)
    if url.scheme not in ("redis", "rediss") or not url.hostname:
        return ""
    place = (url.hostname, url.port or 6379)
    said = str(exc)
    if url.scheme == "redis":
        silent = isinstance(exc, redis.TimeoutError)  # who speaks TLS hangs up on what is none
        if silent or "refused" in said or not _speaks_tls(place):
            return ""
        return f"the server at {where} speaks TLS: write rediss:// instead of redis://"
    if "No such file" in said:
        return "a file that the URL names for TLS (ssl_ca_certs, ssl_certfile...) is not there"
    if "CERTIFICATE_VERIFY_FAILED" in said:
        why = said.partition("CERTIFICATE_VERIFY_FAILED]")[2].partition("(_ssl")[0].strip()
        return (
            f"the certificate of the server at {where} is not trusted here ({why}): add "
            "?ssl_ca_certs=FILE to the URL, with the authority that signed it"
        )
    if "CERTIFICATE_REQUIRED" in said or "certificate required" in said:
        return (
            f"the server at {where} asks for a certificate of ours: add "
            "?ssl_certfile=FILE&ssl_keyfile=FILE to the URL"
        )
    if _speaks_redis(place):
        return f"the server at {where} speaks no TLS: write redis:// instead of rediss://"
    if "WRONG_VERSION_NUMBER" in said or "RECORD_LAYER" in said:
        return f"what listens at {where} speaks neither TLS nor Redis: {plainly(exc)}"
    return ""


def _greeting(connection: Connection) -> str:
    """What a server says unasked: why it hangs up, which who writes first may not get to read."""
    url = urlsplit(connection.url)
    with contextlib.suppress(OSError, ValueError):
        if url.scheme == "unix":
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(KNOCK_SECONDS)
                line.connect(unquote(url.path))
                return _heard(line)
        if url.scheme == "redis" and url.hostname:
            with socket.create_connection((url.hostname, url.port or 6379), KNOCK_SECONDS) as line:
                return _heard(line)
    return ""


def _heard(line: socket.socket) -> str:
    return line.recv(256).decode("utf-8", "replace")


def _speaks_tls(place: tuple[str, int]) -> bool:
    """Whether a handshake is answered; nothing is said, so nobody needs to be trusted."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection(place, KNOCK_SECONDS) as plain,
            context.wrap_socket(plain),
        ):
            return True
    except ssl.SSLError as exc:
        return "ALERT" in (exc.reason or "")  # only who speaks TLS refuses so
    except OSError:
        return False


def _speaks_redis(place: tuple[str, int]) -> bool:
    """Whether a PING in clear, which tells no secret, is answered as Redis does."""
    with (
        contextlib.suppress(OSError),
        socket.create_connection(place, KNOCK_SECONDS) as plain,
    ):
        plain.sendall(b"PING\r\n")
        said = plain.recv(64)
        return said.startswith((b"+PONG", b"-NOAUTH", b"-ERR", b"-NOPERM", b"-DENIED", b"-LOADING"))
    return False
