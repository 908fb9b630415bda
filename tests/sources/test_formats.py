"""JSON lines and CSV: every record, and an error with its place for a bad line or row."""

from __future__ import annotations

import csv as stdcsv
import gzip
import io
import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redismr.errors import ConfigError, SourceError
from redismr.sources import as_source, csv, jsonl


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(content, name="f"):
        data = content.encode() if isinstance(content, str) else content
        (tmp_path / name).write_bytes(data)
        return name

    return write


def splits_of(source):
    return [pickle.loads(pickle.dumps(s, 5)) for s in as_source(source).splits()]


def read(source):
    return [pair for split in splits_of(source) for pair in split.read()]


def values(source):
    return [value for _, value in read(source)]


def test_each_line_is_an_object(write):
    name = write('{"a": 1}\n\n[2, "\u2028"]\r\n  \n"three"')
    found = read(jsonl(name))
    assert [value for _, value in found] == [{"a": 1}, [2, "\u2028"], "three"]
    assert [(where, where.line) for where, _ in found] == [("f", 1), ("f", 3), ("f", 5)]


@pytest.mark.parametrize("split", [10, 100, None])
def test_jsonl_is_cut_by_bytes(write, split):
    rows = [{"n": n, "text": "é" * (n % 7)} for n in range(200)]
    name = write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    assert values(jsonl(name, split=split)) == rows


@pytest.mark.parametrize("split", [20, None])
def test_bad_json_names_file_line_and_byte(write, tmp_path, split):
    name = write('{"é": 1}\n{"é": 2}\n{"é": oops}\n{}\n')
    with pytest.raises(
        SourceError, match=rf"{tmp_path}/f, line 3, byte 27: not JSON: Expecting"
    ) as i:
        values(jsonl(name, split=split))
    assert "lines()" in str(i.value)


def test_bad_json_in_an_encoding_that_is_read_whole_names_file_and_line(tmp_path):
    (tmp_path / "f").write_text('{}\n{}\n{"é": oops}\n', encoding="utf-16")
    with pytest.raises(SourceError, match=rf"{tmp_path}/f, line 3: not JSON: Expecting"):
        values(jsonl(tmp_path / "f", encoding="utf-16"))


def test_json_too_deep_or_too_long_is_bad_json(write):
    for line in ("[" * 100_000, "1" * 10_000):
        with pytest.raises(SourceError, match=r"line 1.*not JSON"):
            values(jsonl(write(line)))


def test_a_byte_order_mark_is_no_part_of_the_data(write):
    assert values(jsonl(write('\ufeff{"a": 1}\n'))) == [{"a": 1}]
    assert values(csv(write('\ufeff"a",b\n1,2\n'))) == [{"a": "1", "b": "2"}]


def test_rows_are_dicts_by_the_header_of_each_file(write):
    write("name,age\nAda,36\nAlan,41\n", "a.csv")
    write("age,name\n85,Grace\n", "b.csv")
    assert values(csv("*.csv")) == [
        {"name": "Ada", "age": "36"},
        {"name": "Alan", "age": "41"},
        {"age": "85", "name": "Grace"},
    ]


def test_rows_are_lists_without_header_and_dicts_with_given_names(write):
    name = write("1;2\n\n3;4;5\n")
    assert values(csv(name, header=False, delimiter=";")) == [["1", "2"], ["3", "4", "5"]]
    name = write("1;2\n3;4\n")
    assert values(csv(name, header=["a", "b"], delimiter=";")) == [
        {"a": "1", "b": "2"},
        {"a": "3", "b": "4"},
    ]


def test_quoted_newlines_are_part_of_the_field(write):
    name = write('id,text\n1,"a\nb"\n2,"c\r\nd\n\n"\n3,e\n')
    found = read(csv(name))
    assert [row["text"] for _, row in found] == ["a\nb", "c\r\nd\n\n", "e"]
    assert [where.line for where, _ in found] == [2, 4, 8]
    (split,) = splits_of(csv(name))
    assert split.where(2) == "record 3 of f (line 8, byte 27)"


@given(
    rows=st.lists(
        st.lists(st.text("ab,\"'\n\r é", max_size=6), min_size=2, max_size=2),
        min_size=1,
        max_size=30,
    )
)
def test_rows_that_python_writes_are_read_back(tmp_path_factory, rows):
    rows = [row for row in rows if any(row)]
    out = io.StringIO(newline="")
    stdcsv.writer(out, quoting=stdcsv.QUOTE_ALL).writerows(rows)
    path = tmp_path_factory.getbasetemp() / "hypothesis.csv"
    path.write_bytes(out.getvalue().encode())
    assert values(csv(path, header=False)) == rows


@pytest.mark.parametrize("split", [7, 50, 1000])
def test_a_cut_file_has_its_header_everywhere(write, split):
    name = write("n,square\n" + "".join(f"{n},{n * n}\n" for n in range(100)))
    assert values(csv(name, split=split)) == [
        {"n": str(n), "square": str(n * n)} for n in range(100)
    ]
    assert len(values(csv(name, split=split, header=False))) == 101


def test_a_header_longer_than_a_split_is_read_once(write):
    name = write("a_very_long_name,another_very_long_name\n1,2\n3,4\n")
    assert len(values(csv(name, split=5))) == 2


def test_one_task_reads_a_whole_file_unless_cut(write):
    name = write("a,b\n" + f"1,{'2' * 996}\n" * 2600)
    assert len(splits_of(csv(name))) == 1
    assert len(splits_of(csv(name, split="1MB"))) == 3
    assert len(values(csv(name))) == 2600


def test_compressed_csv(write):
    assert values(csv(write(gzip.compress(b"a\n1\n2\n"), "f.csv.gz"), split=3)) == [
        {"a": "1"},
        {"a": "2"},
    ]


def test_files_without_rows_are_no_records(write):
    assert values(csv(write(""))) == []
    assert values(csv(write("a,b\n"))) == []
    assert values(csv(write(""), header=False, split=10)) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a,b\n1,2\n1\n", "line 3, byte 8: 1 field where the header has 2"),
        ("a,b\n1,2,3\n", "line 2, byte 4: 3 fields where the header has 2"),
        ('a,b\n1,2\n3,"never closed\n4,5\n', "line 3, byte 8: not CSV"),
        ('a,b\n1,"x"y\n', "line 2, byte 4: not CSV"),
        ("a,b,a\n", "line 1, byte 0: the header names a column twice"),
    ],
)
def test_a_malformed_row_is_an_error_with_its_place(write, tmp_path, content, words):
    with pytest.raises(SourceError, match=words) as info:
        values(csv(write(content)))
    assert str(tmp_path / "f") in str(info.value)


def test_given_names_that_repeat_are_refused_at_once():
    with pytest.raises(ConfigError, match="names a column twice"):
        csv("*", header=["a", "a"])


@pytest.mark.parametrize("header", ["names", None, 3])
def test_a_bad_header_is_refused_at_once(header):
    with pytest.raises(ConfigError, match="a list of names"):
        csv("*", header=header)


def test_stray_quotes_on_request(write):
    assert values(csv(write('a\n"x"y\n'), strict=False)) == [{"a": "xy"}]


@pytest.mark.parametrize("options", [{"delimiter": "--"}, {"delimeter": ","}, {"dialect": "nope"}])
def test_options_that_csv_does_not_know_are_refused_at_once(options):
    with pytest.raises(ConfigError, match=r"csv.reader"):
        csv("*", **options)
