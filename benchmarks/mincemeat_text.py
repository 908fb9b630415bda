"""The word count for mincemeat.py itself, for a Python that it runs on: 2.7 or its port's.

``mincemeat_text.py COMBINES PORT OUT FILE...`` counts the words of the files and writes them, a
word and its count on each line, to OUT. Workers are ``mincemeat_jobs.py work PORT``.
"""
# ruff: noqa: ANN001, ANN201, ANN204, S106, UP004, UP010, UP031
# mypy: ignore-errors

from __future__ import print_function

import json
import sys
import time

from benchmarks.mincemeat_jobs import split, total


class Files(object):
    """Texts that are read when their turn comes, by the server: workers see no files.

    They are bytes: a key that is Unicode, and not ASCII, ends mincemeat's workers one by one.
    """

    def __init__(self, paths):
        self.paths = paths

    def __iter__(self):
        return iter(self.paths)

    def __getitem__(self, path):
        with open(path, "rb") as file:
            return file.read()


def run(port, datasource, combinefn):
    """One run by a Server of its own; its workers come by themselves."""
    import mincemeat

    server = mincemeat.Server()
    server.datasource, server.mapfn, server.reducefn = datasource, split, total
    if combinefn:
        server.collectfn = combinefn
    return server.run_server(password="changeme", port=port)


def main(combines, port, out, paths):
    """Count after a first small run, so that workers are there when the clock starts."""
    combinefn = total if combines == "1" else None
    run(port, dict.fromkeys(range(64), "some words"), combinefn)
    started = time.time()
    found = run(port, Files(paths), combinefn)
    print(json.dumps({"work": time.time() - started}))
    with open(out, "wb") as file:
        file.writelines("%s\t%d\n" % pair for pair in found.items())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:])
