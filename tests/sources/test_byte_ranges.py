"""Byte ranges: every line is in exactly one range, wherever the file is cut."""

from __future__ import annotations

import pickle
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redismr.errors import ConfigError
from redismr.sources import as_source, lines, text
from redismr.sources.file_functions import parse_size

line_pieces = st.lists(
    st.sampled_from(
        ["\n", "\r\n", "\r", "a", "bc", "é", "\u2028", "\x85", "x" * 30, "\ufeff", "𝄞"]
    ),
    max_size=40,
)


def splits_of(source):
    return list(as_source(source).splits())


def read(source):
    return [pair for split in splits_of(source) for pair in split.read()]


def expected_lines(content: str) -> list[str]:
    parts = content.split("\n")
    if not parts[-1]:
        parts.pop()
        ended = len(parts)
    else:
        ended = len(parts) - 1
    return [p.removesuffix("\r") if n < ended else p for n, p in enumerate(parts)]


@pytest.fixture(scope="module")
def scratch():
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "f"


@given(content=line_pieces, split=st.integers(1, 80))
def test_blocks_put_together_are_the_file(scratch, content, split):
    data = "".join(content)
    scratch.write_bytes(data.encode())
    blocks = read(text(scratch, split=split))
    assert "".join(block for _, block in blocks) == data
    assert all(block.endswith("\n") for _, block in blocks[:-1])
    for where, block in blocks:
        assert data.encode()[where.offset :].startswith(block.encode())
        assert where.line == 1 + data.encode()[: where.offset].count(b"\n")


@given(content=line_pieces, split=st.integers(1, 80))
def test_every_line_is_read_once_and_knows_its_place(scratch, content, split):
    data = "".join(content)
    scratch.write_bytes(data.encode())
    found = read(lines(scratch, split=split))
    assert [line for _, line in found] == expected_lines(data)
    assert [where.line for where, _ in found] == list(range(1, len(found) + 1))
    for where, line in found:
        assert where == str(scratch)
        assert data.encode()[where.offset :].startswith(line.encode())
        assert where.offset == 0 or data.encode()[where.offset - 1] == ord("\n")


@given(content=line_pieces, split=st.integers(1, 80))
def test_encodings_with_wide_newlines_are_read_whole(scratch, content, split):
    data = "".join(content)
    scratch.write_bytes(data.encode("utf-16"))
    assert [line for _, line in read(lines(scratch, split, encoding="utf-16"))] == expected_lines(
        data
    )
    assert "".join(b for _, b in read(text(scratch, split, encoding="utf-16"))) == data
    assert len(splits_of(lines(scratch, split, encoding="utf-16"))) == 1
    for n, (where, _) in enumerate(read(lines(scratch, split, encoding="utf-16")), 1):
        copy = pickle.loads(pickle.dumps(where, 5))
        assert (where.line, where.offset, copy.line, copy.offset) == (n, None, n, None)


