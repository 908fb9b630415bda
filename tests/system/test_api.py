"""The Python API against a real worker."""

from __future__ import annotations

import gc
import operator
import re
import threading
import time
from pathlib import Path

import pytest
from support import eventually

import redismr

TEXTS = {"a": "to be or not to be", "b": "that is the question", "c": "to be"}
COUNTS = {"to": 3, "be": 3, "or": 1, "not": 1, "that": 1, "is": 1, "the": 1, "question": 1}


def words(_name, text):
    for word in text.split():
        yield word, 1


def keys_of(server, job_id):
    return [key for key in server.client().scan_iter(count=1000) if job_id.encode() in key]


# ------------------------------------------------------------------------- run, submit, attach


def test_run_counts_words(client_with_worker):
    assert dict(client_with_worker.run(TEXTS, words, "sum")) == COUNTS


def test_the_module_function_takes_a_client(client_with_worker):
    assert dict(redismr.run(TEXTS, words, "sum", client=client_with_worker)) == COUNTS


def test_submit_gives_a_handle_that_waits_and_collects(client_with_worker):
    job = client_with_worker.submit(TEXTS, words, "sum", txn="t1")
    assert job.txn == "t1"
    assert job.wait(20)
    assert job.state == "succeeded"
    assert dict(job.result()) == COUNTS


def test_attach_finds_a_job_of_another_client(client_with_worker, server):
    from system.processes import SECRET

    job_id = client_with_worker.submit(TEXTS, words, "sum").id
    with redismr.Client(server.url, secret=SECRET) as other:
        assert dict(other.attach(job_id).result(20)) == COUNTS


def test_jobs_lists_what_exists(client_with_worker):
    job = client_with_worker.submit(TEXTS, words, "sum", name="hamlet", txn="t2")
    job.result(20)
    (row,) = client_with_worker.jobs()
    assert (row.job_id, row.name, row.txn, row.state) == (job.id, "hamlet", "t2", "succeeded")
    job.delete()
    assert client_with_worker.jobs() == []


def test_workers_lists_all_workers(client, processes):
    worker = processes.worker(2)
    (row,) = eventually(lambda: [row for row in client.workers() if row.pid == worker.pid])
    assert row.executors == 2
    assert row.problem == ""


def test_iterating_a_job_gives_each_pair_once(client_with_worker):
    job = client_with_worker.submit(TEXTS, words, "sum", partitions=4)
    pairs = list(job)
    assert len(pairs) == len(COUNTS)
    assert dict(pairs) == COUNTS


def test_delete_leaves_no_keys(client_with_worker, server):
    job = client_with_worker.submit(TEXTS, words, "sum")
    job.result(20)
    job.delete()
    assert keys_of(server, job.id) == []
    with pytest.raises(redismr.JobError):
        job.state


def test_progress_counts_tasks_and_items(client_with_worker, tmp_path):
    job = client_with_worker.submit(range(10), lambda x: [(x % 3, x)], "sum", chunk=1, partitions=3)
    job.wait(20)
    done = job.progress()
    assert (done.state, done.maps_done, done.maps_total) == ("succeeded", 10, 10)
    assert (done.reduces_done, done.reduces_total) == (3, 3)
    assert done.waiting == ""
    assert (done.maps.unit, done.maps.done, done.maps.total) == ("items", 10, 10)
    assert (done.reduces.unit, done.reduces.done, done.reduces.total) == ("tasks", 3, 3)
    paths = [tmp_path / name for name in "abc"]
    for size, path in zip((5, 50_000, 500), paths, strict=True):
        path.write_text("x" * size)
    job = client_with_worker.submit(
        redismr.files(paths), lambda name, text: [(len(text), 1)], "sum"
    )
    job.wait(20)
    maps = job.progress().maps
    assert (maps.unit, maps.done, maps.total) == ("bytes", 50_505, 50_505)


def test_the_total_is_known_before_all_input_is_submitted(client_with_worker, tmp_path):
    """Progress also tells how much is done, task by task."""
    gate, seen = tmp_path / "gate", []

    def mapfn(x):
        while x == 9 and not gate.exists():
            time.sleep(0.01)
        yield 0, 1

    def draw(progress):
        seen.append(progress)
        if progress.maps.done == 9:
            gate.touch()

    assert dict(client_with_worker.run(list(range(10)), mapfn, "sum", chunk=1, progress=draw)) == {
        0: 10
    }
    assert {progress.maps.total for progress in seen} == {10}
    (before, *_) = [progress.maps for progress in seen if progress.maps.done == 9]
    assert (before.tasks_done, before.tasks_begun) == (9, 10)
    assert before.busy in {1, 2}, "a backup is at the same task"


