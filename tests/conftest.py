"""Fixtures for every room: real servers of each engine, empty before each test.

A test that takes ``server`` runs once per engine, but most of ``system`` on one of them (see
``--every-engine``), and fails if it leaves a key of ours behind that never expires. Valkey comes
with our dependencies; Redis is used too if it is in PATH. An engine that REDISMR_ENGINES names and
that is missing is a failure: continuous integration names both.
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

CHOSEN_ENGINES = tuple(os.environ.get("REDISMR_ENGINES", "").replace(",", " ").split()) or tuple(
    engine for engine in support.ENGINES if engine != "redis" or shutil.which("redis-server")
)

UNSTABLE_NAME = re.compile(r"set\(\{| at 0x[0-9a-f]+|<object ")
"""What a name made of a value may hold: members of a set, addresses."""

EVERY_ENGINE_MODULES = frozenset({
    "test_costs.py", "test_full.py", "test_listen.py", "test_refused.py", "test_servers.py",
    "test_trouble.py",
})  # fmt: skip
"""Of the tests of whole jobs those in which the server does something that is its own."""

# What a developer's shell says about servers and secrets must not reach a test.
for _name in list(os.environ):
    if _name == "REDIS_URL" or (_name.startswith("REDISMR_") and _name != "REDISMR_ENGINES"):
        del os.environ[_name]

# Nor that it started us in the background: then Ctrl-C is ignored, and children inherit that.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure() -> None:
    if unknown := set(CHOSEN_ENGINES) - set(support.ENGINES):
        raise pytest.UsageError(f"REDISMR_ENGINES: no such engine: {', '.join(sorted(unknown))}")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--every-engine", action="store_true", help="run whole jobs on each engine")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Processes that share the tests must name them alike: a set is shown in any order."""
    if moving := [item.nodeid for item in items if UNSTABLE_NAME.search(item.nodeid)]:
        raise pytest.UsageError(f"names of tests differ from process to process: {moving}")
    if not config.getoption("--every-engine"):
        names = {item.nodeid for item in items}
        elsewhere = [
            i
            for i in items
            if _name_on_chosen_engine(i) != i.nodeid and _name_on_chosen_engine(i) in names
        ]
        config.hook.pytest_deselected(items=elsewhere)
        items[:] = [item for item in items if item not in elsewhere]


def _name_on_chosen_engine(item: pytest.Item) -> str:
    """The name of the test on the engine whose turn it is.

    Most tests of whole jobs run on one of the engines only, told by their name: what differs
    between engines is tested on each of them in ``store``, and in the modules of
    EVERY_ENGINE_MODULES.
    """
    engine = getattr(item, "callspec", None) and item.callspec.params.get("engine")
    if not engine or item.path.parent.name != "system" or item.path.name in EVERY_ENGINE_MODULES:
        return item.nodeid
    test, _, params = item.nodeid.partition("[")
    before, after = re.split(rf"\b{engine}\b", params, maxsplit=1)
    turn = zlib.crc32(f"{test}[{before}{after}".encode()) % len(CHOSEN_ENGINES)
    return f"{test}[{before}{CHOSEN_ENGINES[turn]}{after}"


@pytest.fixture(autouse=True, scope="module")
def forget_secrets(monkeypatch_module: pytest.MonkeyPatch) -> None:
    """No secrets of other modules' tests are looked for: 64 of them in 11 MB take 5 s."""
    for name in ("_forms_by_word", "_private_words", "_bulk_forms", "_all_forms"):
        monkeypatch_module.setattr(confidential, name, type(getattr(confidential, name))())


@pytest.fixture(scope="module")
def monkeypatch_module() -> Iterator[pytest.MonkeyPatch]:
    """As pytest's own, until the end of the module."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield monkeypatch


@pytest.fixture(scope="session", params=CHOSEN_ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """The name of an engine: a test that takes it runs once with each."""
    return str(request.param)


@pytest.fixture(scope="session")
def engine_server(engine: str) -> Iterator[support.Server]:
    """One server per engine and pytest process; tests take ``server`` instead."""
    server = support.Server(engine)
    yield server
    server.close()


@pytest.fixture
def server(engine_server: support.Server) -> Iterator[support.Server]:
    """An empty real server on a unix socket; see ``support.Server``."""
    yield engine_server
    engine_server.ensure_running()
    immortal = engine_server.keys_without_ttl()
    engine_server.reset()
    assert not immortal, f"keys without TTL were left behind: {immortal}"


@pytest.fixture(scope="session")
def eventually() -> Callable[..., Any]:
    """``support.eventually`` for those who do not import it."""
    return support.eventually
