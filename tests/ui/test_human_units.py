"""Numbers and text as people read them."""

from __future__ import annotations

import doctest

import pytest

from redismr.core import plurals, work_amount
from redismr.ui import human_units, result_lines


@pytest.mark.parametrize("module", [result_lines, human_units, plurals, work_amount])
def test_doctests(module):
    outcome = doctest.testmod(module)
    assert outcome.attempted
    assert not outcome.failed
