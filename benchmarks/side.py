"""Run one side of one row once in this process: ``python -m benchmarks.side pool.wordcount``."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import asdict

from benchmarks import cache, workloads
from benchmarks.measure import measure


def main(name: str) -> None:
    """Print the figures as JSON, on the last line, after any output of the tool."""
    tool, _, job_name = name.partition(".")
    cache.load_into_page_cache(workloads.inputs(job_name))
    side = importlib.import_module(f"benchmarks.by_{tool}").side(job_name)
    print(f"\n{json.dumps(asdict(measure(side)))}")


if __name__ == "__main__":
    main(sys.argv[1])
