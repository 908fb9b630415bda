"""Bad input: a clear error that names the culprit, and nothing lost."""

from __future__ import annotations

import threading

import pytest

import redismr


def one(x):
    return [(x, 1)]


def test_no_files_match(client, tmp_path):
    with pytest.raises(redismr.SourceError, match=r"none\*\.txt"):
        client.run(str(tmp_path / "none*.txt"), one)
    assert client.jobs() == []


def test_a_file_vanishes(client, processes, tmp_path):
    path = tmp_path / "gone.txt"
    path.write_text("x\n")
    job = client.submit(redismr.lines(path), one, retries=0)
    path.unlink()
    processes.worker()
    with pytest.raises(redismr.MapError, match=r"gone\.txt") as caught:
        job.result(20)
    assert isinstance(caught.value, redismr.SourceError)


def test_a_file_changes(client, processes, tmp_path):
    path = tmp_path / "log.txt"
    path.write_text("x\n")
    job = client.submit(redismr.lines(path), one)
    path.write_text("x\ny\n")
    processes.worker()
    with pytest.raises(redismr.SourceChanged, match=r"log\.txt"):
        job.result(20)


def test_a_file_is_not_utf8(client_with_worker, tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes(b"one\ntwo\nthr\xe9e\n")
    with pytest.raises(redismr.MapError, match=r"latin\.txt") as caught:
        client_with_worker.run(redismr.lines(path), one)
    assert isinstance(caught.value, redismr.SourceError)
    assert "byte 11" in str(caught.value) and "attempt 1 of" in str(caught.value)
    with pytest.raises(redismr.SourceError, match=r"latin\.txt.*byte 11"):
        client_with_worker.run(str(path), one, retries=0)


@pytest.mark.parametrize("pair", [5, "ab", (1, 2, 3), None])
def test_mapfn_yields_a_non_pair(client_with_worker, pair):
    with pytest.raises(redismr.BadPair, match="mapfn") as caught:
        client_with_worker.run([1], lambda x: [pair], "sum")
    assert isinstance(caught.value, redismr.MapError)
    assert "attempt 1 of" in str(caught.value)


def test_mapfn_returns_no_iterable(client_with_worker):
    with pytest.raises(redismr.BadPair, match="returned 5"):
        client_with_worker.run([1], lambda x: 5, "sum")


def test_a_reducer_yields_a_non_pair(client_with_worker):
    def reducefn(key, values):
        yield key

    with pytest.raises(redismr.BadPair) as caught:
        client_with_worker.run([1], one, reducefn)
    assert isinstance(caught.value, redismr.ReduceError)


def test_an_unhashable_key(client_with_worker):
    with pytest.raises(redismr.BadKey, match=r"not hashable.*\[1\]"):
        client_with_worker.run([1], lambda x: [([x], 1)], "sum")


def test_a_key_without_a_stable_hash(client_with_worker):
    class Key:
        pass

    with pytest.raises(redismr.BadKey, match=r"Key.*partitionfn"):
        client_with_worker.run([1], lambda x: [(Key(), 1)], "sum")
    with pytest.raises(redismr.BadKey, match="nan"):
        client_with_worker.run([1], lambda x: [(float("nan"), 1)], "sum")


def test_a_value_that_does_not_pickle(client_with_worker):
    with pytest.raises(redismr.BadValue, match="lock") as caught:
        client_with_worker.run(["k"], lambda x: [(x, threading.Lock())], "list")
    assert isinstance(caught.value, redismr.MapError)


def test_a_result_that_does_not_pickle(client_with_worker):
    with pytest.raises(redismr.BadValue, match="lock") as caught:
        client_with_worker.run(["k"], one, lambda key, values: threading.Lock())
    assert isinstance(caught.value, redismr.ReduceError)


def test_an_item_that_does_not_pickle(client):
    with pytest.raises(redismr.BadValue, match="lock"):
        client.run([threading.Lock()], one)
    assert [row.state for row in client.jobs()] == ["cancelled"]


def test_params_that_do_not_pickle(client):
    with pytest.raises(redismr.CodeError, match="lock"):
        client.run([1], one, params={"lock": threading.Lock()})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"partitions": 0}, "partitions"),
        ({"ttl": -1}, "ttl"),
        ({"lease": 0}, "lease"),
        ({"chunk": 0}, "chunk"),
    ],
)
def test_options_out_of_range(client, options, message):
    with pytest.raises(redismr.ConfigError, match=message):
        client.run([1], one, **options)
    assert client.jobs() == []


def test_things_that_are_no_functions(client):
    with pytest.raises(redismr.ConfigError, match="reducefn"):
        client.run([1], one, "summ")
    with pytest.raises(redismr.ConfigError, match="mapfn"):
        client.run([1], "one")
    with pytest.raises(redismr.ConfigError):
        client.run(5, one)


@pytest.mark.slow
def test_a_value_of_200_megabytes(client_with_worker):
    def mapfn(n):
        return [("big", bytes(n)), ("small", b"x")]

    with client_with_worker.run([200_000_000], mapfn, "first") as results:
        assert results["small"] == b"x"
        assert len(results["big"]) == 200_000_000


@pytest.mark.slow
def test_300_000_distinct_keys(client_with_worker):
    def mapfn(start):
        return ((n, 1) for n in range(start, start + 30_000))

    with client_with_worker.run(range(0, 300_000, 30_000), mapfn, "sum") as results:
        assert len(results) == 300_000
        assert sum(results.values()) == 300_000
        assert results[299_999] == 1
        assert sum(results) == sum(range(300_000))


@pytest.mark.slow
def test_one_key_with_2_million_values(client_with_worker):
    def mapfn(start):
        return ((0, n) for n in range(start, start + 100_000))

    def reducefn(_key, values):
        return len(values), sum(values), values[:3], values[-1]

    with client_with_worker.run(range(0, 2_000_000, 100_000), mapfn, reducefn, chunk=1) as results:
        assert results[0] == (2_000_000, sum(range(2_000_000)), [0, 1, 2], 1_999_999)


def test_two_jobs_at_once(client_with_worker):
    jobs = [
        client_with_worker.submit(range(40), lambda x, i=i: [(i, x)], "sum", chunk=1)
        for i in range(2)
    ]
    assert [dict(job.result(20)) for job in jobs] == [{0: 780}, {1: 780}]


def test_the_same_source_twice(client_with_worker, tmp_path):
    source = {"a": 1, "b": 2}
    assert (
        dict(client_with_worker.run(source))
        == dict(client_with_worker.run(source))
        == {"a": [1], "b": [2]}
    )
    (tmp_path / "x").write_text("1\n")
    lines = redismr.lines(tmp_path / "x")
    assert dict(client_with_worker.run(lines)) == dict(client_with_worker.run(lines))


def test_one_source_object_in_two_jobs_at_once(client_with_worker):
    source = list(range(100))
    one_job = client_with_worker.submit(source, lambda x: [(0, x)], "sum")
    other = client_with_worker.submit(source, lambda x: [(0, x)], "max")
    assert (dict(one_job.result(20)), dict(other.result(20))) == ({0: 4950}, {0: 99})


def test_a_client_from_many_threads(client_with_worker):
    outcomes = {}

    def work(i):
        outcomes[i] = dict(client_with_worker.run([i], one, "sum"))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert outcomes == {i: {i: 1} for i in range(6)}
