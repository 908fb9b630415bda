"""The only room that knows Redis: keys, scripts, and one method per verb."""

from __future__ import annotations

from redismr.store.hints import BEAT_SECONDS
from redismr.store.link import number
from redismr.store.store import Added, Commit, Committed, Look, Reclaimed, Store

__all__ = ["BEAT_SECONDS", "Added", "Commit", "Committed", "Look", "Reclaimed", "Store", "number"]
