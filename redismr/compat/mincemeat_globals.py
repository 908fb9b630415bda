"""The initfn of a job: it gives user functions the global names that mincemeat.py gave them.

mincemeat.py ran the code of user functions among its own globals, so programs use modules
(``hashlib``) and classes (``Server``) that they never import. This module stands above all whose
names it hands out; ``Server`` gets the initfn through ``Server.initfn_class``.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import importlib
import logging
import os
import sys
from collections.abc import Iterable, Mapping
from types import FunctionType
from typing import Any

from redismr.compat.doorway import global_names
from redismr.compat.worker_functions import LOG_LEVEL_VARIABLE, WorkerFunction

_MODULE_NAMES = frozenset(
    "argparse asynchat asyncore binascii collections hashlib hmac logging marshal optparse os "  # noqa: SIM905
    "pickle random select socket sys threading time timeit traceback types".split()
)
_MINCEMEAT_NAMES = frozenset(
    (
        "Client",
        "DEFAULT_PORT",
        "Protocol",
        "Server",
        "ServerChannel",
        "TaskManager",
        "VERSION",
        "run_client",
    )
)
"""The keys of ``_names_of_mincemeat()``, whose imports take an executor 13 ms."""


class MincemeatGlobals:
    """Sets names that the code of user functions uses and that their own globals lack.

    Names are set on the worker only.
    """

    def __init__(self, functions: Iterable[object]) -> None:
        self.functions = [function for function in functions if function]

    def __call__(self) -> None:
        """Set the names, the log level, and a last entry of ``sys.path``: the working directory.

        Modules beside the worker can be imported through that entry.
        """
        if level := os.environ.get(LOG_LEVEL_VARIABLE):  # as if in the client's own process
            logging.basicConfig(level=int(level))
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())
        seen: set[int] = set()
        for function in self.functions:
            resolved = function.look_up() if isinstance(function, WorkerFunction) else function
            _fill_missing_globals(resolved, seen)


def _fill_missing_globals(function: object, seen: set[int]) -> None:
    """Set missing names for a function, and for the functions of its module that it names."""
    while not isinstance(function, FunctionType):  # a partial, a method, a decorated function
        inner = getattr(
            function, "func", getattr(function, "__func__", getattr(function, "__wrapped__", None))
        )
        if not inner:
            return
        function = inner
    if id(function) in seen:
        return
    seen.add(id(function))
    function_globals = function.__globals__
    for name in dict.fromkeys(global_names(function.__code__)):
        value = function_globals.get(name)
        if isinstance(value, FunctionType) and value.__globals__ is function_globals:
            _fill_missing_globals(value, seen)
        elif name in function_globals or hasattr(builtins, name):
            continue
        elif name in _MODULE_NAMES:
            with contextlib.suppress(ImportError):  # asyncore, since Python 3.12
                function_globals[name] = importlib.import_module(name)
        elif name in _MINCEMEAT_NAMES:
            function_globals[name] = _names_of_mincemeat()[name]


@functools.cache
def _names_of_mincemeat() -> Mapping[str, Any]:
    """Return the names that mincemeat.py defines; imported here, because few functions use them."""
    from redismr.compat.channels import Channel
    from redismr.compat.client_main import MINCEMEAT_VERSION, run_client
    from redismr.compat.hosting import MINCEMEAT_PORT
    from redismr.compat.threaded import Server
    from redismr.compat.transactions import TaskManager
    from redismr.compat.user_commands import CommandBus
    from redismr.compat.worker import Client

    Server.initfn_class = MincemeatGlobals  # as mincemeat.py does, which executors never import
    return {
        "Client": Client,
        "DEFAULT_PORT": MINCEMEAT_PORT,
        "Protocol": CommandBus,
        "Server": Server,
        "ServerChannel": Channel,
        "TaskManager": TaskManager,
        "VERSION": MINCEMEAT_VERSION,
        "run_client": run_client,
    }
