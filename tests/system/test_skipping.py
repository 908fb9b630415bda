"""``on_error``: bad records are left out, counted once and reported, whatever workers do."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections import Counter

import pytest
from support import eventually
from system.processes import SECRET, redismr_cli, write_script

import redismr
from redismr.core.model import token_of


def mapfn(n):
    redismr.count("begun")
    yield n % 3, n
    if n % 10 == 7:
        raise ValueError(f"bad {n}")
    redismr.count("done")


def expected(numbers, bad):
    groups: dict[int, list[int]] = {}
    for n in numbers:
        if not bad(n):
            groups.setdefault(n % 3, []).append(n)
    return groups


@pytest.fixture(params=["cluster", "inline"])
def run(request, client_with_worker):
    """redismr.run, on workers and inline."""
    if request.param == "inline":
        return lambda *args, **options: redismr.run(*args, inline=True, **options)
    return client_with_worker.run


@pytest.mark.parametrize("chunk", [None, 1, 40])
@pytest.mark.parametrize("on_error", ["skip", 10, 0.1])
def test_bad_records_are_left_out(run, chunk, on_error):
    with run(range(100), mapfn, "list", on_error=on_error, chunk=chunk) as results:
        assert dict(results) == expected(range(100), lambda n: n % 10 == 7)
        assert results.counters == {"begun": 90, "done": 90}
        assert results.skipped.total == 10
        assert [f.value for f in results.skipped] == [str(n) for n in range(7, 100, 10)]
        first = results.skipped[0]
        assert (first.kind, first.error_name, first.message) == ("skipped", "ValueError", "bad 7")
        assert (first.where, first.function) == ("item 7 (key 7)", "mapfn")
        assert first.frames[-1].text == 'raise ValueError(f"bad {n}")'


@pytest.mark.parametrize("chunk", [1, 100])
@pytest.mark.parametrize("on_error", [0, 9, 0.0999, 0.001])
def test_more_skips_than_allowed_end_the_job(run, chunk, on_error):
    with pytest.raises(redismr.TooManySkipped) as info:
        run(range(100), mapfn, "list", on_error=on_error, chunk=chunk)
    assert isinstance(info.value, redismr.MapError)
    text = str(info.value)
    assert f"more than on_error={on_error} allows" in text
    # If each record is a task of its own and none may fail, any of them can come first.
    assert re.search(r"item \d*7 \(key \d*7\)", text)
    assert re.search(r"bad \d*7", text)
    assert "allow more with on_error" in text


def test_keys_of_reducefn_are_skipped_too(run):
    def reducefn(key, values):
        redismr.count("keys")
        return len(values) // (key - 1)

    with run(range(9), lambda n: [(n % 3, n)], reducefn, on_error=1) as results:
        assert dict(results) == {0: -3, 2: 3}
        assert results.counters == {"keys": 2}
        assert [f.where for f in results.skipped] == ["key 1"]
    with pytest.raises(redismr.TooManySkipped):
        run(range(9), lambda n: [(n % 3, n)], lambda key, values: 1 / 0, on_error=2)


def test_the_place_is_a_line(run, tmp_path):
    path = tmp_path / "log.txt"
    path.write_text("".join(f"{n} {n}\n" if n % 100 else "?\n" for n in range(1, 1001)))

    def mapfn(line):
        _, amount = line.split()
        yield "all", int(amount)

    with run(redismr.lines(path, split="1KB"), mapfn, "sum", on_error=0.01) as results:
        assert results["all"] == sum(n for n in range(1, 1001) if n % 100)
        assert results.skipped.total == 10
        for n, failure in enumerate(results.skipped, 1):
            assert f"line {n * 100}, byte" in failure.where
            assert failure.value == "'?'"


def test_all_records_may_be_bad(run):
    with run(range(5), lambda n: 1 / 0, "sum", on_error="skip") as results:
        assert dict(results) == {}
        assert results.skipped.total == 5


def test_without_on_error_nothing_is_skipped(run):
    with pytest.raises(redismr.MapError) as info:
        run(range(10), mapfn, "list")
    assert isinstance(info.value, ValueError)
    assert not isinstance(info.value, redismr.TooManySkipped)


@pytest.mark.parametrize("on_error", ["skipp", -1, 1.5, 0.0, True, None, "1", float("nan")])
def test_other_values_are_refused(run, on_error):
    with pytest.raises(redismr.ConfigError, match="on_error"):
        run([1], mapfn, "list", on_error=on_error)


# ------------------------------------------------------------------ records that end processes


def deadly(n):
    redismr.count("begun")
    yield n % 3, n
    if n in (13, 27):
        os.kill(os.getpid(), signal.SIGKILL)
    if n == 21:
        raise ValueError(n)


@pytest.mark.parametrize("lost_leases", [0, 3])
def test_records_that_kill_the_process_are_found_and_skipped(client_with_worker, lost_leases):
    job = client_with_worker.submit(
        range(40), deadly, "list", chunk=40, on_error=3, lost_leases=lost_leases
    )
    results = job.result(60)
    assert dict(results) == expected(range(40), lambda n: n in (13, 21, 27))
    assert results.counters == {"begun": 37}
    skipped = {f.value: f.error_name for f in job.skipped()}
    assert skipped == {"13": "WorkerDied", "21": "ValueError", "27": "WorkerDied"}
    assert "SIGKILL" in job.skipped()[0].message
    assert job.skipped()[0].where == "item 13 (key 13)"
    assert client_with_worker.attach(job.id).skipped() == job.skipped()
    assert job.progress().retries == 4, "two processes for each of the two, and none for others"


def test_one_deadly_record_too_many_ends_the_job(client_with_worker):
    with pytest.raises(redismr.TooManySkipped, match="WorkerDied"):
        client_with_worker.run(range(40), deadly, "list", chunk=40, on_error=1)


def test_a_record_that_killed_only_once_is_kept(client_with_worker, tmp_path):
    """A kill -9 from outside looks like that."""
    folder = str(tmp_path)

    def mapfn(n):
        mark = os.path.join(folder, f"{n}")
        if n in (3, 5) and not os.path.exists(mark):
            open(mark, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return [("n", n)]

    with client_with_worker.run(range(9), mapfn, "list", chunk=9, on_error="skip") as results:
        assert dict(results) == {"n": list(range(9))}
        assert results.skipped.total == 0


def test_deaths_in_different_records_are_bounded(client_with_worker, tmp_path):
    folder = str(tmp_path)

    def mapfn(n):
        mark = os.path.join(folder, f"{n}")
        if not os.path.exists(mark):
            open(mark, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return [("n", n)]

    with pytest.raises(redismr.MapError, match="killed by SIGKILL"):
        client_with_worker.run(range(9), mapfn, "list", chunk=9, on_error="skip", lost_leases=2)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_death_outside_of_mapfn_is_charged_to_no_record(client_with_worker):
    def combinefn(key, values):
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(redismr.MapError, match="killed by SIGKILL"):
        client_with_worker.run(
            range(3), mapfn, "list", combinefn=combinefn, on_error="skip", lost_leases=1
        )


def test_a_key_that_ends_processes_is_named_and_not_skipped(client_with_worker):
    """The number of a key in its partition may change when maps run again."""

    def reducefn(key, values):
        if key == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return values

    options = {"on_error": "skip", "partitions": 1, "lost_leases": 1}
    with pytest.raises(redismr.ReduceError, match="killed by SIGKILL") as info:
        client_with_worker.run(range(3), lambda n: [(n, n)], reducefn, **options)
    assert "on key 2 of its partition" in str(info.value)


def test_a_record_that_hangs_is_skipped(client_with_worker):
    def mapfn(n):
        while n == 5:
            time.sleep(0.01)
        return [("n", n)]

    options = {"task_timeout": 0.4, "lease": 0.6}
    with client_with_worker.run(range(9), mapfn, "list", chunk=9, on_error=1, **options) as results:
        assert dict(results) == {"n": [0, 1, 2, 3, 4, 6, 7, 8]}
        assert [f.error_name for f in results.skipped] == ["TaskTimeout"]


def test_a_slow_task_is_not_its_last_records_fault(client_with_worker):
    def mapfn(n):
        time.sleep(0.2)
        return [("n", n)]

    options = {"task_timeout": 1.0, "lease": 0.6, "lost_leases": 1}
    with pytest.raises(redismr.MapError, match="ran longer than"):
        client_with_worker.run(range(50), mapfn, "list", chunk=50, on_error="skip", **options)


def test_exit_and_system_exit(client_with_worker):
    def mapfn(n):
        if n == 2:
            os._exit(3)
        if n == 4:
            sys.exit("no")
        return [("n", n)]

    with client_with_worker.run(range(6), mapfn, "list", chunk=6, on_error="skip") as results:
        assert dict(results) == {"n": [0, 1, 3, 5]}
        names = Counter(f.error_name for f in results.skipped)
        assert names == {"WorkerDied": 1, "SystemExit": 1}
        assert "exited with status 3" in results.skipped[0].message


# ---------------------------------------------------------------------- telling, and forging


def test_skipped_can_be_called_at_any_time(client_with_worker, tmp_path):
    gate = str(tmp_path / "gate")

    def mapfn(n):
        while n == 3 and not os.path.exists(gate):
            time.sleep(0.01)
        if n < 2:
            raise ValueError(n)
        return [("n", n)]

    job = client_with_worker.submit(range(4), mapfn, "list", chunk=1, on_error="skip")
    eventually(lambda: job.skipped().total == 2)
    open(gate, "w").close()
    assert job.wait(20)
    assert [f.value for f in job.skipped()] == ["0", "1"]
    assert [f.value for f in client_with_worker.attach(job.id).skipped()] == ["0", "1"]
    assert dict(job) == {"n": [2, 3]}


def test_maps_that_run_again_skip_the_same_once(client_with_worker, server, tmp_path):
    gate = str(tmp_path / "gate")

    def mapfn(n):
        while n == 3 and not os.path.exists(gate):
            time.sleep(0.01)
        yield "n", b"%d" % n + os.urandom(300_000)  # too large for the manifest
        if n % 2:
            raise ValueError(n)
        redismr.count("good")

    job = client_with_worker.submit(range(4), mapfn, "list", chunk=1, partitions=1, on_error=2)
    redis, keys = server.client(), job._store.keys
    eventually(lambda: redis.hlen(keys.control(job.id, "done")) == 3)
    assert redis.delete(keys.shuffle(job.id, 0))
    open(gate, "w").close()
    results = job.result(30)
    assert redis.hgetall(keys.control(job.id, "budgets")) == {
        b"invalidated:m0": b"1",
        b"invalidated:m2": b"1",
    }
    assert [value[:1] for value in results["n"]] == [b"0", b"2"]
    assert results.counters == {"good": 2}
    assert [f.value for f in results.skipped] == ["1", "3"]
    assert results.skipped.total == 2


def test_many_skips_are_counted_exactly_and_kept_in_part(client_with_worker):
    with client_with_worker.run(
        range(3000), lambda n: 1 / 0, "sum", chunk=200, on_error="skip"
    ) as results:
        assert results.skipped.total == 3000
        assert len(results.skipped) == 1000


def test_the_collector_checks_the_sealed_budget(client_with_worker, monkeypatch):
    """Reducers do not check the budget in this test."""
    job = client_with_worker.submit(range(20), mapfn, "list", on_error="skip")
    assert job.wait(20)
    job._spec = job._spec.__class__(
        **{**{name: getattr(job._spec, name) for name in job._spec.__slots__}, "on_error": 1}
    )
    with pytest.raises(redismr.TooManySkipped, match="2 records had to be skipped"):
        job.result()


@pytest.mark.parametrize("forge", ["garbage", "another token", "another record"])
def test_a_forged_crash_note_skips_no_record(client_with_worker, server, tmp_path, forge):
    """An attacker without the secret cannot have a record left out."""
    gate = str(tmp_path / "gate")

    def mapfn(n):
        while not os.path.exists(gate):
            time.sleep(0.01)
        if n == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return [("n", n)]

    job = client_with_worker.submit(range(6), mapfn, "list", chunk=6, on_error="skip")
    redis, dead = server.client(), job._store.keys.control(job.id, "failures")
    open(gate, "w").close()
    note = eventually(lambda: redis.hget(dead, "crash:m0"))
    place, token, blob = note.rstrip(b",").split(b",")[0].split(b" ")
    other = token_of("m0", "forged").encode()
    forged = {
        "garbage": b"0 x zz,1 2 3,,4",
        "another token": b"%b %b %b,%b %b %b," % (place, token, blob, place, other, blob),
        "another record": b"0 %b %b,0 %b %b," % (token, blob, token, blob),
    }[forge]
    redis.hset(dead, "crash:m0", forged)
    assert dict(job.result(30)) == {"n": [0, 1, 3, 4, 5]}
    assert [f.value for f in job.skipped()] == ["2"]


JOB = """
    import os, redismr
    source = range(20)

    def mapfn(n):
        if n % 10 == 7:
            raise ValueError(f"bad {n}")
        return [(n % 2, 1)]

    reducefn = "sum"
