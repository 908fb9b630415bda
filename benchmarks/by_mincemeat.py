"""The side of mincemeat.py 0.1.4, under Python 2.7: the word count of a part of the text.

mincemeat.py is too slow for the whole text, so its time is scaled as if its speed stayed the same.
Its words are bytes, which end at ASCII spaces only, so the result is compared with that of a loop.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import mincemeat_text
from benchmarks.ancestors import Implementation as Ancestor
from benchmarks.ancestors import fetch_mincemeat, find_python2, free_port, workers
from benchmarks.cache import cache_folder
from benchmarks.measure import SelfTimed, Side
from benchmarks.workloads import WORKLOADS

TEXT_SHARE = 1 / 16
ROOT = Path(__file__).parents[1]


def available() -> str | None:
    """Return a Python 2.7; None if there is none, or if mincemeat.py cannot be downloaded."""
    python = find_python2()
    original = _folder()
    is_fetched = (original / "mincemeat.py").exists()
    return python if python and (is_fetched or fetch_mincemeat(original)) else None


def side(job_name: str) -> Side[Any]:
    """Return the side of the word count, with or without collectfn as a combiner."""
    job = WORKLOADS[job_name]
    return Side(
        open_tool=opened,
        work=lambda run: run(combines=job.fold is not None, paths=_part_of(job.paths())),
        collect=_counts,
        part=TEXT_SHARE,
        expected=lambda: _in_a_loop(_part_of(job.paths())),
    )


@contextmanager
def opened() -> Iterator[Callable[..., SelfTimed]]:
    """Start two workers that wait for a server."""
    python = available()
    assert python is not None
    ancestor, port = Ancestor("mincemeat", python, _folder()), free_port()
    with ExitStack() as stack:
        stack.enter_context(workers(ancestor, port))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        yield partial(_run, ancestor, port, folder / "out")


def _run(
    ancestor: Ancestor, port: int, out: Path, *, combines: bool, paths: list[str]
) -> SelfTimed:
    """Run the program, which measures the time itself, from when its workers are there."""
    words = [mincemeat_text.__file__, str(int(combines)), str(port), str(out), *paths]
    path = os.pathsep.join([str(ancestor.folder), str(ROOT)])
    environ = ancestor.environ | {"PYTHONPATH": path}
    command = [ancestor.python, *words]
    done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, check=True)
    seconds = json.loads(done.stdout.splitlines()[-1])["work"]
    return SelfTimed(out, seconds)


def _counts(out: Path) -> dict[bytes, int]:
    pairs = (line.rsplit(b"\t", 1) for line in out.read_bytes().split(b"\n") if line)
    return {word: int(count) for word, count in pairs}


def _in_a_loop(paths: list[str]) -> Counter[bytes]:
    return Counter(word for path in paths for word in Path(path).read_bytes().split())


def _part_of(paths: Any) -> list[str]:
    return list(paths[: max(1, round(len(paths) * TEXT_SHARE))])


def _folder() -> Path:
    return cache_folder() / "mincemeat-0.1.4"
