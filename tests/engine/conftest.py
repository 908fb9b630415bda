from __future__ import annotations

import pytest
from engine.in_memory import set_tiny_limits


@pytest.fixture(params=["usual", "tiny"])
def buffer_limits(request, monkeypatch):
    """Run the test with the usual limits, and with flushes every few records."""
    set_tiny_limits(monkeypatch, request.param == "tiny")
