"""Four programs for mincemeat.py, and their worker, which use the ``mincemeat`` on the path.

Python 2.7 must run them too, because the original needs it: no annotations, no f-strings.
``mincemeat_jobs.py run ROW PORT``, ``mincemeat_jobs.py loop ROW`` without any mincemeat, and
``mincemeat_jobs.py work PORT``, which works for one server after another until it is killed.
"""
# ruff: noqa: ANN001, ANN201, ANN202, ANN204, ARG001, S106, UP004, UP010, UP031
# mypy: ignore-errors

from __future__ import print_function

import hashlib
import json
import subprocess
import sys
import time

TEXTS, WORDS, WORD_KEYS = 249, 1000, 70000
LINES = 200000
WIDE_TEXTS, WIDE_WORDS = 100, 8360
NODES, LINKS, RUNS = 200, 5, 100


class Texts(object):
    """A datasource of texts, each made when it is read."""

    def __init__(self, number, words, keys):
        self.number, self.words, self.keys = number, words, keys

    def __iter__(self):
        return iter(range(self.number))

    def __getitem__(self, text):
        first = text * self.words
        return " ".join("w%d" % (i * 7919 % self.keys) for i in range(first, first + self.words))


def split(key, value):
    """Emit each word once for each time that the text has it: a mapfn."""
    for word in value.split():
        yield word, 1


def total(key, values):
    """Add up counts: a reducefn."""
    return sum(values)


def spread_rank(node, state):
    """Emit the shares of a page's rank for the pages it links to: a mapfn."""
    rank, links = state
    for link in links:
        yield link, rank / len(links)


def next_rank(node, shares):
    """Return the next rank of a page: a reducefn."""
    return 0.15 + 0.85 * sum(sorted(shares))


def keys70k(run):
    """70,000 reduce keys from 249 small texts."""
    return run(Texts(TEXTS, WORDS, WORD_KEYS), split, total)


def tasks200k(run):
    """200,000 map tasks of one line each."""
    lines = ("w%d w%d w%d" % (i % 97, i % 89, i % 83) for i in range(LINES))
    return run(dict(enumerate(lines)), split, total)


def keys836k(run):
    """836,000 reduce keys, all different."""
    return run(Texts(WIDE_TEXTS, WIDE_WORDS, WIDE_TEXTS * WIDE_WORDS), split, total)


def runs100(run):
    """One small job after another, each on the results of the last: page ranks."""
    links = {n: [(n * 7 + 3 * i + 1) % NODES for i in range(LINKS)] for n in range(NODES)}
    ranks = dict.fromkeys(range(NODES), 1.0)
    for _ in range(RUNS):
        results = run({n: (ranks[n], links[n]) for n in links}, spread_rank, next_rank)
        ranks = {n: results.get(n, 0.15) for n in links}
    return ranks


ROWS = {"keys70k": keys70k, "tasks200k": tasks200k, "keys836k": keys836k, "runs100": runs100}


def in_a_loop(datasource, mapfn, reducefn):
    """Run the same functions in a plain loop, with which all sides are compared."""
    groups = {}
    for key in datasource:
        for k, v in mapfn(key, datasource[key]):
            groups.setdefault(k, []).append(v)
    return {k: reducefn(k, values) for k, values in groups.items()}


def by_server(port):
    """Return a function that runs jobs, all by one Server."""
    import mincemeat

    server = mincemeat.Server()

    def run(datasource, mapfn, reducefn):
        server.datasource, server.mapfn, server.reducefn = datasource, mapfn, reducefn
        return server.run_server(password="changeme", port=port)

    return run


def work(port):
    """Run mincemeat.py's own command again and again, as users do: a worker."""
    import mincemeat

    program = mincemeat.__file__.replace(".pyc", ".py")
    command = [sys.executable, program, "-p", "changeme", "-P", str(port), "localhost"]
    while True:
        subprocess.call(command)


def digest(results):
    """Return a hash that does not depend on the order of the results, nor on the Python."""
    total = 0
    for key, value in results.items():
        pair = "%s=%.9g" % (key, value)
        total += int(hashlib.md5(pair.encode()).hexdigest()[:15], 16)  # noqa: S324  a checksum
    return "%d:%015x" % (len(results), total % 16**15)


def main(command, row, port):
    """Run one row after a small first run, so that workers are there when the clock starts."""
    run = by_server(port) if command == "run" else in_a_loop
    warm_up_started = time.time()
    run(dict.fromkeys(range(64), "some words"), split, total)
    started = time.time()
    results = ROWS[row](run)
    ended = time.time()
    first = started - warm_up_started
    print(json.dumps({"work": ended - started, "first": first, "digest": digest(results)}))


if __name__ == "__main__":
    if sys.argv[1] == "work":
        work(int(sys.argv[2]))
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if sys.argv[3:] else 0)
