"""The Pool side with the garbage collector settings of redismr's executors.

The parent, which merges, has them too: objects from before the Pool is opened are never scanned
again, and collections are rare (``workers/fork_server.py``, ``workers/process_setup.py``).
"""

from __future__ import annotations

import gc
from typing import Any

from benchmarks import by_pool
from benchmarks.measure import Side


def side(job_name: str) -> Side[Any]:
    """Set up the garbage collector, which forked processes inherit; return the Pool's side."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)
    return by_pool.side(job_name)