"""


@pytest.mark.parametrize("how", ["embedded", "inline"])
def test_run_prints_the_skipped_records(tmp_path, how):
    job = write_script(tmp_path, JOB)
    flags = ["--inline"] if how == "inline" else ["-n", "1"]
    result = redismr_cli("run", job, "--on-error", "skip", *flags, secret=None)
    assert result.returncode == 0, result.stderr
    assert sorted(result.stdout.splitlines()) == ["0\t10", "1\t8"]
    assert "2 records skipped\n  item 7 (key 7): ValueError: bad 7\n" in result.stderr
    for on_error, code in (("1", 1), ("2", 0), ("0.09", 1), ("0.1", 0), ("some", 2)):
        result = redismr_cli("run", job, "--on-error", on_error, "--inline", secret=None)
        assert result.returncode == code, (on_error, result.stderr)
    assert result.stderr.startswith("redismr: --on-error='some' must be")
    quiet = redismr_cli("run", job, "--on-error", "skip", "--quiet", "--inline", secret=None)
    assert quiet.stderr == ""


def test_run_prints_them_although_finishfn_hides_the_results(tmp_path):
    job = write_script(
        tmp_path, JOB + "\n    def finishfn(results):\n        return len(results)\n"
    )
    result = redismr_cli("run", job, "--on-error", "5", "-n", "1", secret=None)
    assert (result.returncode, result.stdout) == (0, "2\n"), result.stderr
    assert "2 records skipped" in result.stderr


def test_errors_lists_what_was_skipped(client_with_worker, server):
    job = client_with_worker.submit(range(20), mapfn, "list", on_error="skip")
    assert job.wait(20)
    lines = redismr_cli("errors", job.id, url=server.url, secret=SECRET).stdout.splitlines()
    assert [line.split("\t")[2] for line in lines] == ["KIND", "skipped", "skipped"]
    assert "item 17 (key 17)" in lines[2]
    rows = redismr_cli("errors", job.id, "--json", url=server.url, secret=SECRET).stdout
    assert [json.loads(row)["message"] for row in rows.splitlines()] == ["bad 7", "bad 17"]
