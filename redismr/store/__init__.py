"""The only room that knows Redis: keys, scripts, and one method per verb."""

from __future__ import annotations

from redismr.store.answers import Added, Commit, Committed, Look, Moves, Outcome, Reclaimed
from redismr.store.hints import BEAT_SECONDS, FEW_TASKS, Waking
from redismr.store.link import number
from redismr.store.store import Store

__all__ = [
    "BEAT_SECONDS",
    "FEW_TASKS",
    "Added",
    "Commit",
    "Committed",
    "Look",
    "Moves",
    "Outcome",
    "Reclaimed",
    "Store",
    "Waking",
    "number",
]
