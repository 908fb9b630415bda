"""A library that data needs is missing on one machine, or of another version."""

from __future__ import annotations

import decimal
import json
import pickle
import subprocess
import sys
import warnings

import pytest
from support import REPOSITORY, eventually
from system.processes import SECRET, Processes, run_command, write_script

import redismr
from redismr.client.library_check import MissingLibraries, modules_in_pickle
from redismr.core.model import Provenance
from redismr.errors import CodeError
from redismr.shipping import libraries

NEW = "class Shape:\n    def __init__(self, n): self.n = n\nShape.__module__ = 'shapes._core'\n"
OLD = "class Shape:\n    def __init__(self, n): self.n = n\n"

PROGRAM = """
    import json, sys, warnings
    import redismr
    warnings.simplefilter("always")
    def make(k, v):
        from shapes import Shape
        yield k, Shape(v)
    def take(k, v):
        yield k, v.n
    def plain(k, v):
        yield k, v
    def needs(k, v):
        import shapes
        yield k, v
    try:
        from shapes import Shape
    except ImportError:
        Shape = int
    what = sys.argv[1]
    source, mapfn, params = {
        "input": ({"a": Shape(1)}, take, None),
        "params": ({"a": 1}, plain, {"p": Shape(1)}),
        "output": ({"a": 1}, make, None),
        "import": ({"a": 1}, needs, None),
        "fault": ({"a": 1}, take, None),
    }[what]
    with redismr.Client() as client:
        try:
            said = dict(client.run(source, mapfn, params=params, retries=1))
        except redismr.RedismrError as error:
            kinds = [kind.__name__ for kind in type(error).__mro__]
            said = kinds, str(error), bool(getattr(error, "failure", None))
    print(json.dumps(said))
"""


@pytest.fixture
def processes(tmp_path):
    """Processes for one engine only: the messages do not depend on it."""
    with redismr.serve() as server:
        processes = Processes(server.url, tmp_path / "processes")
        yield processes
        processes.close()


@pytest.fixture
def environment_folder(tmp_path):
    """Return a function: version 1 or 2 of a library, or none -> path of such an environment."""

    def folder(version):
        site = tmp_path / f"v{version}" / "site-packages"
        if version and not site.exists():
            (site / "shapes").mkdir(parents=True)
            code = NEW if version == 2 else OLD
            (site / "shapes" / "_core.py").write_text(code if version == 2 else "")
            body = "from shapes._core import Shape\n" if version == 2 else code
            (site / "shapes" / "__init__.py").write_text(f"__version__ = '{version}.0.1'\n{body}")
            if version == 1:
                (site / "shapes" / "_core.py").unlink()
        return str(site)

    return folder


