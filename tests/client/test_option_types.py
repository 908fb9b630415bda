"""Editors and mypy know the options of a job: their names and types are those of ``JobOptions``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

from redismr.client import job_options
from redismr.config import JobOptions, JobOptionsDict

ROOT = Path(__file__).parents[2]

USER_PROGRAM = """
import redismr

redismr.run([1], None, "sum", retries=3, sort=True, wait_for_workers=None, params={"least": 2})
with redismr.Client() as client:
    client.run([1], None, "sum", combinefn="sum", ttl=60)
    client.submit([1], None, "sum", on_error=0.01, finishfn=len).result()
    client.submit([1], None, "sum", retries="three")  # wrong type
    client.run([1], None, "sum", retires=3)  # wrong name
redismr.run([1], None, "sum", ttl="a day")  # wrong type
redismr.run([1], None, "sum", each_workers=True)  # wrong name
"""


def test_option_types_are_the_fields_of_job_options() -> None:
    assert get_type_hints(JobOptionsDict) == get_type_hints(JobOptions)
    assert JobOptionsDict.__required_keys__ == frozenset()


def test_submit_takes_the_functions_that_split_options_finds() -> None:
    functions = set(job_options.SubmitOptionsDict.__annotations__) - set(
        JobOptionsDict.__annotations__
    )
    found, params, _ = job_options.split_options(None, None, dict.fromkeys(functions))
    assert functions == (found.keys() - {"mapfn", "reducefn"}) | {"collectfn", "params"}
    assert params == {}


def test_mypy_checks_the_options_of_a_user_program(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(USER_PROGRAM, encoding="utf-8")
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-error-summary", str(program)],
        cwd=ROOT, capture_output=True, text=True, timeout=170,
    )  # fmt: skip
    faulty_lines = {
        int(line.split(":")[1]) for line in checked.stdout.splitlines() if ": error: " in line
    }
    wrong_lines = {
        number for number, line in enumerate(USER_PROGRAM.splitlines(), 1) if "# wrong" in line
    }
    assert faulty_lines == wrong_lines, checked.stdout + checked.stderr
