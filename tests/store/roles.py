"""A store that sends each verb as the user of its role, with the rights of `redismr acl`.

Who sends a verb is read from the rooms that call it. What a test itself asks, over ``link``, is
asked as the default user.
"""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import cycle
from typing import TYPE_CHECKING, Any

from support import REPOSITORY, Server

from redismr.config import Connection
from redismr.store import Store
from redismr.store.acl_rules import ROLES, Role, acl_rule
from redismr.store.connect import connect

if TYPE_CHECKING:
    from collections.abc import Callable

_ROOMS: dict[Role, str] = {"worker": "workers", "submitter": "client"}


def _senders() -> dict[str, tuple[Role, ...]]:
    """Return verb -> roles that send it."""
    found: dict[str, tuple[Role, ...]] = {}
    for role, room in _ROOMS.items():
        for path in (REPOSITORY / "redismr" / room).glob("*.py"):
            for name in re.findall(r"\b_?(?:store|listener|cleaner)\.(\w+)\(", path.read_text()):
                if callable(getattr(Store, name, None)):
                    found[name] = tuple(dict.fromkeys((*found.get(name, ()), role)))
    return found


SENDERS = _senders()


def user_url(server: Server, role: Role, namespace: str = "redismr") -> str:
    """Return the server's URL for a new user of this role, made as ``redismr acl`` says."""
    words = acl_rule(role, role, namespace).replace("PASSWORD", "word").split()
    admin = server.client()
    admin.execute_command(*words)
    admin.close()
    return f"{server.url}&username={role}&password=word"


class RoleStore(Store):
    """Sends each verb as a user of its role; as each in turn if several roles send it."""

    def __init__(self, server: Server, **options: Any) -> None:
        connection = Connection(url=server.url, secret=server.secret)
        super().__init__(connection, **options)
        self._clients = {
            role: connect(replace(connection, url=user_url(server, role)), name=role, timeout=20)
            for role in ROLES
        }
        self._turns = {verb: cycle(roles) for verb, roles in SENDERS.items()}
        self._acting = False

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        return self._as_sender(name, found) if name in SENDERS else found

    def _run(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        return self._as_sender(verb, super()._run)(verb, *args, **kwargs)

    def _as_sender(self, verb: str, act: Callable[..., Any]) -> Callable[..., Any]:
        if self._acting or verb not in SENDERS:  # what a verb calls, it calls as the same user
            return act

        def acting(*args: Any, **kwargs: Any) -> Any:
            link = self.redis_client
            before, link.client = link.client, self._clients[next(self._turns[verb])]
            self._acting = True
            try:
                return act(*args, **kwargs)
            finally:
                link.client, self._acting = before, False

        return acting

    def end(self) -> None:
        """Close every connection."""
        for client in (self.redis_client.client, *self._clients.values()):
            client.connection_pool.disconnect()
