"""Whole files: which files match, what their records are, and every error of reading one."""

from __future__ import annotations

import bz2
import codecs
import glob
import gzip
import lzma
import os
import pickle
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redismr.errors import BadInput, ConfigError, SourceChanged, SourceError
from redismr.sources import as_source, csv, files, jsonl, lines, text
from redismr.sources.glob_matches import match_glob
from redismr.sources.input_files import find_files
from redismr.sources.protocol import amount_of, expected_amount_of, unit_of

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


def test_links_into_their_own_folders_are_walked_once(folder):
    for name in ("loop", "deep/up", "deep/er/upper"):
        (folder / name).symlink_to(folder)
    (folder / "self").symlink_to("self")
    assert names("**/*.txt") == ["a.txt", "b.txt", "deep/c.txt", "deep/er/d.txt"]
    assert names("loop/**/*.txt") == [f"loop/{name}" for name in names("**/*.txt")]
    assert names(files(["loop/*.txt", "deep/up/deep/*.txt", "**/*.txt"])) == names("**/*.txt")


def test_links_to_folders_elsewhere_are_followed(folder):
    (folder / "in").mkdir()
    (folder / "in/there").symlink_to("../deep")
    assert names("in/**/*.txt") == ["in/there/c.txt", "in/there/er/d.txt"]
    assert names("**/there/*.txt") == ["in/there/c.txt"]


def test_a_file_that_also_matches_through_a_link_is_read_once(folder):
    (folder / "0.txt").symlink_to("b.txt")
    (folder / "z.txt").symlink_to("0.txt")
    (folder / "elsewhere.txt").symlink_to("deep/c.txt")
    assert names("*.txt") == ["a.txt", "b.txt", "elsewhere.txt"]
    assert names("[0z].txt") == ["0.txt"]
    assert names(files(["z.txt", "0.txt"])) == ["z.txt"]
    assert names(files(["elsewhere.txt", "deep/*.txt"])) == ["deep/c.txt"]


def test_hard_links_are_separate_files(folder):
    os.link("a.txt", "hard.txt")
    (folder / "soft.txt").symlink_to("hard.txt")
    assert names("*.txt") == ["a.txt", "b.txt", "hard.txt"]


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_without_links_globs_match_as_pythons_do(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("tree")
    part = st.sampled_from(["a", "b", ".h", "a[b"])
    for path in data.draw(st.lists(st.lists(part, min_size=1, max_size=4), max_size=8)):
        (root.joinpath(*path)).mkdir(parents=True, exist_ok=True)
        (root.joinpath(*path) / "f.txt").write_text("")
    pattern = data.draw(
        st.lists(st.sampled_from(["**", "a", "*", "[ab]", "f.txt", ".h"]), min_size=1, max_size=4)
    )
    pattern = os.path.join(root, *pattern)
    expected = {path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path)}
    assert [path for path in match_glob(pattern) if os.path.isfile(path)] == sorted(expected)


def test_an_unreadable_folder_is_refused(folder, monkeypatch):
    real = os.scandir

    def scandir(path):
        if path == "deep/er/":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(SourceError, match="folder 'deep/er/': Permission denied"):
        names("**/*.txt")


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
    with pytest.raises(SourceError, match=r"cannot read the status of the input file 'z.txt'"):
        as_source("*.txt")


def test_a_pipe_is_refused(folder):
    os.mkfifo(folder / "pipe")
    with pytest.raises(SourceError, match="not a regular file"):
        as_source("pipe")


@pytest.mark.parametrize(
    "source", [files("*"), files("*", ship=True), lines("*", split=7), text("**/*.txt", split=None)]
)
def test_splits_add_up_to_what_lies_on_disk(folder, source):
    (folder / "a.gz").write_bytes(gzip.compress(b"packed " * 99))
    source = as_source(source)
    assert sum(map(amount_of, splits_of(source))) == expected_amount_of(source) == source.size > 0
    assert unit_of(source) == "bytes"


def test_size_is_known_and_the_source_can_be_used_again(folder):
    source = files("*.txt")
    first = as_source(source)
    assert first.size == 2 * len("I am a.txt")
    assert first.rereadable
    assert list(first.splits()) == list(first.splits())
    (folder / "c.txt").write_text("new")
    assert len(list(first.splits())) == 2, "one job sees one listing"
    assert len(list(as_source(source).splits())) == 3, "the next job looks again"


