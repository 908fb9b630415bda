"""Transactions of the fork of mincemeat.py: a datasource, and how to work through it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, ClassVar

from redismr.compat.user_commands import Channel

log = logging.getLogger("mincemeat")


@dataclass(frozen=True)
class Transaction:
    """One datasource, and how to work through it."""

    datasource: Any
    txn: Any  #: the user's label
    allocation: int  #: CONTINUOUS, or ONESHOT: one task for each worker
    cycle: int  #: SINGLEUSE, or PERMANENT: the server goes on
    retransmit: float  #: 0 forbids backups
    outcome: Future[dict[Any, Any]] | None = None  #: gets the results, in place of ``resultfn``


class TaskManager:
    """The state of a server, in the constants of the fork, and the defaults of its transactions."""

    IDLE, START, MAPPING, REDUCING, FINISHING, FINISHED = range(6)
    MAPREDUCE, MAPONLY, REDUCEONLY = range(3)
    CONTINUOUS, ONESHOT = range(2)
    SINGLEUSE, PERMANENT = range(2)

    statename: ClassVar[dict[int, str]] = dict(
        enumerate(("IDLE", "START", "MAPPING", "REDUCING", "FINISHING", "FINISHED"))
    )

    def __init__(self, list_channels: Callable[[], dict[Channel, None]] = dict) -> None:
        self._list_channels = list_channels
        self.state = self.IDLE
        self.tasks, self.allocation, self.cycle = self.MAPREDUCE, self.CONTINUOUS, self.SINGLEUSE
        self.txn: Any = None
        self.defaults: dict[str, Any] = {
            "datasource": None,
            "txn": None,
            "allocation": self.CONTINUOUS,
            "cycle": self.SINGLEUSE,
            "retransmit": 5,
        }

    @property
    def channels(self) -> dict[Channel, None]:
        """The lines to the clients that are connected now."""
        return self._list_channels()

    def start(self, transaction: Transaction, mapfn: object, reducefn: object) -> None:
        """Begin a transaction with these functions."""
        self.txn, self.state = transaction.txn, self.START
        self.allocation, self.cycle = transaction.allocation, transaction.cycle
        self.tasks = self.phases_for(mapfn, reducefn)

    def phases_for(self, mapfn: object, reducefn: object) -> int:
        """Return which phases these functions ask for: MAPREDUCE, MAPONLY or REDUCEONLY."""
        if reducefn is None:
            return self.MAPONLY
        return self.REDUCEONLY if mapfn is None else self.MAPREDUCE

    def transaction(
        self, given: Mapping[str, Any], outcome: Future[dict[Any, Any]] | None = None
    ) -> Transaction:
        """Return a transaction with these settings; defaults replace None and what is missing."""
        chosen = dict(self.defaults)
        for name, value in given.items():
            if name not in chosen:
                log.warning("unrecognized TaskManager configuration: %s", name)
            elif value is not None:
                chosen[name] = value
        return Transaction(**chosen, outcome=outcome)
