"""Workers with the C extension and workers without it share one job."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest

from redismr import here, native

TEXTS = [f"a{n % 7} b{n % 5} \u00e9{n % 3} {n}" for n in range(60)]


def emitted(text):
    """Pairs that the extension takes, and for every tenth text one that it hands back."""
    pairs = [(word, len(word)) for word in text.split()]
    return [*pairs, ((len(text),), 1)] if text.endswith("0") else pairs


def test_workers_with_and_without_the_extension_share_a_job(client, processes, tmp_path):
    places = str(tmp_path / "places")

    def mapfn(text):
        import os

        with open(f"{places}.{here().stage}.{os.environ.get('REDISMR_NATIVE', '1')}", "a"):
            pass
        return emitted(text)

    processes.worker(1, REDISMR_NATIVE="0")
    processes.worker(1)
    rows = {row.native for row in client.workers()}
    assert rows == {False, native.IS_LOADED}
    sums, groups = Counter(), defaultdict(list)
    for text in TEXTS:
        for key, value in emitted(text):
            sums[key] += value
            groups[key].append(value)
    # Both workers take maps: a job is run until that has happened.
    for _ in range(20):
        assert dict(client.run(TEXTS, mapfn, "sum", chunk=1, partitions=5)) == sums
        if {path.suffix for path in tmp_path.glob("places.map.*")} == {".0", ".1"}:
            break
    else:
        pytest.fail("one worker took all maps of twenty jobs")
    found = client.run(TEXTS, mapfn, lambda _key, values: list(values), chunk=1, partitions=5)
    assert dict(found) == groups
