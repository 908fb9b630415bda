"""The initfn of a job: it gives user functions the global names that mincemeat.py gave them.

mincemeat.py ran the code of user functions among its own globals, so programs use modules
(``hashlib``) and classes (``Server``) that they never import. This module stands above all whose
names it hands out; ``Server`` gets the initfn through ``Server.initfn_class``.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib
import logging
import os
import sys
from collections.abc import Iterable
from types import FunctionType

from redismr.compat.adapted_functions import LOG_LEVEL_VARIABLE, WorkerFunction
from redismr.compat.doorway import global_names

_MODULE_NAMES = frozenset(
    "argparse asynchat asyncore binascii collections hashlib hmac logging marshal optparse os "  # noqa: SIM905
    "pickle random select socket sys threading time timeit traceback types".split()
)
_MINCEMEAT_NAMES = {
    "Client": ("redismr.compat.worker", "Client"),
    "DEFAULT_PORT": ("redismr.compat.hosting", "MINCEMEAT_PORT"),
    "Protocol": ("redismr.compat.user_commands", "CommandBus"),
    "Server": ("redismr.compat.server", "Server"),
    "ServerChannel": ("redismr.compat.user_commands", "Channel"),
    "TaskManager": ("redismr.compat.transactions", "TaskManager"),
    "VERSION": ("redismr.compat.client_main", "MINCEMEAT_VERSION"),
    "run_client": ("redismr.compat.client_main", "run_client"),
}
"""Where to find what mincemeat.py defines; imported on use, because it takes an executor 13 ms."""


class MincemeatGlobals:
    """Sets, on a worker, names that the code of user functions uses and their own globals lack."""

    def __init__(self, functions: Iterable[object]) -> None:
        self.functions = [function for function in functions if function]

    def __call__(self) -> None:
        """Set the names, the log level, and ``sys.path``: modules beside the worker come last."""
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
        links = ("func", "__func__", "__wrapped__")
        function = next((getattr(function, n) for n in links if hasattr(function, n)), None)
        if not function:
            return
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
            from redismr.compat.server import Server

            Server.initfn_class = (
                MincemeatGlobals  # mincemeat does it, which executors never import
            )
            module, attribute = _MINCEMEAT_NAMES[name]
            function_globals[name] = getattr(importlib.import_module(module), attribute)