def test_newlines_are_unchanged_and_binary_gives_bytes(folder):
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
    with pytest.raises(BadInput, match=rf"{path}.*not a whole \.{suffix} file"):
        records(files(path, binary=True))
    path.write_bytes(b"this was never compressed")
    with pytest.raises(BadInput, match=rf"{path}.*not a whole \.{suffix} file"):
        records(files(path, binary=True))


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize("read", [files, text, lines])
def test_a_compressed_file_cut_anywhere_is_refused_by_name(folder, suffix, read):
    path = folder / f"f.{suffix}"
    whole = PACKERS[suffix](b"a line\n" * 30)
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(BadInput, match=rf"{path}.*not a whole \.{suffix} file"):
            records(read(path))
        with pytest.raises(BadInput, match=rf"{path}.*not a whole \.{suffix} file"):
            list(as_source(files(path, ship=True)).splits())


@pytest.mark.parametrize("suffix", PACKERS)
def test_concatenated_compressed_files_are_read_whole(folder, suffix):
    path = folder / f"f.{suffix}"
    parts = [PACKERS[suffix](part) for part in (b"one\n", b"", b"two\n")]
    path.write_bytes(b"".join(parts))
    assert records(path) == [(str(path), "one\ntwo\n")]
    for size in range(1, len(parts[2])):
        path.write_bytes(b"".join(parts)[:-size])
        with pytest.raises(BadInput, match=f"{path}.*not a whole"):
            records(path)


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize("after", [b"\n", b"garbage", b"\0\0\0", b"\0\0\0\0", b"\0\0\0\0x"])
def test_bytes_after_compressed_data_are_padding_or_refused(folder, suffix, after):
    path = folder / f"f.{suffix}"
    path.write_bytes(PACKERS[suffix](b"data") + after)
    allowed = {"gz": {b"\0\0\0", b"\0\0\0\0"}, "xz": {b"\0\0\0\0"}}
    if after in allowed.get(suffix, ()):
        assert records(path) == [(str(path), "data")]
        path.write_bytes(path.read_bytes() + PACKERS[suffix](b" and more"))
        assert records(path) == [(str(path), "data and more")]
    else:
        with pytest.raises(BadInput, match=f"{path}.*not a whole"):
            records(path)


