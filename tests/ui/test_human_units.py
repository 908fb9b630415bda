"""Numbers and text as people read them."""

from __future__ import annotations

import doctest

import pytest

from redismr.core import plurals, work_amount
from redismr.ui import human_units, result_lines, terminal_text


@pytest.mark.parametrize("module", [terminal_text, result_lines, human_units, plurals, work_amount])
def test_docs_are_true(module):
    outcome = doctest.testmod(module)
    assert outcome.attempted
    assert not outcome.failed


@pytest.mark.parametrize(
    "text",
    ["\x1b[2J", "\x9b31m", "a\u202eb", "a\x00b", "a\x7fb", "\u2028", "\ud800", "\x1b]0;title\x07"],
)
def test_nothing_unprintable_is_left(text):
    assert terminal_text.printable_line(text).isprintable()


def test_clean_makes_one_line_and_clean_lines_keeps_them():
    assert terminal_text.printable_line("a\nb\tc") == "a b c"
    assert terminal_text.printable_lines("a\x1b\nb") == "a\nb"


def test_clean_cuts():
    assert terminal_text.printable_line("abcdef", limit=4) == "abc…"
    assert terminal_text.printable_line(12) == "12"
