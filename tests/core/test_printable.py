"""Text from others is safe to show: no terminal codes, no secrets, bounded length."""

from __future__ import annotations

import doctest

import pytest

from redismr.core import printable
from redismr.core.printable import printable_line, printable_lines, printable_text, short_repr


def test_docs_are_true():
    outcome = doctest.testmod(printable)
    assert outcome.attempted
    assert not outcome.failed


@pytest.mark.parametrize(
    "text",
    ["\x1b[2J", "\x9b31m", "a\u202eb", "a\x00b", "a\x7fb", "\u2028", "\ud800", "\x1b]0;title\x07"],
)
@pytest.mark.parametrize("function", [printable_line, printable_lines, printable_text])
def test_no_unsafe_character_is_left(function, text):
    assert function(text).isprintable()


def test_a_line_loses_its_line_ends_and_several_lines_keep_theirs():
    assert printable_line("a\nb\tc\r") == "a b c "
    assert printable_line(12) == "12"
    assert printable_lines("a\x1b\nb\r\nc") == "a\nb\nc"


@pytest.mark.parametrize("text", ["mi\u200ckhaham", "\U0001f469\u200d\U0001f467", "co\u00adop"])
@pytest.mark.parametrize("function", [printable_line, printable_lines, printable_text])
def test_what_joins_letters_is_kept(function, text):
    """Persian words and emoji families hold these format characters."""
    assert function(text) == text


def test_a_surrogate_is_shown_as_an_escape():
    assert printable_line("a\ud800") == "a\\ud800"


def test_long_text_is_cut():
    assert printable_text("x" * 50, 10) == "x" * 7 + "..."


def test_the_repr_of_any_value_is_short():
    assert short_repr(("k", 1)) == "('k', 1)"
    for value in ("x" * 10**7, b"x" * 10**7, bytearray(10**7), [["y" * 1000] * 1000] * 1000):
        assert len(short_repr(value)) <= 120
    assert short_repr(b"abc") == "b'abc'"
