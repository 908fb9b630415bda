"""The same Pool programs with the garbage collector set as redismr's executors set theirs.

In the parent as well, which merges: what is there when the pool is opened is never scanned again,
and collections are rare (``workers/fork_server.py``, ``workers/process_setup.py``).
"""

from __future__ import annotations

import gc
from typing import Any

from benchmarks import by_pool
from benchmarks.measure import Side


def side(job_name: str) -> Side[Any]:
    """The Pool's side, settled first; its processes are forked and inherit that."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)
    return by_pool.side(job_name)
