"""docker-compose.yml, checked by the real Compose; no engine is needed for that."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import engine_binary

ROOT = Path(__file__).parents[2]
COMPOSE = shutil.which("docker-compose", path=Path(sys.executable).parent) or "docker-compose"
GIVEN = {"REDISMR_SECRET": "s" * 64, "REDISMR_PASSWORD": "p" * 64}


def config(given: dict[str, str], *args: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("REDISMR_")}
    command = [COMPOSE, "--env-file", os.devnull, "config", *args]
    return subprocess.run(command, cwd=ROOT, env=clean | given, capture_output=True, text=True)


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    done = config(GIVEN, "--format", "json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)["services"]
    return found


def test_it_is_valid() -> None:
    done = config(GIVEN, "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", GIVEN)
def test_it_refuses_to_start_without(name: str) -> None:
    done = config({**GIVEN, name: ""}, "--quiet")
    assert done.returncode != 0
    assert name in done.stderr


def test_the_signing_secret_reaches_containers_only_as_a_file(services: dict[str, Any]) -> None:
    assert GIVEN["REDISMR_SECRET"] not in json.dumps(services)


def test_the_worker_can_be_scaled(services: dict[str, Any]) -> None:
    assert not {"container_name", "ports"} & set(services["worker"])


def test_the_server_takes_its_configuration(services: dict[str, Any], tmp_path: Path) -> None:
    """The very text that the container feeds to its server, fed to the one that we install."""
    binary = engine_binary("valkey")
    script = services["redis"]["command"][-1].replace("$$", "$")
    password = tmp_path / "password"
    password.write_text("p" * 64)
    script = script.replace("/run/secrets/redismr_password", str(password))
    script = script.replace("docker-entrypoint.sh valkey-server -", f"{binary} -")
    script = script.replace("dir /data", f"dir {tmp_path}\nport 0\nunixsocket {tmp_path}/s")
    server = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        said = ""
        for line in server.stdout:
            said += line
            if "ready to accept connections" in line.lower():
                break
        else:
            pytest.fail(said)
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
