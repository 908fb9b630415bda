"""docs/systemd: systemd knows each word of the units, and redismr each command in them.

If systemd-analyze is installed, one more test lets it read them.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from system.processes import SECRET

from redismr import settings
from redismr.cli import cli

UNITS = sorted((Path(__file__).parents[2] / "docs" / "systemd").glob("*.service"))
REDISMR = "/opt/redismr/bin/redismr"

TEXT, YES_OR_NO, DURATION = r".+", "yes|no", r"\d+(s|min|h)?"
WORDS = {
    "Unit": {"Description": TEXT, "Wants": r"\S+\.target", "After": r"\S+\.target"},
    "Service": {
        "Type": "simple|exec|forking|oneshot|dbus|notify|notify-reload|idle",
        "ExecStart": rf"{REDISMR} .+",
        "Environment": r"(REDISMR_\w+=\S+ ?)+",
        "LoadCredential": r"\w+:/\S+",
        "DynamicUser": YES_OR_NO,
        "Restart": "no|always|on-success|on-failure|on-abnormal|on-abort|on-watchdog",
        "RestartSec": DURATION,
        "KillMode": "control-group|mixed|process|none",
        "TimeoutStopSec": DURATION,
        "OOMPolicy": "continue|stop|kill",
        "MemoryMax": r"\d+%|\d+[KMGT]?",
        "CapabilityBoundingSet": "",
        "NoNewPrivileges": YES_OR_NO,
        "PrivateDevices": YES_OR_NO,
        "ProtectControlGroups": YES_OR_NO,
        "ProtectKernelModules": YES_OR_NO,
        "ProtectKernelTunables": YES_OR_NO,
        "RestrictSUIDSGID": YES_OR_NO,
    },
    "Install": {"WantedBy": r"\S+\.target"},
}
"""From systemd's manual (252): what stands in which section, and which values it takes."""


def settings_in(unit: Path) -> list[tuple[str, str, str]]:
    """Yield section, name and value of each setting."""
    found, section = [], ""
    for line in unit.read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.append((section, name, value))
    return found


def values(unit: Path, wanted: str) -> list[str]:
    return [value for _, name, value in settings_in(unit) if name == wanted]


def test_there_is_one_for_a_worker_and_one_for_up() -> None:
    assert [unit.name for unit in UNITS] == ["redismr-up.service", "redismr-worker.service"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_each_word_is_one_that_systemd_knows(unit: Path) -> None:
    for section, name, value in settings_in(unit):
        assert name in WORDS[section], f"[{section}] has no {name}"
        assert re.fullmatch(WORDS[section][name], value), f"{name}={value}"


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_their_commands_and_variables_are_ours(unit: Path, tmp_path: Path) -> None:
    """Variables of credentials name credentials, and no secret stands in a unit."""
    _, verb, *words = shlex.split(values(unit, "ExecStart")[0])
    command = cli.get_command(None, verb)  # type: ignore[arg-type]
    assert command is not None
    command.make_context(verb, words)  # refuses unknown options
    for credential in values(unit, "LoadCredential"):
        (tmp_path / credential.partition(":")[0]).write_text(SECRET)
    environ = dict(
        word.replace("%d", str(tmp_path)).split("=", 1)
        for line in values(unit, "Environment")
        for word in line.split()
    )
    assert settings.find_secret(environ=environ) == SECRET
    if verb == "worker":
        found = settings.resolve_connection(environ=environ)
        assert found
        assert f":{SECRET}@" in found.url


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_what_ends_alone_and_what_together(unit: Path) -> None:
    """The worker ends its executors; an executor that is out of memory ends no other."""
    assert values(unit, "KillMode") == ["mixed"]
    assert values(unit, "OOMPolicy") == ["continue"]


if ANALYZE := shutil.which("systemd-analyze"):

    @pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
    def test_systemd_takes_them(unit: Path, tmp_path: Path) -> None:
        """The exit status is 0 for unknown words too: the output must be empty."""
        assert ANALYZE
        here = tmp_path / unit.name
        here.write_text(unit.read_text().replace(REDISMR, sys.executable))
        done = subprocess.run([ANALYZE, "verify", str(here)], capture_output=True, text=True)
        assert [line for line in done.stderr.splitlines() if unit.stem in line] == []