def test_errors_lists_failed_attempts(client_with_worker):
    job = client_with_worker.submit([1, 0], lambda x: [(1 / x, 1)], "sum", retries=0)
    assert job.wait(20)
    (failure,) = job.errors()
    assert failure.error_name == "ZeroDivisionError"
    assert failure.function == "mapfn"


def test_counters_are_exact(client_with_worker):
    def mapfn(x):
        redismr.count("seen")
        redismr.count("sum", x)
        return [(x % 7, 1)]

    def reducefn(_key, values):
        redismr.count("groups")
        return len(values)

    with client_with_worker.run(range(5000), mapfn, reducefn, chunk=100) as results:
        assert results.counters == {"seen": 5000, "sum": sum(range(5000)), "groups": 7}
    job = client_with_worker.submit(range(50), mapfn, reducefn, chunk=7)
    job.wait(20)
    assert job.counters == {"seen": 50, "sum": sum(range(50)), "groups": 7}


def test_attempts_that_failed_are_not_counted(client_with_worker, tmp_path):
    def mapfn(x):
        redismr.count("seen")
        marker = tmp_path / "failed-once"
        if x == 5 and not marker.exists():
            marker.write_text("")
            raise ValueError("once")
        return [(x, x)]

    results = client_with_worker.run(range(10), mapfn, "sum", chunk=10)
    assert results.counters == {"seen": 10}
    assert len(results) == 10


# ------------------------------------------------------------------------- results


@pytest.fixture
def results(client_with_worker):
    with client_with_worker.run(TEXTS, words, "sum", partitions=3) as results:
        yield results


def test_results_are_a_mapping(results):
    assert len(results) == 8
    assert "to" in results
    assert "whale" not in results
    assert results["be"] == 3
    assert results.get("whale") is None
    with pytest.raises(KeyError, match="whale"):
        results["whale"]
    assert dict(results) == COUNTS == results


def test_results_keep_one_order(results):
    order = list(results)
    assert list(results.keys()) == order
    assert [key for key, _ in results.items()] == order
    assert [COUNTS[key] for key in order] == list(results.values())
    assert list(dict(results)) == order


def test_results_sort_and_rank(results):
    assert results.sorted() == sorted(COUNTS.items())
    by_value = results.sorted(key=operator.itemgetter(1), reverse=True)
    assert [value for _, value in by_value] == [3, 3, 1, 1, 1, 1, 1, 1]
    assert sorted(results.top(2)) == [("be", 3), ("to", 3)]
    assert results.top(1, key=operator.neg)[0][1] == 1
    assert results.top(0) == []


def test_results_refuse_change(results):
    with pytest.raises(TypeError):
        results["to"] = 4


def test_closed_results_are_closed(client_with_worker, server):
    results = client_with_worker.run(TEXTS, words, "sum")
    (row,) = client_with_worker.jobs()
    results.close()
    results.close()
    for use in (len, list, dict, operator.itemgetter("to"), lambda r: r.items().__iter__()):
        with pytest.raises(redismr.ResultsClosed):
            use(results)
    assert keys_of(server, row.job_id) == []
    assert "closed" in repr(results)


def test_closing_submitted_results_keeps_the_job(client_with_worker):
    job = client_with_worker.submit(TEXTS, words, "sum")
    job.result(20).close()
    assert dict(client_with_worker.attach(job.id).result()) == COUNTS


def test_results_that_are_not_referenced_delete_their_job(client_with_worker, server):
    assert len(client_with_worker.run(TEXTS, words, "sum")) == 8
    assert client_with_worker.jobs() == []


def test_kept_results_outlive_their_process_and_themselves(client_with_worker):
    with client_with_worker.run(TEXTS, words, "sum") as results:
        assert results.keep()
    assert dict(client_with_worker.attach(results.job_id).result()) == COUNTS
    assert not results.keep(), "they were closed"
    inline = redismr.run(TEXTS, words, "sum", inline=True)
    assert (inline.job_id, inline.keep()) == ("", False)


