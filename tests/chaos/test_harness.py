"""Tests of the harness: a row that raises, a complaint of a busy machine, quoted bugs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from support import REPOSITORY

from chaos import __main__ as campaign
from chaos import mutants
from chaos.bugs import MUTANTS
from chaos.kit import Outcome, Row


def test_a_row_that_breaks_is_missed_and_stops_no_other(monkeypatch, capsys, tmp_path):
    def broken(plan):
        (plan.folder / "worker.log").write_text("why")
        raise OSError("no port")

    rows = [Row("one", "", "", "", broken), Row("two", "", "", "", lambda _plan: Outcome())]
    monkeypatch.setattr(campaign, "rows", lambda: {row.name: row for row in rows})
    monkeypatch.setattr(campaign.tempfile, "mkdtemp", lambda **_: str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["chaos", "--seed", "1"])
    assert campaign.main() == 1
    output = capsys.readouterr().out
    assert "no port" in output
    assert "| two |" in output
    assert (tmp_path / "worker.log").exists()


WRONG = (1, "| data | 1 wrong | reached | 1 s |\n    job 1: key 'k': 2 instead of 1\n")
SLOW = (1, "| data | 0 wrong | **MISSED** | 1 s |\n    s slowest: 30, allowed 20\n")
SOUND = (0, "| data | 0 wrong | reached | 1 s |\n")


@pytest.mark.parametrize(
    ("runs", "complaint"),
    [
        ([WRONG], "job 1: key 'k': 2 instead of 1"),
        ([SLOW, SOUND], ""),
        ([SLOW, SLOW], "s slowest: 30, allowed 20"),
        ([None, SOUND], ""),
        ([None, None], "not done after 150 s"),
        ([SOUND], ""),
    ],
)
def test_only_a_wrong_result_is_believed_at_once(monkeypatch, tmp_path, runs, complaint):
    left = list(runs)

    def run(*_args, **_env):
        if (result := left.pop(0)) is None:
            raise subprocess.TimeoutExpired("chaos", 150)
        return subprocess.CompletedProcess("chaos", *result, "")

    monkeypatch.setattr(mutants, "run", run)
    assert mutants.complaint(tmp_path, "data") == complaint
    assert not left


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_what_a_mutant_replaces_is_there(mutant):
    for edit in mutant.edits:
        assert (REPOSITORY / "redismr" / edit.file).read_text().count(edit.old) == 1, edit
