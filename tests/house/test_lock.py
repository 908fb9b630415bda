"""``requirements.lock`` names an allowed version of every package that make installs."""

from __future__ import annotations

import itertools
import os
import platform
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LINES = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
LOCKED = {
    canonicalize_name(name): Version(version)
    for name, _, version in (line.partition("==") for line in LINES if not line.startswith("#"))
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DECLARED = [
    Requirement(line)
    for line in PROJECT["project"]["dependencies"]
    + PROJECT["project"]["optional-dependencies"]["test"]
    + PROJECT["build-system"]["requires"]
]
# The first Python of each minor version that we support, on each system.
SYSTEMS = [
    dict(default_environment())
    | {"python_version": python, "python_full_version": f"{python}.0"}
    | {"sys_platform": platform, "platform_system": platform.title(), "platform_machine": machine}
    for python in re.findall(r"Python :: (3\.\d+)", str(PROJECT["project"]["classifiers"]))
    for platform, machine in [
        ("linux", "x86_64"),
        ("linux", "aarch64"),
        ("darwin", "x86_64"),
        ("darwin", "arm64"),
    ]
]


def wanted_somewhere(requirement: Requirement, extras: set[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(
        marker.evaluate(system | {"extra": extra})
        for system, extra in itertools.product(SYSTEMS, extras or {""})
    )


def needed() -> Iterator[tuple[str, Requirement]]:
    """Return all requirements, direct and indirect, each with the package that requires it."""
    waiting, seen = [("redismr", one) for one in DECLARED], set()
    while waiting:
        owner, one = waiting.pop()
        yield owner, one
        name = canonicalize_name(one.name)
        if (name, *one.extras) not in seen:
            seen.add((name, *one.extras))
            theirs = map(Requirement, needs_of(name))
            waiting += [(name, each) for each in theirs if wanted_somewhere(each, one.extras)]


def needs_of(name: str) -> list[str]:
    try:
        return distribution(name).requires or []
    except PackageNotFoundError:  # wanted on other Pythons only
        return []


def test_all_that_is_needed_on_any_python_and_system_is_locked_within_its_bounds() -> None:
    missing = [
        f"{owner} needs {one}"
        for owner, one in needed()
        if canonicalize_name(one.name) not in LOCKED
        or LOCKED[canonicalize_name(one.name)] not in one.specifier
    ]
    assert missing == [], "`make lock` renews requirements.lock"


def test_it_says_nothing_but_names_and_versions() -> None:
    """No registry, no local path, no other kind of pin: the pip of users reads the file too."""
    odd = [line for line in LINES if not re.fullmatch(r"#.*|[\w.-]+==[\w.]+", line)]
    assert odd == []
    assert len(LOCKED) == len([line for line in LINES if not line.startswith("#")])


def planned(*args: str) -> list[str]:
    """Return the commands that make would run."""
    return subprocess.run(
        ["make", "--dry-run", *args],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if not k.startswith("MAKE")},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.splitlines()


@pytest.mark.parametrize(
    ("goals", "constrained"),
    [(["demo", "VENV=.no"], True), (["test", "VENV=.no"], True), (["test-newest"], False)],
)
def test_make_installs_by_it_unless_the_newest_is_asked_for(
    goals: list[str], constrained: bool
) -> None:
    """pip must not download a build backend of its own choice either."""
    installs = [line for line in planned(*goals) if " -m pip " in line]
    assert installs
    assert all(("--constraint requirements.lock" in line) is constrained for line in installs)
    assert all("--no-build-isolation" in line for line in installs if "--editable" in line)


@pytest.mark.parametrize(("version", "anew"), [(platform.python_version(), False), ("3.0", True)])
def test_an_environment_of_another_python_is_made_anew(
    tmp_path: Path, version: str, anew: bool
) -> None:
    """Else ``make test PYTHON=...`` would test on the Python of the old environment."""
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text(f"#!/bin/sh\necho {version}\n")
    python.chmod(0o755)
    (tmp_path / "made").touch()
    lines = planned("demo", f"VENV={tmp_path}", f"PYTHON={sys.executable}")
    assert any("-m venv" in line for line in lines) is anew


def test_a_users_own_install_is_not_pinned() -> None:
    assert [str(one) for one in DECLARED if "==" in str(one.specifier).replace("!==", "")] == []
