"""``count``, ``param`` and ``here`` in threads that user functions start."""

from __future__ import annotations

import _thread
import asyncio
import contextvars
import multiprocessing
import multiprocessing.dummy
import os
import queue
import sys
import threading
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from types import SimpleNamespace

import pytest

import redismr
from redismr import context
from redismr.context import TaskContext, active_task, count, discard_counts_on_error, here, param

EXECUTOR = ThreadPoolExecutor(2)
DUMMY = multiprocessing.dummy.Pool(2)


def thread(work):
    started = threading.Thread(target=work)
    started.start()
    started.join()


def raw_thread(work):
    done = threading.Event()

    def run():
        work()
        done.set()

    _thread.start_new_thread(run, ())
    assert done.wait(10)


def timer(work):
    started = threading.Timer(0, work)
    started.start()
    started.join()


def copied_context(work):
    """Run work as anyio and trio do, in threads of any age."""
    copy = contextvars.copy_context()
    thread(lambda: copy.run(work))


def new_pool(work):
    with ThreadPoolExecutor(2) as pool:
        pool.submit(work).result()


def new_dummy_pool(work):
    with multiprocessing.dummy.Pool(2) as pool:
        pool.apply(work)


def thread_of_a_thread(work):
    thread(lambda: thread(work))


def from_asyncio(work):
    async def main():
        await asyncio.gather(asyncio.to_thread(work), asyncio.to_thread(lambda: None))

    asyncio.run(main())


THREAD_STARTERS = {
    way.__name__: way
    for way in (
        thread, raw_thread, timer, copied_context, new_pool, new_dummy_pool, thread_of_a_thread,
        from_asyncio,
    )
} | {
    "pool of the module": lambda work: EXECUTOR.submit(work).result(),
    "pool of threads that are older than the task": DUMMY.apply,
}  # fmt: skip


@pytest.mark.parametrize("way", THREAD_STARTERS)
def test_counts_of_threads_are_counted(way):
    def mapfn(x):
        count("here")
        THREAD_STARTERS[way](lambda: count("there", 2))
        yield x, 1

    found = redismr.run([1, 2, 3], mapfn, "sum", inline=True, chunk=1)
    assert found.counters == {"here": 3, "there": 6}


@pytest.mark.parametrize("way", THREAD_STARTERS)
def test_param_and_here_are_those_of_the_task(way):
    def mapfn(x):
        seen = []
        THREAD_STARTERS[way](lambda: seen.append((param("p"), here())))
        yield seen[0] == ("q", here()), x

    found = dict(redismr.run([1, 2], mapfn, "sum", inline=True, chunk=1, params={"p": "q"}))
    assert found == {True: 3}


def test_many_threads_lose_no_count():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with active_task(TaskContext()) as task:
            threads = [
                threading.Thread(target=lambda: [count("n") for _ in range(2000)]) for _ in range(4)
            ]
            for each in threads:
                each.start()
            for _ in range(2000):
                count("n")
            for each in threads:
                each.join()
    finally:
        sys.setswitchinterval(before)
    assert task.counters == {"n": 10_000}


