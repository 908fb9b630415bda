"""Annotations that only type checkers can resolve: legal anywhere from Python 3.14 on."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from redismr.compat.adapted_functions import takes_items
from redismr.engine.program import prepare_program
from redismr.errors import ConfigError

# Before 3.14 the same text needs the __future__ to run at all.
DEFERRED = "" if sys.version_info >= (3, 14) else "from __future__ import annotations\n"
PROGRAM = (
    DEFERRED
    + """
import functools, typing
from dataclasses import dataclass, field
if typing.TYPE_CHECKING:
    from collections.abc import Iterator
    from a_library_of_stubs import Frame


@dataclass(frozen=True)
class Point:
    x: int
    near: Frame | None = None


@dataclass
class Box:
    frame: Frame
    more: list[Frame] = field(default_factory=list)


class Row(typing.NamedTuple):
    number: int
    frame: Frame


class Typed(typing.TypedDict):
    number: int
    frame: Frame


class Plain:
    frame: Frame

    def of(self, frame: Frame) -> Frame:
        return frame


class Known:
    number: int


def counted(function: Frame) -> Frame:
    @functools.wraps(function)
    def call(key: Frame, value: Frame) -> Frame:
        return function(key, value)

    return call


def helper(value: Frame, *, by: typing.Optional["Frame"] = None) -> Frame:
    return value + 1


@counted
def mapfn(key: Frame, value: int | None) -> Iterator[tuple[Point, Box]]:
    later: Frame = Plain().of(helper(value))
    yield Point(later % 2), Box(Row(later, [Typed(number=later)]))


def by_value(value: Frame) -> Frame:
    yield from mapfn(0, value)


def reducefn(key: Point, values: Iterator[Box]) -> int:
    return sum(box.frame.number for box in values)


def partitionfn(key: Frame, partitions: Frame) -> Frame:
    return key.x % partitions


def initfn() -> Frame:
    pass


def three(key: Frame, value: Frame, more: Frame) -> Frame:
    pass
"""
)


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    module = ModuleType("annotated")
    monkeypatch.setitem(sys.modules, "annotated", module)
    exec(compile(PROGRAM, "annotated.py", "exec", dont_inherit=True), vars(module))  # noqa: S102
    return vars(module)


def test_parameters_without_annotations_decide_how_functions_are_called(program):
    made = prepare_program(
        program["by_value"],
        program["reducefn"],
        partitionfn=program["partitionfn"],
        initfn=program["initfn"],
    )
    assert (made.takes_value_only, made.reduce.takes_items) == (True, False)
    assert not prepare_program(program["mapfn"]).takes_value_only
    assert takes_items(program["by_value"])
    with pytest.raises(ConfigError, match="takes 3 arguments"):
        prepare_program(program["three"])


UNPICKLING_PROGRAM = """
import pickle, sys
mapfn, known, *others = pickle.load(sys.stdin.buffer)
((point, made),) = mapfn(0, 6)
print(point, made)
print(known.__annotations__["number"] in (int, "int"), [sorted(o.__annotations__) for o in others])
"""


def test_objects_sent_by_value_work_on_a_worker_and_keep_their_annotations(tmp_path: Path):
    """cloudpickle evaluates annotations of functions, and drops those of classes."""
    (tmp_path / "script.py").write_text(
        PROGRAM
        + """
import sys
from redismr.core import pickle_by_value
sys.stdout.buffer.write(pickle_by_value.dumps((mapfn, Known, Plain, Box, Row, Typed, helper)))
""",
        encoding="utf-8",
    )
    sender = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, timeout=60
    )
    assert sender.returncode == 0, sender.stderr.decode()
    receiver = subprocess.run(
        [sys.executable, "-c", UNPICKLING_PROGRAM],
        input=sender.stdout,
        capture_output=True,
        timeout=60,
    )
    assert receiver.returncode == 0, receiver.stderr.decode()
    assert receiver.stdout.decode().splitlines() == [
        "Point(x=1, near=None) Box(frame=Row(number=7, frame=[{'number': 7}]), more=[])",
        "True "
        + str(
            [["frame"], ["frame", "more"], *[["frame", "number"]] * 2, ["by", "return", "value"]]
        ),
    ]


JOB = """
if __name__ == "__main__":
    import redismr
    functions = dict(mapfn=mapfn, reducefn=reducefn, partitionfn=partitionfn, initfn=initfn)
    with redismr.Client(executors=1) as client:
        for run, options in (redismr.run, {"inline": True}), (client.run, {}):
            result = run(range(9), **functions, **options)
            print(sorted((point.x, total) for point, total in result.items()))
"""


def test_a_whole_job_runs(tmp_path: Path):
    (tmp_path / "script.py").write_text(PROGRAM + JOB, encoding="utf-8")
    completed = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert completed.returncode == 0, completed.stderr
    assert completed.stdout.splitlines() == ["[(0, 20), (1, 25)]"] * 2


def test_functions_of_modules_that_are_installed_still_go_by_name(program):
    from redismr.core import pickle_by_value

    assert pickle.loads(pickle_by_value.dumps(prepare_program)) is prepare_program
