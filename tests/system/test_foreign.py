"""Results of another Python than the reader's."""

from __future__ import annotations

import sys
from pathlib import PurePosixPath

import pytest
from system.processes import SECRET, run_command, write_script

import redismr
from redismr.core.model import PYTHON

SCRIPT = """
import sys
import redismr
from dataclasses import dataclass
from types import ModuleType

import local_things


@dataclass(frozen=True)
class Mine:
    number: int


def named(module, name):
    "What pickles as a global of a module that only this Python has."
    def make(*parts):
        return Pickled(module, name, *parts)
    make.__module__, make.__name__, make.__qualname__ = module, name, name
    setattr(sys.modules.setdefault(module, ModuleType(module)), name, make)
    return make


def everywhere():
    "Let every executor make these again: map and reduce task may be of two."
    for module in "pathlib._local", "pathlib._tomorrow":
        named(module, "PurePosixPath")


class Pickled:
    def __init__(self, module, name, *parts):
        self.way = module, name, parts

    def __reduce__(self):
        module, name, parts = self.way
        return named(module, name), parts


def path(n):  # as Python 3.13 pickles paths
    yield n, Pickled("pathlib._local", "PurePosixPath", "a", "b")

def unheard_of(n):
    yield n, Pickled("pathlib._tomorrow", "PurePosixPath", "a", "b")

def of_the_script(n):
    yield Mine(n), 1

def by_value(n):
    yield n, lambda: n

def of_a_module(n):
    yield n, local_things.Thing(n)

def plain(n):
    yield n, {"n": [n]}

if __name__ == "__main__":
    with redismr.Client() as client:
        for mapfn in path, unheard_of, of_the_script, by_value, of_a_module, plain:
            job = client.submit([1], mapfn, "first", initfn=everywhere)
            job.wait()
            print(mapfn.__name__, job.id)
        job = client.submit([1], plain, "first", finishfn=dict)
        job.wait()
        print("finished", job.id)
"""
THINGS = """
class Thing:
    def __init__(self, number):
        self.number = number
"""


@pytest.fixture
def foreign_job(session_server, shared_worker, tmp_path, monkeypatch):
    """Return a function: name of a job -> its handle, for a reader with another Python."""
    write_script(tmp_path, THINGS, "local_things.py")
    done = run_command(
        sys.executable, write_script(tmp_path, SCRIPT), url=session_server.url, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    ids = dict(line.split() for line in done.stdout.splitlines())
    monkeypatch.setattr("redismr.shipping.load.PYTHON", "3.99")
    with redismr.Client(session_server.url, secret=SECRET) as client:
        yield lambda name: client.attach(ids[name])


def test_readable_results_are_read_and_others_are_named(foreign_job):
    assert dict(foreign_job("plain").result()) == {1: {"n": [1]}}
    assert dict(foreign_job("path").result()) == {1: PurePosixPath("a", "b")}
    assert foreign_job("of_a_module").result()[1].number == 1
    for name, why in {
        "unheard_of": "names pathlib._tomorrow.PurePosixPath, what is not here",
        "of_the_script": "names __main__.Mine, a class of its script",
        "by_value": "holds a function or a class by value",
        "finished": "has a finishfn",
    }.items():
        job = foreign_job(name)
        with pytest.raises(redismr.CodeError) as info:
            dict(job.result())
        message = (
            f"the result of job {job.id} is of Python {PYTHON} and cannot be read by Python 3.99"
        )
        assert str(info.value).startswith(f"{message}: the result {why}")
        assert f"Read it with Python {PYTHON}" in str(info.value)