@pytest.mark.parametrize(
    ("encoding", "whole"),
    [
        ("utf-8", False), ("utf-8-sig", False), ("latin-1", False), ("cp1252", False),
        ("shift_jis", False), ("gb18030", False), ("ascii", False),
        ("utf-16", True), ("utf-16-le", True), ("utf-32", True), ("cp037", True), ("utf-7", True),
        ("iso2022_jp", True),
    ],
)  # fmt: skip
def test_only_encodings_with_plain_newlines_are_cut(tmp_path, encoding, whole):
    path = tmp_path / "f"
    path.write_bytes("one\ntwo\nthree\n".encode(encoding))
    source = lines(path, split=4, encoding=encoding)
    assert source.format.can_be_cut is not whole
    assert len({byte_range for split in splits_of(source) for byte_range in split.byte_ranges}) == (
        1 if whole else -(-path.stat().st_size // 4)
    )
    assert [line for _, line in read(source)] == ["one", "two", "three"]


def test_a_byte_order_mark_is_dropped_on_request(tmp_path):
    path = tmp_path / "f"
    path.write_bytes("\ufeffone\n\ufefftwo\n".encode())
    found = read(lines(path, split=5, encoding="utf-8-sig"))
    assert [line for _, line in found] == ["one", "\ufefftwo"]
    assert found[1][0].offset == 7


def test_a_bad_byte_is_named_by_its_place_in_the_file(tmp_path):
    from redismr.errors import SourceError

    path = tmp_path / "f"
    path.write_bytes(b"fine\n" * 50_000 + b"caf\xe9\n" + b"fine\n" * 50_000)
    with pytest.raises(SourceError, match="line 50001, byte 250003: not utf-8 "):
        read(lines(path, split="100kB"))


def test_an_empty_file_has_no_splits(tmp_path):
    (tmp_path / "f").write_bytes(b"")
    assert splits_of(lines(tmp_path / "f")) == splits_of(text(tmp_path / "f")) == []


def test_one_line_longer_than_many_splits_belongs_to_the_first(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"x" * 300_000 + b"\nend")
    splits = splits_of(lines(path, split="50kB"))
    counts = [len(list(split.read())) for split in splits]
    assert len(splits) == 6
    assert counts[0] == 1
    assert sum(counts) == 2


def test_splits_are_equal_and_few_bytes_are_cut_finer_than_asked(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"0123456\n" * (5 << 17))  # 5 MiB
    assert [s.byte_ranges[0].size for s in splits_of(text(path))] == [1 << 20] * 5
    assert [s.byte_ranges[0].size for s in splits_of(text(path, split="3MB"))] == [1 << 20] * 5
    assert len(splits_of(text(path, split=None))) == 1
    assert len(read(text(path, split=None))) == 1
    assert (
        len(
            {
                byte_range
                for s in splits_of(text(path, split=700_000))
                for byte_range in s.byte_ranges
            }
        )
        == 8
    )


def test_small_files_are_packed_and_cut_the_same(tmp_path):
    for n in range(200):
        (tmp_path / f"{n:03}").write_text(f"a{n}\nb{n}\n")
    splits = splits_of(lines(tmp_path / "*"))
    assert len(splits) < 120
    assert len([1 for split in splits for _ in split.read()]) == 400
    last = splits[-1]
    assert len(last.byte_ranges) > 1
    name = last.byte_ranges[1].file.name
    assert last.where(3) == f"record 2 of {name} (line 2, byte 5)"


def test_where_equals_the_path_and_can_be_pickled(tmp_path):
    path = tmp_path / "f"
    path.write_text("one\ntwo\nthree\nfour\n")
    found = read(lines(path, split=9))
    for where, _ in found:
        copy = pickle.loads(pickle.dumps(where, 5))
        assert copy == where == str(path)
        assert hash(copy) == hash(str(path))
        assert (copy.offset, copy.line) == (where.offset, where.line)
        assert where.index("f") == str(path).index("f")
    many = [where for where, _ in found]
    assert len(pickle.dumps(many * 1000, 5)) < 1000 * len(many) * 3 + 2000


def test_records_are_named_in_words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("f").write_text("".join(f"line {n}\n" for n in range(1000)))
    (whole,) = splits_of(lines("f"))
    assert whole.source == "f"
    assert whole.where(500) == "record 501 of f (line 501, byte 4390)"
    second = splits_of(lines("f", split=5000))[1]
    assert second.source == "f bytes 4445-8890"
    first_line = next(second.read())[0].line
    assert second.where(2).startswith(
        f"record 3 of f bytes 4445-8890 (line {first_line + 2}, byte 4"
    )
    (blocks,) = splits_of(text("f"))
    assert blocks.where(0) == (
        "record 1 of f (line 1, byte 0), a block; with lines() each line is a record"
    )
    assert whole.where(-1) == "f"
    assert whole.where(10**6) == "record 1000001 of f"
    Path("f").unlink()
    assert whole.where(500) == "record 501 of f"


@pytest.mark.parametrize(
    ("given", "bytes_"),
    [("16MB", 16 << 20), ("1kB", 1024), ("1.5 GiB", 3 << 29), (7, 7), ("7", 7), (None, None)],
)
def test_sizes_are_parsed(given, bytes_):
    assert parse_size(given) == bytes_


@pytest.mark.parametrize(
    "size", [0, -1, "0", "big", "MB", True, 1e3 - 0.5, "0.1", "9" * 400, 10**400, b"1"]
)
def test_a_bad_size_is_refused(size):
    with pytest.raises(ConfigError, match="is not a size"):
        lines("*", split=size)
