"""A plain terminal of 80 columns for all tests of the screens."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch):
    """Set the variables of a terminal without colours; no notebook is imported."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