@pytest.mark.parametrize("suffix", PACKERS)
@given(
    sizes=st.lists(st.integers(0, 200_000), min_size=1, max_size=3), asked=st.integers(1, 99_999)
)
@settings(max_examples=15, deadline=None)
def test_a_compressed_file_gives_its_bytes_in_any_steps(tmp_path_factory, suffix, sizes, asked):
    path = tmp_path_factory.mktemp("packed") / f"f.{suffix}"
    parts = [bytes(size // 2) + os.urandom(size - size // 2) for size in sizes]
    path.write_bytes(b"".join(map(PACKERS[suffix], parts)))
    (file,) = find_files(path)
    with file.open_checked() as stream:
        assert b"".join(iter(lambda: stream.read(asked), b"")) == b"".join(parts)


@given(
    before=st.lists(st.text("aé\n", max_size=40)).map("".join),
    after=st.text("b\n", max_size=40),
    repeated=st.integers(1, 3000),
    read=st.sampled_from([files, text, lines, jsonl, csv]),
    packed=st.booleans(),
    split=st.sampled_from([1000, 20_000, None]),
)
@settings(max_examples=40, deadline=None)
def test_the_place_of_a_bad_byte_is_exact(
    tmp_path_factory, before, after, repeated, read, packed, split
):
    head = (
        (before * repeated).encode()[:50_000] if read in (text, lines, files) else b"\n" * repeated
    )
    head = head.decode(errors="ignore").encode()
    path = tmp_path_factory.getbasetemp() / ("place.gz" if packed else "place")
    content = head + b"\xff" + after.encode()
    path.write_bytes(gzip.compress(content) if packed else content)
    unpacked = " of its unpacked contents" if packed else ""
    place = f"{path}, line {1 + head.count(10)}, byte {len(head)}{unpacked}: not utf-8 (ff hex: "
    with pytest.raises(BadInput, match=re.escape(place)) as info:
        records(read(path) if read is files else read(path, split=split))
    assert info.value.__cause__ is None, "its own message would name another place"


@pytest.mark.parametrize("read", [files, text, lines])
def test_the_place_of_a_bad_byte_is_exact_in_wide_encodings(folder, read):
    (folder / "u.txt").write_bytes("one\ntwo\n".encode("utf-16") + b"\x00\xd8\n\x00")
    with pytest.raises(BadInput, match=r"u\.txt, line 3, byte 18: not utf-16"):
        records(read("u.txt", encoding="utf-16"))


def test_codecs_that_know_no_place_and_handlers_that_workers_lack_are_named(folder):
    (folder / "l.txt").write_bytes(b"+AA!")  # from Python 3.14 on punycode knows its place
    with pytest.raises(BadInput, match=r"/l\.txt.*: not punycode.*right encoding="):
        records(files("l.txt", encoding="punycode"))
    (folder / "l.txt").write_bytes(b"\xff")
    codecs.register_error("ours", codecs.replace_errors)
    source = files("l.txt", errors="ours")
    object.__setattr__(source.format.encoding, "errors", "theirs")  # as on a worker without it
    with pytest.raises(SourceError, match=r"cannot decode .*/l\.txt on .*initfn") as info:
        records(source)
    assert not isinstance(info.value, BadInput), "another worker may have it"


def test_an_error_that_a_retry_may_cure_is_no_bad_input(folder, monkeypatch):
    (folder / "l.txt.gz").write_bytes(gzip.compress(b"text"))
    for error in (OSError(5, "Input/output error"), MemoryError()):
        with pytest.raises(SourceError, match=r"reading .*/l\.txt\.gz") as info:
            for file in find_files("l.txt.gz"):
                with file.open_checked():
                    raise error
        assert not isinstance(info.value, BadInput)


def test_a_cut_file_is_named_with_the_byte_of_its_contents(folder):
    (folder / "l.gz").write_bytes(gzip.compress(b"ab\n" * 1000)[:-8])
    with pytest.raises(BadInput, match=r"l\.gz, byte 3000 of its unpacked contents: the data ends"):
        records(lines("l.gz"))


def test_bytes_that_are_not_text_are_an_error_with_their_place(folder):
    (folder / "l.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(
        SourceError, match=r"l\.txt, line 1, byte 3: not utf-8 \(e9 hex: .*encoding="
    ):
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
    (byte_range,) = split.byte_ranges
    elsewhere = replace(byte_range, file=replace(byte_range.file, host="another-host"))
    assert list(replace(split, byte_ranges=(elsewhere,)).read()) == [("a.txt", "I am a.txt")]


def test_a_file_that_changes_while_it_is_read_is_an_error(folder):
    (folder / "n.txt").write_text("line\n" * 100_000)
    (split,) = splits_of(lines("n.txt"))
    reading = split.read()
    next(reading)
    with (folder / "n.txt").open("a") as file:
        file.write("more\n")
    with pytest.raises(SourceChanged):
        list(reading)


@pytest.mark.parametrize("suffix", ["txt", *PACKERS])
@pytest.mark.parametrize("size", [3, 99])
@pytest.mark.parametrize("read", [files, text, lines])
def test_a_file_that_shrinks_or_grows_or_is_replaced_is_an_error(folder, suffix, size, read):
    path, pack = folder / f"f.{suffix}", PACKERS.get(suffix, bytes)
    path.write_bytes(pack(b"a line\n" * 4))
    (split,), source = splits_of(read(path)), as_source(files(path, ship=True))
    path.write_bytes(pack(b"a line\n" * size))
    with pytest.raises(SourceChanged, match=str(path)):
        list(split.read())
    with pytest.raises(SourceChanged, match=str(path)):
        list(source.splits())
    (folder / "other").write_bytes(pack(b"b line\n" * 4))
    (folder / "other").replace(path)
    with pytest.raises(SourceChanged, match=str(path)):
        list(split.read())


@pytest.mark.parametrize("suffix", ["txt", *PACKERS])
def test_a_file_that_shrinks_while_it_is_read_is_an_error(folder, suffix):
    path = folder / f"n.{suffix}"
    path.write_bytes(PACKERS.get(suffix, bytes)(os.urandom(1 << 20)))
    (split,) = splits_of(lines(path, encoding="latin-1"))
    reading = split.read()
    next(reading)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(SourceChanged, match=str(path)):
        list(reading)


def test_a_file_rewritten_while_it_is_read_is_an_error_on_any_host(folder):
    path = folder / "n.txt"
    path.write_text("line\n" * 100_000)
    ((byte_range,),) = [split.byte_ranges for split in splits_of(lines(path))]
    split = replace(
        splits_of(lines(path))[0],
        byte_ranges=(replace(byte_range, file=replace(byte_range.file, host="b")),),
    )
    reading = split.read()
    next(reading)
    path.write_text("LINE\n" * 100_000)
    with pytest.raises(SourceChanged, match="written to while it was read"):
        list(reading)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda path: path.mkdir(), "Is a directory"),
        (os.mkfifo, "not a regular file any more"),
        (lambda path: path.symlink_to("/dev/zero"), "not a regular file any more"),
        (lambda path: path.symlink_to(path), "Too many levels"),
    ],
)
def test_a_pipe_or_folder_in_the_place_of_a_file_is_an_error(folder, make, error):
    (split,), source = splits_of("a.txt"), as_source(files("a.txt", ship=True))
    (folder / "a.txt").unlink()
    make(folder / "a.txt")
    with pytest.raises(SourceError, match=error):
        list(split.read())
    with pytest.raises(SourceError, match=error):
        list(source.splits())


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