@pytest.mark.parametrize("name", ["finishfn", "resultfn"])
def test_a_result_outlives_an_error_of_a_local_function(client_with_worker, name):
    def fails(*_):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as caught:
        client_with_worker.run(TEXTS, words, "sum", **{name: fails})
    (note,) = caught.value.__notes__
    del caught
    gc.collect()  # results that are not referenced delete their job
    (row,) = client_with_worker.jobs()
    command = f"redismr result {row.job_id} --no-finishfn"
    assert note == f"the result of job {row.job_id} is kept for its ttl: {command}"
    assert dict(client_with_worker.attach(row.job_id).result(finish=False)) == COUNTS


def test_a_result_on_a_private_server_outlives_such_an_error(embedded):
    with pytest.raises(ZeroDivisionError) as caught:
        embedded.run(TEXTS, words, "sum", finishfn=lambda _: 1 // 0)
    (note,) = caught.value.__notes__
    job = re.search(r"Client\(\).attach\('(\S+)'\).result\(finish=False\)", note)[1]
    assert "as long as this process lives" in note
    del caught
    gc.collect()
    assert dict(embedded.attach(job).result(finish=False)) == COUNTS
    embedded.attach(job).delete()


def test_finished_runs_can_be_listed(client_with_worker, server):
    client_with_worker.run(TEXTS, words, "sum", name="words", txn="t", ttl=60, partitions=2).close()
    client_with_worker.run([], words, "sum").close()
    stopped = client_with_worker.submit(TEXTS, words, "sum")
    stopped.delete()
    assert client_with_worker.jobs() == []
    empty, row = client_with_worker.jobs(deleted=True)
    assert (row.name, row.txn, row.state, row.deleted) == ("words", "t", "succeeded", True)
    assert (row.maps_done, row.maps_total, row.reduces_done) == (len(TEXTS), len(TEXTS), 2)
    assert 0 <= row.age < row.ttl <= 60
    assert (empty.maps_total, empty.reduces_total, empty.ttl > 60) == (0, 0, True)
    with pytest.raises(redismr.JobNotFound):
        client_with_worker.attach(row.job_id)
    with client_with_worker.run(TEXTS, words, "sum") as results:
        assert [r.deleted for r in client_with_worker.jobs(deleted=True)] == [False, True, True]
        assert results["to"] == 3


def test_sort_gives_a_total_order(client_with_worker):
    numbers = [(x * 7919) % 1009 for x in range(1009)]
    results = client_with_worker.run(numbers, lambda x: [(x, x)], "first", sort=True, partitions=5)
    assert list(results) == sorted(numbers)
    assert list(results.items()) == [(x, x) for x in range(1009)]
    assert results[17] == 17


def test_a_reducer_may_emit_other_keys(client_with_worker):
    def reducefn(key, values):
        yield key.upper(), sum(values)

    results = client_with_worker.run(TEXTS, words, reducefn, partitions=4)
    assert results["TO"] == 3
    assert "to" not in results
    assert dict(results) == {key.upper(): n for key, n in COUNTS.items()}
    assert len(results) == 8


def test_a_key_emitted_twice_counts_once(client_with_worker):
    def reducefn(items):
        for _key, values in items:
            yield "all", sum(values)

    results = client_with_worker.run(TEXTS, words, reducefn, partitions=4)
    assert len(results) == len(list(results)) == len(dict(results)) == 1
    assert list(results) == ["all"]
    inline = redismr.run(TEXTS, words, reducefn, partitions=4, inline=True)
    assert dict(results).keys() == dict(inline).keys()


def test_two_results_are_read_at_the_same_time(client_with_worker):
    sums = client_with_worker.run(TEXTS, words, "sum", partitions=2)
    counts = client_with_worker.run(TEXTS, words, "count", partitions=2)
    assert all(a == b for a, b in zip(sums.items(), counts.items(), strict=True))


# ------------------------------------------------------------------------- functions


def test_finishfn_makes_the_outcome(client_with_worker):
    assert client_with_worker.run(TEXTS, words, "sum", finishfn=lambda results: results["to"]) == 3


def test_finishfn_of_a_submitted_job_runs_where_it_is_collected(client_with_worker, server):
    from system.processes import SECRET

    job = client_with_worker.submit(
        TEXTS, words, "sum", finishfn=lambda results: results.top(1)[0][1]
    )
    assert job.result(20) == 3
    with redismr.Client(server.url, secret=SECRET) as other:
        assert other.attach(job.id).result() == 3


def test_resultfn_is_called_once_by_run(client_with_worker):
    calls = []
    outcome = client_with_worker.run(
        TEXTS, words, "sum", txn="t3", resultfn=lambda txn, results: calls.append((txn, results))
    )
    assert calls == [("t3", outcome)]


def test_resultfn_is_called_once_by_submit(client_with_worker):
    calls, called = [], threading.Event()

    def resultfn(txn, results):
        calls.append((txn, dict(results)))
        called.set()

    job = client_with_worker.submit(TEXTS, words, "sum", txn="t4", resultfn=resultfn)
    assert called.wait(20)
    job.result()
    job.result()
    assert calls == [("t4", COUNTS)]


def test_params_reach_every_function(client_with_worker):
    def mapfn(text):
        return [(word, 1) for word in text.split() if word not in redismr.param("stop")]

    def reducefn(_key, values):
        return sum(values) * redismr.param("times")

    params = {"stop": {"a"}, "times": 10}
    assert dict(client_with_worker.run(["a b", "b c"], mapfn, reducefn, params=params)) == {
        "b": 20,
        "c": 10,
    }


def test_initfn_runs_before_the_first_task(client_with_worker):
    state = []

    def initfn():
        state.append(redismr.param("start"))

    def mapfn(x):
        return [(x, len(state) and state[0])]

    results = client_with_worker.run(
        range(20), mapfn, "first", initfn=initfn, params={"start": 9}, chunk=1
    )
    assert set(results.values()) == {9}
    assert state == []


def test_here_tells_where_code_runs(client_with_worker):
    def mapfn(x):
        place = redismr.here()
        return [(x, (place.job, place.stage, place.task, place.source))]

    job = client_with_worker.submit([0], mapfn, "first")
    assert job.result(20)[0] == (job.id, "map", "m0", "item 0")


def test_a_mapfn_may_return_none_a_mapping_or_a_list(client_with_worker):
    def mapfn(x):
        return None if x == 0 else {x: 1} if x == 1 else [[x, 1]]

    assert dict(client_with_worker.run(range(3), mapfn, "sum")) == {1: 1, 2: 1}


def test_a_combinefn_sees_the_values_of_one_task(client_with_worker):
    results = client_with_worker.run(
        TEXTS, words, lambda _key, values: sum(values), combinefn=lambda _key, values: sum(values)
    )
    assert dict(results) == COUNTS


def test_collectfn_is_an_alias_of_combinefn(client_with_worker):
    results = client_with_worker.run(
        TEXTS, words, "list", collectfn=lambda _key, values: -len(values)
    )
    assert sum(results["to"]) == -3


def test_count_is_refused_in_a_combinefn(client_with_worker):
    def combinefn(_key, values):
        redismr.count("n")
        return sum(values)

    with pytest.raises(redismr.MapError, match="cannot be used in combinefn"):
        client_with_worker.run(TEXTS, words, "sum", combinefn=combinefn, retries=0)


def test_a_partitionfn_places_keys(client_with_worker):
    job = client_with_worker.submit(
        range(9), lambda x: [(x, x)], "first", partitions=3, partitionfn=lambda k, n: (k // 3) % n
    )
    assert list(job.result(20)) == list(range(9))
    assert job.result()[4] == 4
    assert client_with_worker.attach(job.id).result()[4] == 4


# ------------------------------------------------------------------------- events


def test_events_of_a_transaction_reach_a_listener(client_with_worker):
    events, ready = [], threading.Event()

    def listen():
        stream = client_with_worker.listen(txn="t5")
        ready.set()
        for event in stream:
            events.append(event)
            if event.kind == "succeeded":
                return

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    assert ready.wait(5)
    # Only Redis shows the subscription.
    eventually(lambda: [n for n, count in _subscribers(client_with_worker) if count and b"t5" in n])
    job = client_with_worker.submit(TEXTS, words, "sum", txn="t5", partitions=2)
    client_with_worker.submit(TEXTS, words, "sum", txn="other").result(20)
    job.result(20)
    thread.join(10)
    assert not thread.is_alive()
    kinds = [event.kind for event in events]
    assert kinds[0] == "submitted"
    assert "reducing" in kinds
    assert kinds.count("partition") == 2
    assert {event.job for event in events} == {job.id}


def _subscribers(client):
    redis = client._store.redis_client.client
    return redis.pubsub_numsub(*redis.pubsub_channels())


# ------------------------------------------------------------------------- sources


def test_source_mapping(client_with_worker):
    assert dict(client_with_worker.run({"x": 1, "y": 2}, lambda k, v: [(k, v)], "list")) == {
        "x": [1],
        "y": [2],
    }


def test_source_of_the_ancestors(client_with_worker):
    class Datasource:
        def __iter__(self):
            return iter("ab")

        def __getitem__(self, key):
            return key * 2

    assert dict(client_with_worker.run(Datasource(), lambda k, v: [(k, v)], "first")) == {
        "a": "aa",
        "b": "bb",
    }


def test_source_iterable_is_numbered(client_with_worker):
    assert dict(client_with_worker.run("ab" for _ in range(2))) == {0: ["ab"], 1: ["ab"]}
    assert dict(client_with_worker.run(["x", "y"], lambda k, v: [(v, k)], "first")) == {
        "x": 0,
        "y": 1,
    }


def test_source_pairs(client_with_worker):
    source = redismr.pairs([("a", 1), ("b", 2), ("a", 3)])
    assert dict(client_with_worker.run(source)) == {"a": [1, 3], "b": [2]}
    assert dict(client_with_worker.run(source, None, "sum")) == {"a": 4, "b": 2}


@pytest.fixture
def files(tmp_path):
    (tmp_path / "a.txt").write_text("one two\nthree\n")
    (tmp_path / "b.txt").write_text("one\n")
    return tmp_path


def test_source_glob_and_path(client_with_worker, files):
    pattern = str(files / "*.txt")
    expected = {str(files / "a.txt"): ["one two\nthree\n"], str(files / "b.txt"): ["one\n"]}
    assert dict(client_with_worker.run(pattern)) == expected
    assert dict(client_with_worker.run(Path(pattern))) == expected
    assert dict(client_with_worker.run(redismr.files(pattern, ship=True))) == expected


def test_source_lines_and_text(client_with_worker, files):
    pattern = str(files / "*.txt")
    expected = {"one": 2, "two": 1, "three": 1}

    def mapfn(_where, text):
        return [(word, 1) for word in text.split()]

    assert dict(client_with_worker.run(redismr.lines(pattern), mapfn, "sum")) == expected
    assert dict(client_with_worker.run(redismr.text(pattern), mapfn, "sum")) == expected
    seen = client_with_worker.run(
        redismr.lines(pattern), lambda where, line: [(line, where.line)], "first"
    )
    assert seen["three"] == 2


def test_source_jsonl_and_csv(client_with_worker, tmp_path):
    (tmp_path / "x.jsonl").write_text('{"n": 1}\n\n{"n": 2}\n')
    (tmp_path / "x.csv").write_text('name,note\nann,"two\nlines"\nbob,x\n')
    jsonl = redismr.jsonl(tmp_path / "x.jsonl")
    assert dict(client_with_worker.run(jsonl, lambda row: [("n", row["n"])], "sum")) == {"n": 3}
    rows = redismr.csv(tmp_path / "x.csv")
    mapfn = lambda row: [(row["name"], row["note"])]
    assert dict(client_with_worker.run(rows, mapfn, "first")) == {"ann": "two\nlines", "bob": "x"}


def test_source_compressed_lines(client_with_worker, tmp_path):
    import gzip

    (tmp_path / "x.gz").write_bytes(gzip.compress(b"a\nb\na\n"))
    results = client_with_worker.run(
        redismr.lines(tmp_path / "x.gz"), lambda line: [(line, 1)], "sum"
    )
    assert dict(results) == {"a": 2, "b": 1}


def test_a_large_file_is_cut_and_no_line_is_lost(client_with_worker, tmp_path):
    path = tmp_path / "big.txt"
    path.write_text("".join(f"line {n}\n" for n in range(20_000)))
    source = redismr.lines(path, split=8192)
    results = client_with_worker.run(source, lambda line: [(int(line[5:]) % 10, 1)], "sum")
    assert dict(results) == dict.fromkeys(range(10), 2000)


@pytest.mark.parametrize("repeat", [False, True])
def test_a_partition_larger_than_its_memory_is_reduced_in_passes(client_with_worker, repeat):
    """Keys of different passes stay apart, and a key that is emitted again counts once."""

    def mapfn(n):
        for i in range(25_000):
            yield f"{n // 2}-{i}", n

    def reducefn(key, values):
        yield key, sum(values)
        if repeat and key == "3-7":
            yield key, 0

    found = client_with_worker.run(range(10), mapfn, reducefn, partitions=1, memory=16 << 20)
    assert len(found) == 5 * 25_000
    assert all(value == 4 * int(key[0]) + 1 for key, value in found.items() if key != "3-7")
