from __future__ import annotations

import pytest
from engine.in_memory import set_tiny_limits

from redismr import native


@pytest.fixture(params=["usual", "tiny"])
def buffer_limits(request, monkeypatch):
    """Run the test with the usual limits, and with flushes every few records."""
    set_tiny_limits(monkeypatch, request.param == "tiny")


@pytest.fixture(autouse=True, params=["native", "python"])
def implementation(request, monkeypatch):
    """Run each test with the C extension, if it was built, and without it."""
    if request.param == "python":
        monkeypatch.setattr(native, "IS_LOADED", False)
