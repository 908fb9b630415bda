"""Transactions as the fork of mincemeat.py names them: a datasource to be worked through."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

log = logging.getLogger("mincemeat")


@dataclass(frozen=True)
class Transaction:
    """One datasource, and how it is to be worked through."""

    datasource: Any
    txn: Any
    allocation: int
    cycle: int
    retransmit: float


class TaskManager:
    """Where a server stands, in the fork's words; ``defaults`` are those of its transactions."""

    IDLE, START, MAPPING, REDUCING, FINISHING, FINISHED = range(6)
    MAPREDUCE, MAPONLY, REDUCEONLY = range(3)
    CONTINUOUS, ONESHOT = range(2)
    SINGLEUSE, PERMANENT = range(2)

    statename: ClassVar[dict[int, str]] = dict(
        enumerate(("IDLE", "START", "MAPPING", "REDUCING", "FINISHING", "FINISHED"))
    )

    def __init__(self) -> None:
        self.state = self.IDLE
        self.tasks = self.MAPREDUCE
        self.txn: Any = None
        self.defaults: dict[str, Any] = {
            "datasource": None,
            "txn": None,
            "allocation": self.CONTINUOUS,
            "cycle": self.SINGLEUSE,
            "retransmit": 5,
        }

    def transaction(self, given: Mapping[str, Any]) -> Transaction:
        """A transaction with these settings, and the defaults for what is not given or None."""
        chosen = dict(self.defaults)
        for name, value in given.items():
            if name not in chosen:
                log.warning("unrecognized TaskManager configuration: %s", name)
            elif value is not None:
                chosen[name] = value
        return Transaction(**chosen)

    def kind(self, mapfn: object, reducefn: object) -> int:
        """Which phases these functions ask for."""
        if reducefn is None:
            return self.MAPONLY
        return self.REDUCEONLY if mapfn is None else self.MAPREDUCE