def test_small_files_share_a_task_and_big_files_have_one_each(folder):
    for n in range(300):
        (folder / f"s{n:03}").write_text("x" * 100)
    small = splits_of("s*")
    assert 32 < len(small) < 150
    assert [name for split in small for name, _ in split.read()] == [f"s{n:03}" for n in range(300)]
    assert small[-1].source.startswith("s") and "more" in small[-1].source
    assert small[-1].where(0) == small[-1].byte_ranges[0].file.name
    for n in range(300, 340):
        (folder / f"s{n:03}").write_text("x" * 400_000)
    assert all(len(split.byte_ranges) <= 2 for split in splits_of("s3*"))
    assert [len(s.byte_ranges) for s in splits_of("s0*", chunk=40)] == [40, 40, 20]


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


def test_an_unreadable_shipped_file_is_an_error_of_the_submitter(folder):
    (folder / "l.txt").write_bytes(b"\xff")
    with pytest.raises(SourceError, match="line 1, byte 0: not utf-8"):
        list(as_source(files("l.txt", ship=True)).splits())


def test_chunk_does_not_apply_to_sources_cut_by_bytes(folder):
    with pytest.raises(ConfigError, match="split="):
        as_source(lines("a.txt"), chunk=5)


@pytest.mark.parametrize("kind", [files, text, lines, jsonl, csv])
@pytest.mark.parametrize("more", [["b.log"], ["b.log", "c.log"], [Path("b.log")]])
def test_several_files_go_into_a_list(kind, more):
    with pytest.raises(ConfigError) as caught:
        kind("a.log", *more)
    paths = ["a.log", *map(str, more)]
    assert f"for several pass a list: {kind.__name__}({paths})" in str(caught.value)


@pytest.mark.parametrize("kind", [files, text, lines, jsonl, csv])
@pytest.mark.parametrize("glob", [5, None, b"a.log", ["a.log", 5], "a\0b", "\ud800", [b"a.log"]])
def test_an_impossible_path_is_refused_at_once(kind, glob):
    with pytest.raises(ConfigError, match=r"path or glob|cannot be a file name"):
        kind(glob)


@pytest.mark.parametrize(
    "options",
    [
        {"encoding": 5},
        {"encoding": "\ud800"},
        {"encoding": "a\0"},
        {"errors": None},
        {"ship": "no"},
        {"binary": 1},
        {"binary": True, "encoding": "latin-1"},
    ],
)
def test_options_of_files_are_refused_by_name(options):
    with pytest.raises(ConfigError, match=f"{next(iter(options))}="):
        files("*", **options)
