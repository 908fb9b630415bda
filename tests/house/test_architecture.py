"""The house stays as ARCHITECTURE.md draws it: imports one way, modules and functions small."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "redismr").rglob("*.py"))
MODULE_LINES = 400
FUNCTION_LINES = 50
LUA_LINES = 80
LONGER: dict[str, int] = {}
"""Longer modules and functions, with their lengths today. Numbers may only fall, names only go."""


def test_imports_point_one_way() -> None:
    command = "import sys; from importlinter.cli import lint_imports_command as lint; lint()"
    done = subprocess.run(
        [sys.executable, "-c", command, "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_modules_are_short() -> None:
    check({name(path): count(path) for path in MODULES}, MODULE_LINES)


def test_functions_are_short() -> None:
    """Docstrings do not count: they may be as long as they must."""
    check(
        {
            f"{name(path)}:{node.name}": code_lines(node)
            for path in MODULES
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.FunctionDef)
        },
        FUNCTION_LINES,
    )


def test_scripts_are_short() -> None:
    scripts = sorted((ROOT / "redismr/store/lua").glob("*.lua"))
    assert scripts
    check({name(path): count(path) for path in scripts}, LUA_LINES)


def test_core_and_engine_open_no_file_and_read_no_environment() -> None:
    """The import rule cannot see this."""
    found = [
        f"{name(path)}:{node.lineno}"
        for path in MODULES
        if name(path).startswith(("core/", "engine/"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "open"
        )
        or (isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"})
    ]
    assert found == []


def test_users_sources_are_parsed_in_one_place() -> None:
    """One place, one lock: Python 3.11 fails if two threads of a process parse at once."""
    parsing = [name(path) for path in MODULES if "ast.parse(" in path.read_text(encoding="utf-8")]
    assert parsing == ["shipping/modules.py"]


def test_nothing_names_the_machine_it_was_written_on() -> None:
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    place = re.compile(r"(?<![\w.})])/(?:root|work|tmp/venv)/")
    found = [
        f"{file}: {match}"
        for file in names
        if (ROOT / file).is_file()
        for match in place.findall((ROOT / file).read_text("utf-8", "replace"))
    ]
    assert found == []


def check(lengths: dict[str, int], limit: int) -> None:
    """Check that only entries of LONGER exceed the limit, and by exactly the lines noted there."""
    assert {what: n for what, n in lengths.items() if n > LONGER.get(what, limit)} == {}
    slack = {what: lengths[what] for what, n in LONGER.items() if lengths.get(what, n) < n}
    assert slack == {}, "shorter than LONGER says: lower the number, or take the name out"


def name(path: Path) -> str:
    return path.relative_to(ROOT / "redismr").as_posix()


def count(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def code_lines(node: ast.FunctionDef) -> int:
    body = node.body if ast.get_docstring(node) is None else node.body[1:]
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
