"""Loading of job files."""

from __future__ import annotations

import subprocess
import sys

import pytest

from redismr.cli.job_file import load_job_file
from redismr.errors import ConfigError


def test_collects_all_names_of_a_job_file(write_job_file):
    job = load_job_file(
        write_job_file(
            "def mapfn(k, v): ...\n"
            "reducefn = 'sum'; datasource = {1: 2}; collectfn = len; final = print\n"
            "def initfn(): ...\n"
            "partitionfn = resultfn = mapfn\n"
            "params = {'a': 1}; options = dict(retries=0, sort=True)\n"
        )
    )
    assert job.functions["mapfn"].__module__ == "__jobfile__"
    assert job.functions["reducefn"] == "sum"
    assert job.functions["combinefn"] is len
    assert job.functions["initfn"].__name__ == "initfn"
    assert job.functions["finishfn"] is None
    assert (job.source, job.final) == ({1: 2}, print)
    assert (job.params, job.options) == ({"a": 1}, {"retries": 0, "sort": True})


def test_names_of_redismr_win_over_those_of_the_ancestors(write_job_file):
    job = load_job_file(
        write_job_file("mapfn = combinefn = max; collectfn = min; source = [1]; datasource = [2]")
    )
    assert job.functions["combinefn"] is max
    assert job.source == [1]


def test_a_job_file_is_a_module_but_not_main(write_job_file, work_folder):
    name = write_job_file(
        "from helper import mapfn\n"
        "import sys\n"
        "assert sys.modules[__name__].__file__ == __file__\n"
        "if __name__ == '__main__': raise SystemExit('ran')\n"
    )
    (work_folder / "helper.py").write_text("def mapfn(v): ...")
    assert load_job_file(name).functions["mapfn"].__module__ == "helper"
    assert sys.modules["__jobfile__"].__file__ == str(work_folder / name)
    sys.modules.pop("helper")


def test_classes_of_a_job_file_pickle_by_reference(write_job_file):
    import pickle

    load_job_file(write_job_file("class Point: x = 1\nmapfn = Point"))
    point = sys.modules["__jobfile__"].Point()
    assert pickle.loads(pickle.dumps(point)).x == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "wc.py defines neither mapfn nor reducefn: it is no job file"),
        ("def mapfn(:", "wc.py, line 1 is not Python: invalid syntax"),
        ("mapfn = 1\n  x", "wc.py, line 2 is not Python: unexpected indent"),
        ("mapfn = '\0'", "wc.py is not Python: source code string cannot contain null bytes"),
        ("mapfn = print; params = 3", "wc.py: params must be a dict, not int"),
        ("mapfn = final = finishfn = print", "wc.py defines both final and finishfn: keep one"),
        (
            "mapfn = print; options = {'retires': 1}",
            "wc.py: options: no such option: retires; did you mean retries?",
        ),
        ("mapfn = print; options = {'retries': 0.5}", "wc.py: options: retries=0.5 must be"),
        ("mapfn = print; options = {'sort': 'no'}", "wc.py: options: sort='no' must be"),
        ("mapfn = print; final = 3", "wc.py: final=3 must be a function"),
    ],
)
def test_refuses_a_file_that_is_no_job_file(write_job_file, text, message):
    with pytest.raises(ConfigError) as caught:
        load_job_file(write_job_file(text))
    assert message.replace("wc.py is not", "wc.py") in str(caught.value).replace(
        "wc.py is not", "wc.py"
    )
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["nowhere.py", "."])
def test_refuses_a_file_that_cannot_be_read(invoke, name):
    result = invoke("run", name)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"redismr: cannot read job file {name}: ")
    assert result.stderr.count("\n") == 1


def test_an_exception_while_loading_shows_the_users_frames(invoke, write_job_file):
    result = invoke("run", write_job_file("def deep():\n    return {}['k']\n\ndeep()\n"))
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "redismr: KeyError: 'k'",
        '  File "wc.py", line 4, in <module>',
        "    deep()",
        '  File "wc.py", line 2, in deep',
        "    return {}['k']",
    ]


def test_a_missing_module_is_named(invoke, write_job_file):
    result = invoke("run", write_job_file("import nowhere_to_be_found"))
    assert result.exit_code == 1
    assert "No module named 'nowhere_to_be_found'" in result.stderr
    assert "line 1" in result.stderr


def test_no_byte_code_is_cached_beside_a_job_file(write_job_file, work_folder):
    load_job_file(write_job_file("mapfn = print"))
    assert [path.name for path in work_folder.iterdir()] == ["wc.py"]


def test_code_under_the_main_guard_does_not_run(write_job_file):
    done = subprocess.run(
        [sys.executable, "-m", "redismr", "run",
         write_job_file("if __name__ == '__main__': print('ran')\n")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