def test_jobs_of_two_threads_do_not_mix():
    barrier = threading.Barrier(2, timeout=10)

    def job(name):
        def mapfn(x):
            barrier.wait()
            new_pool(lambda: count(param("name")))
            thread(lambda: count(here().source and param("name")))
            barrier.wait()
            yield x, 1

        return redismr.run([1], mapfn, "sum", inline=True, params={"name": name}).counters

    outcome = {}
    threads = [
        threading.Thread(target=lambda name=name: outcome.update({name: job(name)}))
        for name in ("a", "b")
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert outcome == {"a": {"a": 2}, "b": {"b": 2}}


def test_a_thread_that_may_belong_to_either_job_is_refused():
    barrier = threading.Barrier(2, timeout=10)
    errors = []

    def job():
        with active_task(TaskContext()):
            barrier.wait()
            try:
                raw_thread_raises()
            except RuntimeError as error:
                errors.append(str(error))
            barrier.wait()

    def raw_thread_raises():
        caught = []
        raw_thread(lambda: caught.append(make_task_error(lambda: count("x"))))
        raise caught[0]

    threads = [threading.Thread(target=job) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(errors) == 2
    assert all("2 tasks run in this process" in error for error in errors)


def make_task_error(work):
    try:
        work()
    except RuntimeError as error:
        return error
    return None


@pytest.mark.parametrize("way", ["thread", "pool"])
def test_a_thread_that_outlives_its_task_counts_for_no_other(way, monkeypatch):
    """The count of such a thread is refused with a warning, and does not end the executor."""
    monkeypatch.setattr(context, "_given_warnings", set())
    go, messages = threading.Event(), []

    def late():
        assert go.wait(10)
        with warnings.catch_warnings(record=True) as recorded:
            warnings.simplefilter("always")
            for _ in range(2):
                count("late")
            messages.extend(str(each.message) for each in recorded)

    with active_task(TaskContext(here=context.Here(task="m1"))) as first:
        if way == "thread":
            outlives = threading.Thread(target=late)
            outlives.start()
            wait = outlives.join
        else:
            wait = EXECUTOR.submit(late).result
    with active_task(TaskContext()) as second:
        go.set()
        wait()
    (once,) = messages
    assert once.startswith(
        "redismr.count('late') was called in a thread whose task has ended: it is not counted ("
    )
    assert ", m1). Wait for all threads" in once
    assert (first.counters, second.counters) == ({}, {})


@pytest.mark.parametrize("kind", [ThreadPoolExecutor, multiprocessing.dummy.Pool])
def test_a_pool_that_a_task_made_works_for_the_next(kind):
    pool = None
    for _ in range(2):
        with active_task(TaskContext()) as task:
            pool = pool or kind(1)
            list(pool.map(count, ["n", "n"]))
            if kind is not ThreadPoolExecutor:
                pool.apply(count, "n")
                pool.apply_async(func=count, args="n").get()
                pool.starmap(count, ["n"])
                list(pool.imap(count, ["n"]))
                list(pool.imap_unordered(func=count, iterable=["n"]))
        assert task.counters == {"n": 2 if kind is ThreadPoolExecutor else 7}
    list(pool.map(count, ["n"]))  # outside all tasks nothing is counted
    (getattr(pool, "terminate", None) or pool.shutdown)()


def test_count_in_a_spawned_child_is_refused(capfd):
    def mapfn(x):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            pool.submit(count, "x").result()
        yield x, 1

    assert redismr.run([1], mapfn, "sum", inline=True).counters == {}
    assert "count('x') was called outside a task: it is not counted" in capfd.readouterr().err


def test_work_for_other_interpreters_is_left_unchanged(monkeypatch):
    """Their pool (Python 3.14) consists of threads, and pickles its work."""

    class Interpreters(ThreadPoolExecutor):
        pass

    module = SimpleNamespace(InterpreterPoolExecutor=Interpreters)
    monkeypatch.setitem(sys.modules, "concurrent.futures.interpreter", module)
    monkeypatch.setattr(context, "_call_in_task", None)
    with active_task(TaskContext()), Interpreters(1) as pool:
        assert pool.submit(abs, -1).result() == 1


def test_a_thread_of_a_record_that_is_skipped_counts_nothing():
    threads, go = [], threading.Event()

    def counting(name):
        def late():
            assert go.wait(10)
            count(name)

        count(name)
        threads.append(threading.Thread(target=late))
        threads[-1].start()

    with active_task(TaskContext()) as task:
        with discard_counts_on_error():
            counting("kept")
        with pytest.raises(ZeroDivisionError), discard_counts_on_error():
            counting("skipped")
            raise ZeroDivisionError
        go.set()
        for each in threads:
            each.join()
    assert task.counters == {"kept": 2}


def test_threads_of_a_combinefn_may_not_count():
    def mapfn(x):
        yield x, 1

    def combinefn(key, values):
        THREAD_STARTERS["new_pool"](lambda: count("x"))
        return sum(values)

    with pytest.raises(redismr.MapError, match="cannot be used in combinefn"):
        redismr.run([1], mapfn, "sum", combinefn=combinefn, inline=True)


def test_a_thread_of_an_initfn_may_count_without_an_error(recwarn, monkeypatch):
    """The thread belongs to no task, and tasks may wait for it."""
    monkeypatch.setattr(context, "_given_warnings", set())
    work, done = queue.Queue(), queue.Queue()

    def serve():
        while (item := work.get()) is not None:
            count("served")
            done.put(item)

    def mapfn(x):
        work.put(x)
        yield done.get(timeout=10), 1

    served = threading.Thread(target=serve)
    found = redismr.run([1, 2], mapfn, "sum", initfn=served.start, inline=True)
    work.put(None)
    served.join()
    assert (dict(found), found.counters) == ({1: 1, 2: 1}, {})
    assert ["it is not counted (" in str(each.message) for each in recwarn] == [True]


def test_threads_of_mapfn_may_count_while_a_combinefn_runs():
    with active_task(TaskContext()) as task:
        ready, go = threading.Event(), threading.Event()

        def work():
            ready.set()
            assert go.wait(10)
            count("n")

        started = threading.Thread(target=work)
        started.start()
        assert ready.wait(10)
        with context.forbid_counting():
            go.set()
            started.join()
    assert task.counters == {"n": 1}


def test_outside_a_task_nothing_is_counted_in_a_thread_either():
    for way in THREAD_STARTERS.values():
        way(lambda: count("x"))
        seen = []
        way(lambda seen=seen: seen.append((param("p", 1), here())))
        assert seen == [(1, context.Here())]


def test_count_in_a_forked_child_is_refused():
    reader, writer = os.pipe()
    with active_task(TaskContext(params={"p": 1})) as task:
        pid = os.fork()
        if pid == 0:
            with warnings.catch_warnings(record=True) as messages:
                warnings.simplefilter("always")
                count("x")
                thread(lambda: count("y"))
                os.write(writer, "\n".join(str(each.message) for each in messages).encode())
            os._exit(param("p"))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    assert task.counters == {}
    os.close(writer)
    with open(reader) as pipe:
        recorded = pipe.read().split("\n")
    assert [text.partition(":")[0] for text in recorded] == [
        f"redismr.count('{name}') was called in a process that a task has started" for name in "xy"
    ]
