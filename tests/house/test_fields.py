"""Each field of a record says what it holds, where its name does not say it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from redismr.config import JobOptionsDict

REDISMR = Path(__file__).parents[2] / "redismr"

PLAIN = frozenset({
    "code", "functions", "host", "job", "job_id", "keyring", "keys", "message", "namespace",
    "params", "path", "pid", "provenance", "source", "state", "status", "stage", "task", "token",
    "values", "worker_id",
    "mapfn", "reducefn", "combinefn", "partitionfn", "initfn", "finishfn",
})  # fmt: skip
"""Names that mean the same everywhere: in the glossary, or in the documentation of users."""

OPTIONS = frozenset(JobOptionsDict.__annotations__)
"""``JobOptionsDict`` says what they mean."""

UNSAID = {
    name: set(fields.split())
    for name, fields in {
        # the class says it
        "ByteRange": "begin end file",
        "CommitReply": "claim statuses",
        "Encoding": "errors",
        "FileSource": "format patterns unit",
        "InMemorySource": "size unit",
        "Limit": "value why",
        "MapOutputs": "basis",
        "TracebackLine": "file function line",
        # the type says it
        "_InlineJob": "ctrl_c program",
        "Attempt": "session",
        "FileSplit": "byte_ranges format",
        "JobStatus": "executors_at_work",
        "LoadedCode": "script_namespaces",
        "LocalModules": "code_objects modules",
        "MapOutputsReply": "outputs",
        # the name says it
        "Column": "align_right title",
        "FirstSplitOnly": "size",
        "ShippedSplit": "contents names",
        "SubmitterState": "show_progress",
        "Transaction": "datasource",
    }.items()
}
"""Fields without a word of their own. May only shrink."""


def is_record(node: ast.ClassDef) -> bool:
    """True for dataclasses, NamedTuples and TypedDicts."""
    bases = {ast.unparse(base) for base in node.bases}
    decorators = (ast.unparse(decorator) for decorator in node.decorator_list)
    return bool(
        bases & {"NamedTuple", "TypedDict", "JobOptionsDict"}
        or any(text.startswith("dataclass") for text in decorators)
    )


def split_fields(node: ast.ClassDef, lines: list[str]) -> tuple[set[str], set[str]]:
    """Return the names with a ``#:`` in their line or the one before, or a docstring; the others.

    Properties have a docstring: another house rule says so.
    """
    said = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
    unsaid = set[str]()
    for field, after in zip(node.body, [*node.body[1:], None], strict=True):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        has_docstring = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        is_said = (
            has_docstring
            or "  #: " in lines[(field.end_lineno or 0) - 1]
            or lines[field.lineno - 2].lstrip().startswith("#: ")
        )
        (said if is_said else unsaid).add(field.target.id)
    return said, unsaid


def unsaid_fields(path: Path) -> Iterator[tuple[str, set[str]]]:
    """Yield each record and its fields that neither it nor a base in its module explains."""
    text, said_by = path.read_text(encoding="utf-8"), dict[str, set[str]]()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef) and is_record(node):
            said, unsaid = split_fields(node, text.splitlines())
            for base in node.bases:
                said |= said_by.get(ast.unparse(base), set())
            said_by[node.name] = said
            plain = PLAIN if node.name == "JobOptionsDict" else PLAIN | OPTIONS
            yield node.name, unsaid - said - plain


def test_each_field_says_what_it_holds() -> None:
    found = [each for path in sorted(REDISMR.rglob("*.py")) for each in unsaid_fields(path)]
    assert {name: fields for name, fields in found if fields} == UNSAID, (
        "say with `#:` what a field holds; take fields that say it out of UNSAID"
    )


def test_the_rule_sees_each_way_to_say_it(tmp_path: Path) -> None:
    path = tmp_path / "records.py"
    path.write_text(
        "class Record(NamedTuple):\n"
        "    same_line: int  #: Bytes.\n"
        "    #: Bytes.\n"
        "    line_before: int\n"
        "    docstring: int\n"
        '    """Bytes."""\n'
        "    task: str\n"
        "    priority: int\n"
        "    unsaid: int  # Bytes.\n"
        "class Other(Record):\n"
        "    unseen: int\n"
        "@dataclass(frozen=True)\n"
        "class More(Record):\n"
        "    docstring: int\n"
        "    unsaid: int\n"
    )
    assert list(unsaid_fields(path)) == [("Record", {"unsaid"}), ("More", {"unsaid"})]
