"""The limits of the protocol stand in one table, which ARCHITECTURE.md prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import script_names

from redismr.config import OPTION_RULES
from redismr.store.limits import LIMITS
from redismr.store.scripts import script

ROOT = Path(__file__).parents[2]
LUA = sorted((ROOT / "redismr/store/lua").glob("*.lua"))
NO_LIMITS = {"KEYS", "ARGV", "RUNNING"}
"""Names in capitals that Redis and the prelude define."""


def limits_in(lua: str) -> set[str]:
    code = re.sub(r"--[^\n]*|'[^'\n]*'", "", lua)
    return set(re.findall(r"\b[A-Z][A-Z0-9_]+\b", code)) - NO_LIMITS


def test_architecture_has_the_table_of_limits() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    cells = [f"`{name}` {limit.value:,}" for name, limit in LIMITS.items()]
    cells += [""] * (-len(cells) % 3)
    rows = [f"| {' | '.join(cells[i : i + 3])} |" for i in range(0, len(cells), 3)]
    table = "\n".join(["| limit | limit | limit |", "| --- | --- | --- |", *rows])
    assert table in text, f"paste into ARCHITECTURE.md, Limits:\n{table}"


def test_every_limit_is_used_by_a_script_and_every_used_one_is_there() -> None:
    assert set().union(*(limits_in(path.read_text("utf-8")) for path in LUA)) == LIMITS.keys()


@pytest.mark.parametrize("name", script_names())
def test_a_script_gets_the_limits_that_it_names(name: str) -> None:
    for limit in limits_in(script(name).source):
        assert f"local {limit} = {LIMITS[limit].value}\n" in script(name).source


def test_an_option_and_the_scripts_agree_on_the_most_partitions() -> None:
    assert OPTION_RULES["partitions"].check("partitions", LIMITS["MAX_PARTITIONS"].value)
    with pytest.raises(ValueError, match="4096"):
        OPTION_RULES["partitions"].check("partitions", LIMITS["MAX_PARTITIONS"].value + 1)
