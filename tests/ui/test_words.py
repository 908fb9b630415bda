"""Numbers and text as people read them."""

from __future__ import annotations

import doctest

import pytest

from redismr.core import words as core_words
from redismr.core import work
from redismr.ui import clean, output, words


@pytest.mark.parametrize("module", [clean, output, words, core_words, work])
def test_docs_are_true(module):
    tried = doctest.testmod(module)
    assert tried.attempted
    assert not tried.failed


@pytest.mark.parametrize(
    "text",
    ["\x1b[2J", "\x9b31m", "a\u202eb", "a\x00b", "a\x7fb", "\u2028", "\ud800", "\x1b]0;title\x07"],
)
def test_nothing_unprintable_is_left(text):
    assert clean.clean(text).isprintable()


def test_clean_makes_one_line_and_clean_lines_keeps_them():
    assert clean.clean("a\nb\tc") == "a b c"
    assert clean.clean_lines("a\x1b\nb") == "a\nb"


def test_clean_cuts():
    assert clean.clean("abcdef", limit=4) == "abc…"
    assert clean.clean(12) == "12"
