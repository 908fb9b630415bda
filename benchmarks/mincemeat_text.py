"""The word count for mincemeat.py itself, under a Python that runs it: 2.7, or 3 with the port.

``mincemeat_text.py COMBINES PORT OUT FILE...`` counts the words of the files and writes a line
with word and count for each to OUT. Workers are ``mincemeat_jobs.py work PORT``.
"""
# ruff: noqa: ANN001, ANN201, ANN204, S106, UP004, UP010, UP031
# mypy: ignore-errors

from __future__ import print_function

import json
import sys
import time

from benchmarks.mincemeat_jobs import split, total


class Files(object):
    """A datasource of files, each read by the server when it is needed: workers read no files.

    The texts are bytes: a Unicode key that is not ASCII ends mincemeat's workers one by one.
    """

    def __init__(self, paths):
        self.paths = paths

    def __iter__(self):
        return iter(self.paths)

    def __getitem__(self, path):
        with open(path, "rb") as file:
            return file.read()


def run(port, datasource, combinefn):
    """Run one job by a Server of its own; workers connect by themselves."""
    import mincemeat

    server = mincemeat.Server()
    server.datasource, server.mapfn, server.reducefn = datasource, split, total
    if combinefn:
        server.collectfn = combinefn
    return server.run_server(password="changeme", port=port)


def main(combines, port, out, paths):
    """Count after a small first run, so that workers are there when the clock starts."""
    combinefn = total if combines == "1" else None
    run(port, dict.fromkeys(range(64), "some words"), combinefn)
    started = time.time()
    results = run(port, Files(paths), combinefn)
    print(json.dumps({"work": time.time() - started}))
    with open(out, "wb") as file:
        file.writelines("%s\t%d\n" % pair for pair in results.items())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:])
