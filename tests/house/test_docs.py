"""The documents say what the code does: their tables are compared, their examples run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from redismr.cli import SUBCOMMANDS
from redismr.core.model import ENDED_STATES, JOB_TRANSITIONS, TASK_TRANSITIONS
from redismr.store.acl_rules import ROLES, Role, acl_rule
from redismr.store.keys import CONTROL, KeyNames

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def environment() -> dict[str, str]:
    """Return the environment without variables that name a server; the package is this checkout."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("REDISMR_", "REDIS_URL"))}
    return ours | {"PYTHONPATH": str(ROOT)}


def run(args: list[str], folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, *args],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def states_table(title: str, table: Mapping[str, Mapping[str, str]], ends: frozenset[str]) -> str:
    """Return one row for each state: its verbs and the states that they lead to."""
    lines = [f"| {title} | verb: next state |", "| --- | --- |"]
    for state, verbs in table.items():
        lines.append(f"| {state} | {'; '.join(f'{verb}: {to}' for verb, to in verbs.items())} |")
    lines.append(f"| {', '.join(sorted(ends))} | final |")
    return "\n".join(lines)


@pytest.mark.parametrize(
    "table",
    [
        states_table("job", JOB_TRANSITIONS, ENDED_STATES),
        states_table("task", TASK_TRANSITIONS, frozenset({"dead"})),
    ],
    ids=["job", "task"],
)
def test_architecture_has_the_transitions(table: str) -> None:
    assert table in ARCHITECTURE, f"paste into ARCHITECTURE.md, States:\n{table}"


def test_the_page_of_keys_has_every_key_of_the_store_and_no_other() -> None:
    keys = KeyNames("redismr")
    names = [keys.control("J", name) for name in CONTROL]
    names += [keys.input("J", 0).replace("i0", "i<k>"), keys.shuffle("J", "<p>")]
    names += [keys.jobs, keys.recent, keys.deleted, keys.workers]
    names += [keys.wake("<protocol>", "<python>", "<key id>")]
    table = (ROOT / "docs/keys.md").read_text(encoding="utf-8").split("\n## ")[0]
    first_cells = " ".join(re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE))
    documented = [f"redismr:{name}" for name in re.findall("`([^`]+)`", first_cells)]
    assert sorted(documented) == sorted(names)


def test_architecture_names_each_room() -> None:
    rooms = {
        path.relative_to(ROOT).as_posix() + ("/" if path.is_dir() else "")
        for path in (ROOT / "redismr").iterdir()
        if (path / "__init__.py").exists() or (path.suffix == ".py" and path.stem != "__init__")
    }
    first_cells = " ".join(re.findall(r"^\| (`redismr/[^|]*) \|", ARCHITECTURE, re.MULTILINE))
    assert sorted(rooms - set(re.findall("`([^`]+)`", first_cells))) == []


def test_architecture_points_at_files_that_exist() -> None:
    """The other documents too."""
    text = ARCHITECTURE + "".join(p.read_text("utf-8") for p in (ROOT / "docs").glob("*.md"))
    rooms = "|".join(path.name for path in (ROOT / "redismr").iterdir() if path.is_dir())
    named = re.findall(rf"`((?:{rooms})/[a-z_/]*(?:\.py|\.lua)?)`", text)
    named += re.findall(r"`([a-z_]+\.py)`", ARCHITECTURE)
    assert sorted(name for name in set(named) if not (ROOT / "redismr" / name).exists()) == []
    named = re.findall(r"`((?:docs|tests|benchmarks|redismr)/[a-z_/]*(?:\.\w+)?)`", text)
    assert sorted(name for name in set(named) if not (ROOT / name).exists()) == []


def test_readme_documents_every_command_and_no_other() -> None:
    documented = set(re.findall(r"`redismr ([a-z]+)", README.split("## Command line")[1]))
    assert documented - {"run"} == set(SUBCOMMANDS) - {"run"}


@pytest.mark.parametrize("role", ROLES)
def test_the_rights_of_each_user_are_documented(role: Role) -> None:
    line = acl_rule(role, f"redismr-{role}", "redismr")
    assert f"\n{line}\n" in (ROOT / "docs/servers.md").read_text(encoding="utf-8")
    assert run(["-m", "redismr", "acl", role], ROOT) == f"{line}\n"


def test_readme_has_every_promise() -> None:
    assert re.findall(r"^\| (P\d) \|", README, re.MULTILINE) == [f"P{n}" for n in range(1, 8)]


def test_links_of_the_documents_exist() -> None:
    pages = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *(ROOT / "docs").glob("*.md")]
    links = [
        page.parent / link
        for page in pages
        for link in re.findall(r"\]\((?!http|#)([^)#]+)[^)]*\)", page.read_text("utf-8"))
    ]
    assert links and [link for link in links if not link.exists()] == []


def test_every_promise_of_the_campaign_is_in_the_document(tmp_path):
    """Each promise has its row of the campaign, and a line in the table."""
    code = (
        "from chaos.__main__ import rows\nfor row in rows().values(): print(row.name, row.promise)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT / "tests",
        env=environment() | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    document = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
    promises = [line.partition(" ") for line in done.stdout.splitlines()]
    assert promises
    for name, _, promise in promises:
        assert f"- **{name}**: {promise}" in document
        assert f"| {name} |" in document


@pytest.mark.parametrize("code", BLOCKS, ids=range(len(BLOCKS)))
def test_readme_python_runs(code: str, tmp_path: Path) -> None:
    books = tmp_path / "books"
    books.mkdir()
    (books / "moby.txt").write_text("the whale The whale the sea\n", encoding="utf-8")
    (tmp_path / "script.py").write_text(code, encoding="utf-8")
    expected = {"mapfn(path, text)": "2\n3 the\n", "line_number": "('mon', 9.0)"}
    said = run(["script.py"], tmp_path)
    assert next(said for part, said in expected.items() if part in code) in said


def test_word_count_in_readme_is_short() -> None:
    assert len(BLOCKS[0].splitlines()) <= 15


EXAMPLES = {
    "wordcount.py": ["the\t38"],
    "inverted_index.py": ['boats\t["harbour.txt:2"'],
    "grep.py": ["boats stay on the land"],
    "join.py": ['17\t["Ada Birch", 2, 15.5]', '52\t["?", 1, 5.0]'],
    "pi.py": ["3.14"],
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_run_by_the_command_line(name: str, tmp_path: Path) -> None:
    said = run(["-m", "redismr", "run", "-n", "2", str(ROOT / "examples" / name)], tmp_path)
    assert [line for line in EXAMPLES[name] if line not in said] == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_run_by_python(name: str, tmp_path: Path) -> None:
    assert run([str(ROOT / "examples" / name)], tmp_path).strip()


def test_examples_are_short() -> None:
    long = [
        p.name for p in (ROOT / "examples").glob("*.py") if len(p.read_text().splitlines()) > 40
    ]
    assert long == []