@pytest.fixture
def run_with_versions(processes, environment_folder, tmp_path):
    """Return a function that runs a program with these versions of the library."""

    def run(what, submitter, worker):
        paths = [f"{REPOSITORY}:{environment_folder(version)}" for version in (submitter, worker)]
        processes.worker(1, PYTHONPATH=paths[1])
        program = write_script(tmp_path, PROGRAM)
        done = run_command(
            sys.executable, program, what, url=processes.url, cwd=tmp_path, PYTHONPATH=paths[0]
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.mark.parametrize(("what", "worker"), [("input", 1), ("params", 1), ("import", 0)])
def test_a_worker_that_cannot_load_names_both_versions(run_with_versions, what, worker):
    kinds, text, failed = run_with_versions(what, 2, worker)
    assert kinds[0] == "LibraryMismatch"
    assert failed
    assert "MapError" not in kinds
    assert {"JobError", "ImportError"} < set(kinds)
    assert ("has shapes 1.0.1" if worker else "has no shapes") in text
    assert "the submitter has shapes 2.0.1" in text
    assert "Install the same there (pip install shapes==2.0.1)" in text
    assert "loaded by worker " in text
    assert "attempt 2 of 2 (worker " in text
    assert "Worker traceback" not in text
    assert len(text.splitlines()) < 8


@pytest.mark.parametrize("reader", [0, 1])
def test_a_reader_that_cannot_load_names_both_versions(run_with_versions, reader):
    kinds, text, failed = run_with_versions("output", reader, 2)
    assert kinds[0] == "LibraryMismatch"
    assert not failed
    assert "the result of job " in text
    assert f"this process, which has {'shapes 1.0.1' if reader else 'no shapes'}; worker " in text
    assert "has shapes 2.0.1. Install the same here (pip install shapes==2.0.1)" in text


def test_an_error_of_the_user_stays_one(run_with_versions):
    kinds, text, _ = run_with_versions("fault", 2, 1)
    assert kinds[:2] == ["MapError", "MapError"]
    assert "AttributeError" in text


def test_a_job_goes_on_where_a_worker_has_the_library(processes, environment_folder, tmp_path):
    program = PROGRAM.replace("retries=1", "retries=50")
    for version in (0, 2):
        processes.worker(1, PYTHONPATH=f"{REPOSITORY}:{environment_folder(version)}")
    done = run_command(
        sys.executable, write_script(tmp_path, program), "input", url=processes.url, cwd=tmp_path,
        PYTHONPATH=f"{REPOSITORY}:{environment_folder(2)}",
    )  # fmt: skip
    assert json.loads(done.stdout) == {"a": [1]}, done.stderr


# ------------------------------------------------------------------------- at submit


def test_workers_report_the_versions_of_common_libraries(processes):
    processes.worker(1)
    with redismr.Client(processes.url, secret=SECRET) as client:
        rows = eventually(lambda: client._store.worker_rows()[1])
    (row,) = rows.values()
    versions = dict(pair.split("=") for pair in row["libraries"].split())
    assert tuple(versions) == libraries.REPORTED_LIBRARIES
    for name, version in versions.items():
        asked = subprocess.run(
            [sys.executable, "-c", f"import {name}; print({name}.__version__)"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert asked.stdout.strip() == version


def missing_of(row, **versions):
    class Spec:
        python = "3.11"
        libraries = versions

    return MissingLibraries.from_worker_rows(
        {"w": {"python": "3.11", "key_id": "k", **row}}, Spec, "k"
    )


def test_a_submitter_is_warned_once_of_libraries_that_workers_lack():
    row = {"host": "h\x1b[2J", "pid": 7, "libraries": "json=1.9.1 decimal= numpy=2.0"}
    missing = missing_of(row, json="2.0.0", decimal="1.70", numpy="2.4.6", other="1")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        missing.warn(["json.decoder", "numpy", "other", "__main__"])
        missing.check_pickle(pickle.dumps([decimal.Decimal(1)] * 3))
        missing.check_pickle(pickle.dumps([decimal.Decimal(1)]))
    first, second = (str(warning.message) for warning in caught)
    assert "needs json 2.0.0, as here; worker h[2J:7 has json 1.9.1 and may not load it" in first
    assert "worker h[2J:7 has no decimal" in second
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        missing.check_pickle(pickle.dumps(["decimal", {"json": "numpy"}]))
        missing_of({**row, "key_id": "x"}, json="2").warn(["json"])
        missing_of({**row, "python": "3.9"}, json="2").warn(["json"])
        missing_of({}, json="2").warn(["json"])


def test_globals_of_a_pickle_differ_from_its_texts():
    value = [decimal.Decimal(1), "numpy", decimal.Decimal(2), {"json": redismr.BadKey, 1: "numpy"}]
    assert set(modules_in_pickle(pickle.dumps(value, 5))) == {"decimal", "redismr.errors"}
    assert set(modules_in_pickle(pickle.dumps(["json", 1, b"numpy"], 4))) == set()


# ------------------------------------------------------------------------- whose fault it is


def make_task_error(body):
    scope = {"__name__": "users_own"}
    try:
        exec(body, scope)  # noqa: S102
    except Exception as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    ("body", "blamed"),
    [
        ("import pytest._nothing", True),
        ("import pytest; pytest.nothing", True),
        ("from pytest import nothing", True),
        ("1 / 0", False),
        ("{}['pytest']", False),
        ("import no_such_library", False),
    ],
)
def test_only_a_failure_in_a_library_of_another_version_is_blamed_on_it(body, blamed):
    error = make_task_error(body)
    text = libraries.describe_library_error(
        error, "it", Provenance("the submitter", {"pytest": "0.0.1"}), b"pytest"
    )
    assert bool(text) == blamed, text
    same = Provenance("the submitter", {"pytest": pytest.__version__})
    assert libraries.describe_library_error(error, "it", same, b"pytest") is None
    if blamed:
        wrapped = CodeError("it does not load")
        wrapped.__cause__ = error
        made = Provenance("w", {"pytest": "0.0.1"})
        assert f"has pytest {pytest.__version__}; w has pytest 0.0.1" in str(
            libraries.describe_library_error(wrapped, "it", made)
        )


def test_loaded_libraries_have_their_versions():
    found = libraries.loaded_versions()
    assert found["pytest"] == pytest.__version__
    assert not found.keys() & {"json", "sys", "redismr.errors"}
    assert libraries.available_version("no_such_library") == ""
    assert libraries.available_version("pytest") == pytest.__version__


def test_a_library_that_an_import_does_not_find_is_missing_even_if_installed():
    """A module of that name earlier in the path, or a hook, may hide the library."""
    made = Provenance("the submitter", {"numpy": libraries.available_version("numpy")})
    raised = ModuleNotFoundError("No module named 'numpy'", name="numpy")
    text = libraries.describe_library_error(raised, "the input", made, worker="w1")
    assert text.startswith("the input cannot be loaded by worker w1, which has no numpy; the")
