"""Results as lines of text or JSON."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from redismr.ui.result_lines import json_line, text_field, write_outcome, write_pairs


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as is é", "as is é"),
        ("a\tb\n", '"a\\tb\\n"'),
        (3, "3"),
        (0.5, "0.5"),
        (True, "true"),
        (None, "null"),
        (("a", 1), '["a", 1]'),
        ({"é": [1]}, '{"é": [1]}'),
        (float("nan"), "nan"),
        (b"x", "b'x'"),
        (Path("a"), repr(Path("a"))),
    ],
)
def test_a_field_is_the_str_or_json_or_the_repr(value, text):
    assert text_field(value) == text


class Tall:
    def __repr__(self):
        return "one\ntwo"


class Point(NamedTuple):
    x: object
    y: object


@pytest.mark.parametrize(
    ("value", "text", "in_json"),
    [
        (np.int64(1), "1", 1),
        (np.uint8(200), "200", 200),
        (np.float32(0.5), "0.5", 0.5),
        (np.float64(0.1), "0.1", 0.1),
        (np.float64("nan"), "nan", "nan"),
        (np.longdouble(0.25), "0.25", 0.25),
        (np.True_, "true", True),
        (np.complex128(1 + 2j), "(1+2j)", "(1+2j)"),
        (np.str_("as is"), "as is", "as is"),
        (np.datetime64("2026-11-29T01:02:03.5", "ns"), *["2026-11-29T01:02:03.500000000"] * 2),
        (np.array([[1, 2], [3, 4]]), "[[1, 2], [3, 4]]", [[1, 2], [3, 4]]),
        (np.array(["2026-11-29"], "M8[D]"), '["2026-11-29"]', ["2026-11-29"]),
        (np.array([1, np.array([2])], object), "[1, [2]]", [1, [2]]),
        ({np.int64(1): np.int64(2)}, '{"1": 2}', {"1": 2}),
        (Counter({np.str_("a"): np.int64(2)}), '{"a": 2}', {"a": 2}),
        ((np.int64(1), [np.int8(2), "b"]), '[1, [2, "b"]]', [1, [2, "b"]]),
        (Point(np.int64(1), "b"), '[1, "b"]', [1, "b"]),
        (Point(np.int64(1), {2}), "Point(x=1, y={2})", "Point(x=1, y={2})"),
        ({np.int64(1)}, "{1}", "{1}"),
        (Counter({(1, "a"): 2}), "Counter({(1, 'a'): 2})", "Counter({(1, 'a'): 2})"),
        (pd.Series([1, 2]).sum(), "3", 3),
        (pd.NA, "<NA>", "<NA>"),
        (Tall(), '"one\\ntwo"', "one\ntwo"),
    ],
    ids=repr,
)
def test_numpy_values_are_written_as_python_values(value, text, in_json):
    assert text_field(value) == text
    assert json.loads(json_line(value, value)) == [in_json, in_json]


def test_a_value_that_contains_itself():
    endless = []
    endless.append(endless)
    assert text_field(endless) == "[[...]]"
    assert json.loads(json_line("a", endless)) == ["a", "[[...]]"]


def test_pairs_as_text():
    stream = io.StringIO()
    write_pairs([("a", 1), (("b", 2), [1, "x"])], stream)
    assert stream.getvalue() == 'a\t1\n["b", 2]\t[1, "x"]\n'


def test_pairs_as_json_are_always_valid_json():
    stream = io.StringIO()
    write_pairs([("a\tb", 1), (1, {2}), ("c", float("inf"))], stream, as_json=True)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert lines == [["a\tb", 1], [1, "{2}"], ["c", "inf"]]


@pytest.mark.parametrize("as_json", [False, True])
def test_undecodable_file_names_are_no_error(as_json):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="utf-8")
    write_pairs([("odd-\udcff", 1)], stream, as_json=as_json)
    stream.flush()
    line = raw.getvalue()
    assert line == (b'["odd-\\udcff", 1]\n' if as_json else b"odd-\\udcff\t1\n")
    if as_json:
        assert json.loads(line) == ["odd-\udcff", 1]


def test_pairs_are_written_as_they_come():
    stream = io.StringIO()

    def pairs():
        yield "a", 1
        assert stream.getvalue() == "a\t1\n"
        yield "b", 2

    write_pairs(pairs(), stream)


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        (None, ""),
        (42, "42\n"),
        ("done", "done\n"),
        ([1, 2], "[1, 2]\n"),
        (Counter(a=2), "a\t2\n"),
        (MappingProxyType({"a": 1}), "a\t1\n"),
        ({}, ""),
    ],
)
def test_an_outcome_as_text(outcome, text):
    stream = io.StringIO()
    write_outcome(outcome, stream)
    assert stream.getvalue() == text


def test_an_outcome_as_json():
    stream = io.StringIO()
    write_outcome("done", stream, as_json=True)
    assert stream.getvalue() == '"done"\n'
