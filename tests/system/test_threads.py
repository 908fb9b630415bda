"""Counters of threads that functions start, on real workers."""

from __future__ import annotations


def test_threads_of_a_mapfn_and_of_a_reducefn_are_counted(client_with_worker):
    def in_threads(name):
        import threading
        from concurrent.futures import ThreadPoolExecutor
        from multiprocessing.dummy import Pool

        import redismr

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda _: redismr.count(name), range(2)))
        with Pool(2) as pool:
            pool.map(lambda _: redismr.count(name), range(2))
        thread = threading.Thread(target=redismr.count, args=(name,))
        thread.start()
        thread.join()

    def mapfn(x):
        in_threads("mapped")
        yield x % 2, x

    def reducefn(key, values):
        in_threads("reduced")
        return sum(values)

    results = client_with_worker.run(range(6), mapfn, reducefn, chunk=2)
    assert dict(results) == {0: 6, 1: 9}
    assert results.counters == {"mapped": 30, "reduced": 10}


def test_a_module_level_pool_works_for_each_task(client_with_worker):
    """The pool's threads are older than most tasks: each item counts for the task that added it."""

    def mapfn(x):
        import sys
        from concurrent.futures import ThreadPoolExecutor

        import redismr

        keep = sys.modules.setdefault("kept for the test", type(sys)("kept"))
        if not hasattr(keep, "pool"):
            keep.pool = ThreadPoolExecutor(1)
        keep.pool.submit(redismr.count, redismr.here().task).result()
        yield x, 1

    results = client_with_worker.run(range(8), mapfn, "sum", chunk=1)
    assert results.counters == {f"m{n}": 1 for n in range(8)}
