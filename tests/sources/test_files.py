"""Whole files: which ones, as what, and every way in which one cannot be read."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import pickle
import sys
from dataclasses import replace

import pytest

from redismr.errors import ConfigError, SourceChanged, SourceError
from redismr.sources import as_source, csv, files, jsonl, lines, text

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PACKERS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstd.compress}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.txt", "a.txt", "deep/c.txt", "deep/er/d.txt", "e.md"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"I am {name}")
    return tmp_path


def splits_of(source, chunk=None):
    return [pickle.loads(pickle.dumps(s, 5)) for s in as_source(source, chunk=chunk).splits()]


def records(source, chunk=None):
    return [pair for split in splits_of(source, chunk) for pair in split.read()]


def names(source):
    return [name for name, _ in records(source)]


def test_globs_are_sorted_and_names_are_as_the_glob_gives_them(folder):
    assert records("*.txt") == [("a.txt", "I am a.txt"), ("b.txt", "I am b.txt")]
    assert names("./*.txt") == ["./a.txt", "./b.txt"]
    assert names(folder / "*.txt") == [str(folder / "a.txt"), str(folder / "b.txt")]


def test_two_stars_recurse_and_directories_are_skipped(folder):
    assert names("**/*.txt") == ["a.txt", "b.txt", "deep/c.txt", "deep/er/d.txt"]
    assert names("*") == ["a.txt", "b.txt", "e.md"]
    assert len(names("**")) == 5


def test_lists_keep_their_order_and_duplicates_are_read_once(folder):
    assert names(files(["e.md", "*.txt", "deep/../a.txt", folder / "b.txt"])) == [
        "e.md",
        "a.txt",
        "b.txt",
    ]
    assert names(files(path for path in ["b.txt", "a.txt"])) == ["b.txt", "a.txt"]
    assert records(files([])) == []


def test_a_path_that_exists_is_no_glob(folder):
    (folder / "x[1].txt").write_text("brackets")
    assert records("x[1].txt") == [("x[1].txt", "brackets")]


@pytest.mark.parametrize("make", [files, text, lines, jsonl, csv])
def test_no_match_is_an_error_before_anything_starts(folder, make):
    with pytest.raises(SourceError, match=r"no file matches 'nope/\*'") as info:
        as_source(make(["a.txt", "nope/*"]))
    assert str(folder) in str(info.value)
    with pytest.raises(SourceError):
        make("nope/*").splits()


def test_a_directory_alone_is_an_error_that_says_how(folder):
    with pytest.raises(SourceError, match=r"'deep' matches directories only.*'deep/\*\*'"):
        as_source("deep")


def test_a_link_to_nowhere_is_an_error(folder):
    (folder / "z.txt").symlink_to("gone")
    with pytest.raises(SourceError, match=r"cannot look at the input file 'z.txt'"):
        as_source("*.txt")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in the file system")
def test_a_pipe_is_refused(folder):
    os.mkfifo(folder / "pipe")
    with pytest.raises(SourceError, match="not a regular file"):
        as_source("pipe")


def test_size_is_known_and_the_source_can_be_used_again(folder):
    source = files("*.txt")
    first = as_source(source)
    assert first.size == 2 * len("I am a.txt")
    assert first.rereadable
    assert list(first.splits()) == list(first.splits())
    (folder / "c.txt").write_text("new")
    assert len(list(first.splits())) == 2, "one job sees one listing"
    assert len(list(as_source(source).splits())) == 3, "the next job looks again"


def test_newlines_are_as_they_are_and_bytes_are_bytes(folder):
    (folder / "w.txt").write_bytes(b"a\r\nb\rc\n")
    assert records("w.txt") == [("w.txt", "a\r\nb\rc\n")]
    assert records(files("w.txt", binary=True)) == [("w.txt", b"a\r\nb\rc\n")]


def test_an_empty_file_is_a_record(folder):
    (folder / "empty").write_bytes(b"")
    assert records("empty") == [("empty", "")]


@pytest.mark.parametrize("suffix", PACKERS)
def test_compressed_files_are_unpacked(folder, suffix):
    content = "grün\n" * 50_000
    (folder / f"f.{suffix}").write_bytes(PACKERS[suffix](content.encode()))
    assert records(f"f.{suffix}") == [(f"f.{suffix}", content)]
    assert [line for _, line in records(lines(f"f.{suffix}", split=10))] == ["grün"] * 50_000
    assert "".join(block for _, block in records(text(f"f.{suffix}", split=1000))) == content
    assert len(splits_of(lines(f"f.{suffix}", split=10))) == 1


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_damaged_compressed_file_is_an_error(folder, suffix):
    path = folder / f"f.{suffix}"
    path.write_bytes(PACKERS[suffix](os.urandom(5000))[:-2500])
    with pytest.raises(SourceError, match=rf"{path}.*not a whole \.{suffix} file"):
        records(files(path, binary=True))
    path.write_bytes(b"this was never compressed")
    with pytest.raises(SourceError, match=rf"{path}.*not a whole \.{suffix} file"):
        records(files(path, binary=True))


def test_bytes_that_are_not_text_are_an_error_with_their_place(folder):
    (folder / "l.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(SourceError, match=r"l\.txt is not utf-8 at byte 3 \(e9 hex: .*encoding="):
        records("l.txt")
    assert records(files("l.txt", encoding="latin-1")) == [("l.txt", "café\n")]
    assert records(files("l.txt", errors="replace")) == [("l.txt", "caf\ufffd\n")]


@pytest.mark.parametrize(
    "options", [{"encoding": "utf-9"}, {"errors": "nope"}, {"encoding": "hex"}]
)
def test_an_unknown_encoding_is_refused_at_once(options):
    for make in (files, text, lines, jsonl, csv):
        with pytest.raises(ConfigError, match="encoding="):
            make("*", **options)


def test_a_file_of_another_size_is_not_read(folder):
    (split,) = splits_of("a.txt")
    (folder / "a.txt").write_text("longer than before")
    with pytest.raises(SourceChanged, match=r"a\.txt had 10 bytes .* and has 18 now"):
        list(split.read())


def test_a_file_written_to_on_this_host_is_not_read(folder):
    (split,) = splits_of("a.txt")
    os.utime(folder / "a.txt", ns=(1, 1))
    with pytest.raises(SourceChanged, match="was written to after"):
        list(split.read())
    (span,) = split.spans
    elsewhere = replace(span, file=replace(span.file, host="another-host"))
    assert list(replace(split, spans=(elsewhere,)).read()) == [("a.txt", "I am a.txt")]


def test_a_file_that_changes_while_it_is_read_is_an_error(folder):
    (folder / "n.txt").write_text("line\n" * 100_000)
    (split,) = splits_of(lines("n.txt"))
    reading = split.read()
    next(reading)
    with (folder / "n.txt").open("a") as file:
        file.write("more\n")
    with pytest.raises(SourceChanged):
        list(reading)


def test_a_missing_file_is_an_error_that_names_it(folder):
    (split,) = splits_of("a.txt")
    (folder / "a.txt").unlink()
    with pytest.raises(SourceError, match=rf"cannot open {folder}/a\.txt on .*ship=True"):
        list(split.read())
    assert split.where(0) == "a.txt"


def test_splits_find_their_files_from_any_directory(folder, monkeypatch):
    (split,) = splits_of("a.txt")
    monkeypatch.chdir("/")
    assert list(split.read()) == [("a.txt", "I am a.txt")]


def test_many_small_files_are_packed_and_big_ones_are_alone(folder):
    for n in range(300):
        (folder / f"s{n:03}").write_text("x" * 100)
    small = splits_of("s*")
    assert 32 < len(small) < 150
    assert [name for split in small for name, _ in split.read()] == [f"s{n:03}" for n in range(300)]
    assert small[-1].source.startswith("s") and "more" in small[-1].source
    assert small[-1].where(0) == small[-1].spans[0].file.name
    for n in range(300, 340):
        (folder / f"s{n:03}").write_text("x" * 400_000)
    assert all(len(split.spans) <= 2 for split in splits_of("s3*"))
    assert [len(s.spans) for s in splits_of("s0*", chunk=40)] == [40, 40, 20]


def test_splits_are_small(folder):
    assert len(pickle.dumps(splits_of("a.txt")[0], 5)) < 700
    assert len(pickle.dumps(splits_of(lines("a.txt"))[0], 5)) < 700


def test_shipped_files_need_no_disk_on_the_worker(folder):
    (folder / "z.txt").write_bytes(gzip.compress(b"packed"))
    os.rename("z.txt", "z.gz")
    splits = splits_of(files(["*.txt", "z.gz"], ship=True))
    for path in ("a.txt", "b.txt", "z.gz"):
        (folder / path).unlink()
    assert [pair for split in splits for pair in split.read()] == [
        ("a.txt", "I am a.txt"),
        ("b.txt", "I am b.txt"),
        ("z.gz", "packed"),
    ]
    assert splits[0].where(0) == splits[0].where(-1) == splits[0].source == "a.txt"


def test_what_cannot_be_shipped_is_an_error_of_the_submitter(folder):
    (folder / "l.txt").write_bytes(b"\xff")
    with pytest.raises(SourceError, match="not utf-8 at byte 0"):
        list(as_source(files("l.txt", ship=True)).splits())


def test_chunk_does_not_apply_to_sources_cut_by_bytes(folder):
    with pytest.raises(ConfigError, match="split="):
        as_source(lines("a.txt"), chunk=5)
