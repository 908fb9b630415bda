"""docs/keys.md has a table of the fields of ``meta``: it names who writes each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from support import script_names

from redismr.client.job_options import clear_fields, new_spec
from redismr.config import JobOptions
from redismr.sources import as_source
from redismr.store.scripts import script

ROOT = Path(__file__).parents[2]
TABLE = (ROOT / "docs/keys.md").read_text("utf-8").split("\n## Fields of meta\n")[1]
WRITERS = {
    field: set(writers.split())
    for field, writers in re.findall(
        r"^\| `([^`]+)` \| [^|]+ \| ([a-z_ ]+) \|", TABLE, re.MULTILINE
    )
}
"""Field of ``meta``, or a prefix with ``<name>`` for all of these -> its writers."""
CALL = re.compile(r"redis\.p?call\('(HSET|HDEL|HINCRBY|HGET|HMGET)', meta, ")
LITERAL = re.compile(r"'([^']*)'( \.\. .+)?")
PYTHON_READ = re.compile(
    r"""\bmeta(?:\.get\(|\[)"(\w+)"[],)]|\bmeta\([^()]*?((?:,\s*"\w+")+)\s*\)"""
)
SCALED = re.compile(r"scale_figure\('(\w+)'")


def arguments(lua: str, start: int) -> list[str]:
    """Return the arguments of a call from ``start`` to its closing parenthesis."""
    found, depth = [""], 0
    for char in lua[start:]:
        if char == ")" and depth == 0:
            break
        depth += {"(": 1, ")": -1}.get(char, 0)
        if char == "," and depth == 0:
            found.append("")
        else:
            found[-1] += char
    return [argument.strip() for argument in found]


def named(argument: str) -> set[str]:
    """Return the fields that an argument means: one, or all of its prefix; none for a variable."""
    literal = LITERAL.fullmatch(argument)
    if literal is None:
        assert argument in {"field", "fields[i]"}, f"{argument}: which fields of meta are these?"
        return set()
    prefix, is_prefix = literal.groups()
    same = {field for field in WRITERS if field.startswith(prefix)} if is_prefix else set()
    return same or {prefix}


def fields_of(name: str) -> Iterator[tuple[str, str]]:
    """Yield (command, field) for what a script reads or writes of meta."""
    lua = script(name).source
    for call in CALL.finditer(lua):
        command, found = call[1], arguments(lua, call.end())
        if command in {"HGET", "HINCRBY"}:
            found = found[:1]
        for argument in found[:: 2 if command == "HSET" else 1]:
            yield from ((command, field) for field in named(argument))
    yield from (("HSET", field) for field in SCALED.findall(lua))


def submitted_fields() -> set[str]:
    spec = new_spec(
        JobOptions(), None, "", {"finishfn": None, "partitionfn": None}, now_ms=0, executors=1
    )
    return set(clear_fields(spec, "", as_source(["a"]), each_worker=False))


def test_the_table_names_the_writers_of_each_field() -> None:
    writers = {field: {"create"} for field in submitted_fields()}
    for name in script_names():
        for command, field in fields_of(name):
            if command not in {"HGET", "HMGET"}:
                writers.setdefault(field, set()).add(name)
    assert writers == WRITERS


def test_nothing_reads_a_field_that_nobody_writes() -> None:
    read = {field for name in script_names() for _, field in fields_of(name)}
    for path in (ROOT / "redismr").rglob("*.py"):
        for field, fields in PYTHON_READ.findall(path.read_text("utf-8")):
            read |= {field} if field else set(re.findall(r"\w+", fields))
    assert {"maps_added", "unit", "key_id"} <= read, "the pattern finds reads in Python"
    assert read <= WRITERS.keys()
