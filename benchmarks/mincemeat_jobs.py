"""Four programs for mincemeat.py, and their worker, for whichever ``mincemeat`` is on the path.

Written so that Python 2.7 runs them too, for the original's sake: no annotations, no f-strings.
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
    """Texts that are made when their turn comes, as files are read."""

    def __init__(self, number, words, keys):
        self.number, self.words, self.keys = number, words, keys

    def __iter__(self):
        return iter(range(self.number))

    def __getitem__(self, text):
        first = text * self.words
        return " ".join("w%d" % (i * 7919 % self.keys) for i in range(first, first + self.words))


def split(key, value):
    """A mapfn: each word, once for each time it stands there."""
    for word in value.split():
        yield word, 1


def total(key, values):
    """A reducefn."""
    return sum(values)


def spread_rank(node, state):
    """A mapfn: a page's rank goes to the pages it links to."""
    rank, links = state
    for link in links:
        yield link, rank / len(links)


def next_rank(node, shares):
    """A reducefn: the page's next rank."""
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
        found = run({n: (ranks[n], links[n]) for n in links}, spread_rank, next_rank)
        ranks = {n: found.get(n, 0.15) for n in links}
    return ranks


ROWS = {"keys70k": keys70k, "tasks200k": tasks200k, "keys836k": keys836k, "runs100": runs100}


def in_a_loop(datasource, mapfn, reducefn):
    """What all of them are compared with: the same functions in a plain loop."""
    groups = {}
    for key in datasource:
        for k, v in mapfn(key, datasource[key]):
            groups.setdefault(k, []).append(v)
    return {k: reducefn(k, values) for k, values in groups.items()}


def by_server(port):
    """A run by one Server that is used again and again."""
    import mincemeat

    server = mincemeat.Server()

    def run(datasource, mapfn, reducefn):
        server.datasource, server.mapfn, server.reducefn = datasource, mapfn, reducefn
        return server.run_server(password="changeme", port=port)

    return run


def work(port):
    """A worker as people keep one: mincemeat.py's own command, again and again."""
    import mincemeat

    program = mincemeat.__file__.replace(".pyc", ".py")
    command = [sys.executable, program, "-p", "changeme", "-P", str(port), "localhost"]
    while True:
        subprocess.call(command)


def digest(found):
    """The same for the same results, whatever their order and whichever Python has them."""
    total = 0
    for key, value in found.items():
        pair = "%s=%.9g" % (key, value)
        total += int(hashlib.md5(pair.encode()).hexdigest()[:15], 16)  # noqa: S324  a checksum
    return "%d:%015x" % (len(found), total % 16**15)


def main(what, row, port):
    """Run one row after a first small run, so that workers are there when the clock starts."""
    run = by_server(port) if what == "run" else in_a_loop
    began = time.time()
    run(dict.fromkeys(range(64), "some words"), split, total)
    started = time.time()
    found = ROWS[row](run)
    ended = time.time()
    print(json.dumps({"work": ended - started, "first": started - began, "digest": digest(found)}))


if __name__ == "__main__":
    if sys.argv[1] == "work":
        work(int(sys.argv[2]))
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if sys.argv[3:] else 0)
