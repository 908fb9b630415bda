"""Programs run where the C extension is switched off, was not built, or is a stale build."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys
{before}
import redismr
from redismr import native

assert native.IS_LOADED is {is_loaded}, native.DESCRIPTION
with redismr.Client(executors=1) as client:
    words = client.run(["a b", "a"], lambda text: [(word, 1) for word in text.split()], "sum")
    print(sorted(words.items()))
    keep = lambda key, values: values
    lengths = client.run(["a b", "a"], lambda text: {{len(text): [text]}}, keep)
    print(sorted(lengths.items()))
print(sorted(redismr.run(["a"], lambda text: [(text, 0.5)], "sum", inline=True).items()))
"""
WAYS = {
    "switched off": ("", {"REDISMR_NATIVE": "0"}),
    "not built": ("sys.modules['redismr.native._totals'] = None", {}),
    "stale": (
        "import types; sys.modules['redismr.native._totals'] = types.SimpleNamespace(INTERFACE=0)",
        {},
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_jobs_run_without_the_extension(way: str) -> None:
    before, environment = WAYS[way]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(before=before, is_loaded=False)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "[('a', 2), ('b', 1)]",
        "[(1, [['a']]), (3, [['a b']])]",
        "[('a', 0.5)]",
    ]
