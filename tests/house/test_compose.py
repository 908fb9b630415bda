"""docker-compose.yml, checked by the real Compose; no server is needed for that.

The commands of the containers run here unchanged, with the paths of a folder: the configuration of
the server, and the health checks.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis
from support import eventually, open_client, server_binary
from system.processes import SECRET, Process

from redismr import settings
from redismr.server.credentials import user_acl

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
COMPOSE = shutil.which("docker-compose", path=Path(sys.executable).parent) or "docker-compose"
PASSWORD = r"""p@ss:w/o#r?d of "some" 'quotes', $HOME $(id) `id` \\ %41 and ü"""
GIVEN = {"REDISMR_SECRET": SECRET, "REDISMR_PASSWORD": PASSWORD}
BIN = Path(sys.executable).parent


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


def test_any_password_can_stand_in_its_env_file(tmp_path: Path) -> None:
    written = PASSWORD.replace("'", r"\'")
    (tmp_path / "env").write_text(f"REDISMR_PASSWORD='{written}'\n")
    command = [COMPOSE, "--env-file", str(tmp_path / "env"), "config", "--environment"]
    clean = {name: it for name, it in os.environ.items() if not name.startswith("REDISMR_")}
    done = subprocess.run(
        command, cwd=ROOT, env=clean | {"REDISMR_SECRET": SECRET}, capture_output=True, text=True
    )
    assert f"REDISMR_PASSWORD={PASSWORD}\n" in done.stdout


@pytest.mark.parametrize("name", GIVEN)
def test_it_refuses_to_start_without(name: str) -> None:
    done = config({**GIVEN, name: ""}, "--quiet")
    assert done.returncode != 0
    assert name in done.stderr


def test_secrets_reach_containers_only_as_files(services: dict[str, Any]) -> None:
    """Neither `docker inspect` nor `docker compose config` shows them."""
    known = dict.fromkeys(GIVEN, "5ec2e7")
    done = config(known, "--format", "json")
    assert done.returncode == 0, done.stderr
    assert "5ec2e7" not in done.stdout
    assert {secret["source"] for secret in services["worker"]["secrets"]} == {
        "redismr_password", "redismr_secret"
    }  # fmt: skip


def test_the_worker_can_be_scaled(services: dict[str, Any]) -> None:
    assert not {"container_name", "ports"} & set(services["worker"])


def test_each_service_is_kept_small(services: dict[str, Any]) -> None:
    for service in services.values():
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        assert set(service["logging"]["options"]) == {"max-size", "max-file"}
        assert int(service["mem_limit"]) > 1 << 30
        assert service["healthcheck"]["start_period"]
        assert service["restart"] == "unless-stopped"
    assert services["redis"]["user"] == "valkey"
    assert re.fullmatch(r"valkey/valkey:\d+\.\d+", services["redis"]["image"])
    assert "\nUSER worker\n" in services["worker"]["build"]["dockerfile_inline"]


# ------------------------------------------------------------------------- commands of containers

LIMIT = 300 << 20


class Containers:
    """Runs the commands of the two containers in a folder."""

    def __init__(self, services: dict[str, Any], folder: Path, server_kind: str) -> None:
        self.services, self.folder = services, folder
        (folder / "data").mkdir()
        (folder / "redismr_password").write_text(PASSWORD)
        (folder / "redismr_secret").write_text(GIVEN["REDISMR_SECRET"])
        (folder / "memory.max").write_text(f"{LIMIT}\n")
        self.renamed = {
            "/run/secrets/": f"{folder}/",
            "/sys/fs/cgroup/": f"{folder}/",
            "docker-entrypoint.sh valkey-server -": f"{server_binary(server_kind)} -",
            "valkey-cli": f"redis-cli -s {folder}/s",  # Debian has it with redis-server
            "dir /data": f"dir {folder}/data\nport 0\nunixsocket {folder}/s",
            "redis://redismr@redis:6379/0": f"unix://redismr@{folder}/s?db=0",
        }

    def here(self, text: str) -> str:
        """Return a text of the file with the paths that it needs here."""
        for there, here in self.renamed.items():
            text = text.replace(there, here)
        return text.replace("$$", "$")

    def environment(self, service: str) -> dict[str, str]:
        given = self.services[service].get("environment", {})
        kept = {name: it for name, it in os.environ.items() if not name.startswith("REDISMR_")}
        path = f"{BIN}{os.pathsep}{kept['PATH']}"
        return kept | {name: self.here(it) for name, it in given.items()} | {"PATH": path}

    def start(self, service: str, *command: str) -> Process:
        log = self.folder / f"{service}.log"
        return Process(list(command), self.environment(service), self.folder, log)

    def healthy(self, service: str) -> bool:
        shell, test = self.services[service]["healthcheck"]["test"]
        assert shell == "CMD-SHELL"
        done = subprocess.run(
            ["sh", "-c", self.here(test)], env=self.environment(service), capture_output=True
        )
        return done.returncode == 0


@pytest.fixture(scope="module")
def containers(
    services: dict[str, Any], server_kind: str, tmp_path_factory: Any
) -> Iterator[Containers]:
    """Return containers whose server is running and healthy."""
    found = Containers(services, tmp_path_factory.mktemp("compose"), server_kind)
    assert not found.healthy("redis")
    server = found.start("redis", *map(found.here, services["redis"]["command"]))
    try:
        eventually(lambda: found.healthy("redis"), message=lambda: server.log)
        yield found
    finally:
        server.kill()


def test_the_server_takes_its_configuration(containers: Containers) -> None:
    connection = settings.resolve_connection(environ=containers.environment("worker"))
    assert connection
    with contextlib.closing(open_client(connection.url)) as client:
        memory = client.info("memory")
        assert memory["maxmemory"] == LIMIT // 3 * 2
        assert memory["maxmemory_policy"] == "noeviction"
        assert client.info("persistence")["aof_enabled"]
        assert client.execute_command("ACL WHOAMI") == "redismr"
        for forbidden in ("CONFIG GET *", "FLUSHALL", "GET other:key", "ACL LIST"):
            with pytest.raises(redis.ResponseError, match=r"(?i)no perm"):
                client.execute_command(*forbidden.split())
    stranger = f"unix://{containers.folder}/s"
    with (
        contextlib.closing(open_client(stranger)) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()


def test_its_user_is_that_of_redismr_up(services: dict[str, Any]) -> None:
    script = services["redis"]["command"][-1]
    *_, as_up = user_acl("PASSWORD", "NAMESPACE").splitlines()
    ours = next(line for line in script.splitlines() if "user redismr" in line)
    named = ours.strip().replace("#$$hash", ">PASSWORD").replace("$$space", "NAMESPACE")
    assert named == as_up


def test_a_worker_is_healthy_while_the_server_hears_from_it(containers: Containers) -> None:
    assert not containers.healthy("worker")
    worker = containers.start("worker", "redismr", "worker", "-n", "1")
    try:
        eventually(lambda: containers.healthy("worker"), 30, lambda: worker.log)
    finally:
        worker.kill()


def test_a_worker_that_is_lost_is_not_healthy(
    containers: Containers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = tmp_path / "redismr"
    monkeypatch.setitem(containers.renamed, "redismr workers", str(said))
    for lost, healthy in (("false", True), ("true", False)):
        row = f'{{"worker_id": "w", "host": "{socket.gethostname()}", "lost": {lost}}}'
        said.write_text(f"#!/bin/sh\necho '{row}'\n")
        said.chmod(0o755)
        assert containers.healthy("worker") == healthy
