"""A fake client, with which subcommands are tested without a server."""

from __future__ import annotations

import linecache
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

import redismr
from redismr.cli import cli
from redismr.client import results
from redismr.core.model import Skipped
from redismr.core.status_rows import Progress
from redismr.errors import JobNotFound


class FakeResults(Mapping):
    """Results in the order of the given pairs, with counters."""

    job_id = "wc-1"

    def __init__(self, pairs, counters=None):
        self.pairs = dict(pairs)
        self.counters = counters or {}
        self.closed = self.kept = False

    def __getitem__(self, key):
        return self.pairs[key]

    def __iter__(self):
        return iter(self.pairs)

    def __len__(self):
        return len(self.pairs)

    def sorted(self, key=None, reverse=False):
        return sorted(self.pairs.items(), key=key, reverse=reverse)

    def keep(self):
        self.kept = True
        return True

    def close(self):
        self.closed = True

    def top(self, n, key=None):
        return sorted(self.pairs.items(), key=key or (lambda pair: pair[1]), reverse=True)[:n]


class FakeJob:
    """A job that ends after ``steps`` waits, with ``error`` or with ``results``."""

    txn = "t"

    def __init__(self, job_id, *, steps=0, error=None, results=(), failures=(), skipped=()):
        self.id = job_id
        self.steps = steps
        self.error = error
        self.results = FakeResults(results)
        self.failures = list(failures)
        self.skipped_records = skipped
        self.deleted = False

    @property
    def state(self):
        if self.steps:
            return "mapping"
        return "failed" if self.error else "succeeded"

    def progress(self):
        return Progress(job_id=self.id, state=self.state, maps_done=1, maps_total=1)

    def wait(self, timeout=None):
        self.steps = max(self.steps - 1, 0)
        return not self.steps

    def result(self, timeout=None, *, finish=True):
        if self.error:
            raise self.error
        return self.results

    def errors(self):
        return self.failures

    def skipped(self):
        if isinstance(self.skipped_records, Exception):
            raise self.skipped_records
        return Skipped(*self.skipped_records)

    def cancel(self):
        running, self.steps = bool(self.steps), 0
        return running

    def delete(self):
        self.deleted = True


class FakeRedismr:
    """The data of the fake client, and the calls that it got."""

    def __init__(self):
        self.jobs_by_id = {}
        self.job_rows, self.worker_rows, self.events = [], [], []
        self.client_calls, self.run_calls, self.listen_calls, self.attach_calls = [], [], [], []
        self.outcome = FakeResults({"b": 1, "a": 2})
        self.progress = []

    def Client(self, url=None, *, secret=None, namespace=None, executors=None):
        self.client_calls.append(
            SimpleNamespace(url=url, secret=secret, namespace=namespace, executors=executors)
        )
        return FakeClient(self, embedded=not (url or os.environ.get("REDISMR_URL")))

    def run(self, source, mapfn=None, reducefn=None, **options):
        self.run_calls.append(
            SimpleNamespace(source=source, mapfn=mapfn, reducefn=reducefn, options=options)
        )
        if report_progress := options["progress"]:
            for progress in self.progress:
                report_progress(progress)
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        assert options["finish"] is False, "finishfn is for the command to call"
        return self.outcome


class FakeClient:
    def __init__(self, fake_redismr, *, embedded):
        self.fake_redismr = fake_redismr
        self.connection = SimpleNamespace(embedded=embedded)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def submit(self, source, mapfn=None, reducefn=None, **options):
        self.fake_redismr.run_calls.append(
            SimpleNamespace(source=source, mapfn=mapfn, reducefn=reducefn, options=options)
        )
        return FakeJob("wc-1")

    def attach(self, job_id, **options):
        self.fake_redismr.attach_calls.append(options)
        try:
            return self.fake_redismr.jobs_by_id[job_id]
        except KeyError:
            raise JobNotFound(f"there is no job {job_id}", job_id=job_id) from None

    def jobs(self, *, deleted=False):
        return [row for row in self.fake_redismr.job_rows if deleted or not row.deleted]

    def workers(self):
        return self.fake_redismr.worker_rows

    def listen(self, txn=None, job=None):
        self.fake_redismr.listen_calls.append((txn, job))
        return iter(self.fake_redismr.events)


@pytest.fixture(autouse=True)
def work_folder(monkeypatch, tmp_path):
    """Run the test in an empty folder, without variables that name a server."""
    variables = ("URL", "SECRET_FILE", "PASSWORD", "PASSWORD_FILE", "NAMESPACE")
    for name in ("REDIS_URL", *(f"REDISMR_{word}" for word in variables)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("REDISMR_SECRET", "")
    monkeypatch.setenv("REDISMR_DEBUG", "")
    # Child processes find the package under test from any folder.
    monkeypatch.setenv("PYTHONPATH", str(Path(redismr.cli.__file__).parents[2]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    linecache.clearcache()  # every test has a wc.py of its own
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "__jobfile__", raising=False)
    return tmp_path


@pytest.fixture
def fake_redismr(monkeypatch):
    """Put the fake in place of the public names that the command line uses."""
    fake_redismr = FakeRedismr()
    for name in ("Client", "run"):
        monkeypatch.setitem(vars(redismr), name, getattr(fake_redismr, name))
    monkeypatch.setitem(vars(redismr), "Results", FakeResults)
    monkeypatch.setattr(results, "Results", FakeResults)
    for kind in ("files", "lines", "text", "jsonl", "csv"):
        monkeypatch.setitem(vars(redismr), kind, _fake_source(kind))
    return fake_redismr


def _fake_source(kind):
    return lambda paths, **options: (kind, paths, options) if options else (kind, paths)


@pytest.fixture
def named_server_env(monkeypatch):
    """Set the variables that name a server."""
    monkeypatch.setenv("REDISMR_URL", "redis://db1:6379/0")
    monkeypatch.setenv("REDISMR_SECRET", "e3b1a9f07d5c2864")


@pytest.fixture
def invoke():
    """A function that runs a command line; its result has exit_code, stdout and stderr."""
    return lambda *words: CliRunner().invoke(cli, list(words), prog_name="redismr")


@pytest.fixture
def write_job_file(work_folder):
    """A function that writes a job file and returns its name."""

    def write(text, name="wc.py"):
        (work_folder / name).write_text(text)
        return name

    return write


@pytest.fixture
def fake_job():
    """The class of fake jobs."""
    return FakeJob
