"""The tests of the C extension need it; with REDISMR_NATIVE=0 there is nothing to test."""

from __future__ import annotations

import os

collect_ignore_glob = ["test_*.py"] if os.environ.get("REDISMR_NATIVE") == "0" else []
