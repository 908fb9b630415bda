"""Fixtures for every room: real servers of each kind (Valkey, Redis), empty before each test.

A test that takes ``server`` runs once for each kind of server; most tests of ``system`` run on one
kind only (see ``--every-engine``). The test fails if it leaves a key of redismr that never expires.
Valkey is a dependency of redismr; Redis is used too if it is in PATH. A kind that REDISMR_ENGINES
names must be there: continuous integration names both.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import threading
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # For `from support import ...`.

import support

from redismr import confidential

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_NAMED_KINDS = tuple(os.environ.get("REDISMR_ENGINES", "").replace(",", " ").split())
CHOSEN_SERVER_KINDS = _NAMED_KINDS or tuple(
    kind for kind in support.SERVER_KINDS if kind != "redis" or shutil.which("redis-server")
)

UNSTABLE_NAME = re.compile(r"set\(\{| at 0x[0-9a-f]+|<object ")
"""Parts of a test's name that differ from process to process: members of a set, addresses."""

EVERY_SERVER_KIND_MODULES = frozenset({
    "test_costs.py", "test_full.py", "test_listen.py", "test_refused.py", "test_servers.py",
    "test_trouble.py",
})  # fmt: skip
"""Tests of whole jobs that run on each kind, because kinds may behave differently there."""

# Servers and secrets of a developer's shell must not reach a test.
_KEPT_SETTINGS = ("REDISMR_ENGINES", "REDISMR_NATIVE")
for _name in list(os.environ):
    if _name == "REDIS_URL" or (_name.startswith("REDISMR_") and _name not in _KEPT_SETTINGS):
        del os.environ[_name]

# A shell that starts pytest in the background makes it, and its children, ignore Ctrl-C.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure() -> None:
    if unknown := set(CHOSEN_SERVER_KINDS) - set(support.SERVER_KINDS):
        raise pytest.UsageError(f"REDISMR_ENGINES: no such server: {', '.join(sorted(unknown))}")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--every-engine", action="store_true", help="run whole jobs on each server")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse names that differ between the processes that share the tests; choose a server kind."""
    if moving := [item.nodeid for item in items if UNSTABLE_NAME.search(item.nodeid)]:
        raise pytest.UsageError(f"names of tests differ from process to process: {moving}")
    if not config.getoption("--every-engine"):
        names = {item.nodeid for item in items}
        left_out = [
            item
            for item in items
            if (chosen := _name_on_chosen_server_kind(item)) != item.nodeid and chosen in names
        ]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def _name_on_chosen_server_kind(item: pytest.Item) -> str:
    """Return the name that a test has on the kind of server chosen for it.

    Most tests of whole jobs run on one kind only, chosen by a hash of the test's name. Differences
    between the kinds are tested in ``store`` and in EVERY_SERVER_KIND_MODULES.
    """
    server_kind = getattr(item, "callspec", None) and item.callspec.params.get("server_kind")
    is_whole_job = item.path.parent.name == "system"
    if not server_kind or not is_whole_job or item.path.name in EVERY_SERVER_KIND_MODULES:
        return item.nodeid
    test, _, params = item.nodeid.partition("[")
    before, after = re.split(rf"\b{server_kind}\b", params, maxsplit=1)
    turn = zlib.crc32(f"{test}[{before}{after}".encode()) % len(CHOSEN_SERVER_KINDS)
    return f"{test}[{before}{CHOSEN_SERVER_KINDS[turn]}{after}"


@pytest.fixture(autouse=True, scope="module")
def forget_secrets(monkeypatch_module: pytest.MonkeyPatch) -> None:
    """Forget the secrets of other modules' tests: a search for 64 of them in 11 MB takes 5 s."""
    for name in ("_forms_by_word", "_private_words", "_bulk_forms", "_all_forms"):
        monkeypatch_module.setattr(confidential, name, type(getattr(confidential, name))())


@pytest.fixture(scope="module")
def monkeypatch_module() -> Iterator[pytest.MonkeyPatch]:
    """Return pytest's ``monkeypatch`` with the scope of a module."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield monkeypatch


@pytest.fixture(scope="session", params=CHOSEN_SERVER_KINDS)
def server_kind(request: pytest.FixtureRequest) -> str:
    """Return "valkey" or "redis": a test that takes it runs once with each."""
    return str(request.param)


@pytest.fixture(scope="session")
def session_server(server_kind: str) -> Iterator[support.Server]:
    """Return one server per kind and pytest process; tests take ``server`` instead."""
    server = support.Server(server_kind)
    yield server
    server.close()


@pytest.fixture
def server(session_server: support.Server) -> Iterator[support.Server]:
    """Return an empty real server on a unix socket; see ``support.Server``."""
    yield session_server
    session_server.ensure_running()
    left_keys = session_server.keys_without_ttl()
    session_server.reset()
    assert not left_keys, f"keys without TTL were left behind: {left_keys}"


@pytest.fixture(scope="session")
def eventually() -> Callable[..., Any]:
    """Return ``support.eventually`` for tests that cannot import it."""
    return support.eventually
