"""A TCP port that is open before its server runs: early clients wait, and are then connected.

A private server answers 0.1 to 0.4 s after the call: a password is stretched, two processes start.
Scripts for mincemeat.py start a server and clients at the same time, and such a client tries once.
"""

import contextlib
import errno
import os
import select
import socket
import threading
from typing import NoReturn

_BACKLOG = 512  # connections that may wait; the platform may allow fewer
_READ_BYTES = 1 << 16


class EarlyListener:
    """A port that listens from the first moment; port 0 picks a free one.

    Raises:
        OSError: EADDRINUSE and the like, with the address; gaierror for a name without address.
    """

    def __init__(self, bind: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in bind else socket.AF_INET
        try:
            self._listener = socket.create_server((bind, port), family=family, backlog=_BACKLOG)
        except OSError as exc:
            if isinstance(exc.__context__, socket.gaierror):  # its number is no errno
                raise exc.__context__ from None
            raise_address_error(exc.errno or errno.EINVAL, bind, port)
        self.bind, self.port = bind, int(self._listener.getsockname()[1])
        self._early_clients: list[socket.socket] = []

    def stop_listening(self) -> None:
        """Close the port; early clients stay connected."""
        self._listener.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                self._early_clients.append(self._listener.accept()[0])
        with contextlib.suppress(OSError):  # a forked child may hold it open
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def forward_early_clients(self, path: str) -> None:
        """Connect early clients with the server that listens at the unix socket ``path``."""
        for client in self._early_clients:
            client.settimeout(None)
            threading.Thread(
                target=_forward_bytes, args=(client, path), name="early-client", daemon=True
            ).start()

    def close(self) -> None:
        """Close the port and all early clients: no server started, or this is a forked child."""
        for sock in (self._listener, *self._early_clients):
            sock.close()


def raise_address_error(number: int, bind: str, port: int) -> NoReturn:
    """Raise the OSError with this errno, and the address in its text."""
    raise OSError(number, os.strerror(number), f"{bind or '*'}:{port}")


def _forward_bytes(client: socket.socket, path: str) -> None:
    """Copy bytes in both directions until one end closes; then close both."""
    with client, socket.socket(socket.AF_UNIX) as server, contextlib.suppress(OSError, ValueError):
        server.connect(path)
        peer_of = {client: server, server: client}
        while True:
            for readable in select.select(list(peer_of), [], [])[0]:
                piece = readable.recv(_READ_BYTES)
                if not piece:
                    client.shutdown(socket.SHUT_RDWR)  # a forked child may hold it open
                    return
                peer_of[readable].sendall(piece)
