"""The one way from ``compat`` to the inside of redismr.

Every other module of ``compat`` imports only ``redismr`` (the public interface), its errors, and
this module; ``make lint`` checks that. A name that only a server or a client needs is imported on
first use: executors import this module too, and the rest would cost them 0.1 s.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from redismr.config import DEFAULT_NAMESPACE, Connection
from redismr.core import pickle_by_value
from redismr.core.pickled_snapshots import CannotSnapshot
from redismr.core.seal import TAG_BYTES, Keyring
from redismr.core.status_rows import Progress
from redismr.core.value_snapshots import private_copy
from redismr.engine.emitted import check_pair, explain_output_error, iterate_pairs, snapshot_key
from redismr.engine.key_hash import partition_or_zero
from redismr.engine.program import check_functions
from redismr.engine.signatures import UNLIMITED, count_arguments
from redismr.process_guards import refuse_while_loading
from redismr.shipping.pickle_diagnosis import explain_pickle_error, global_names
from redismr.store import Store

if TYPE_CHECKING:
    from redismr.client.embedded import LocalWorker
    from redismr.server import PrivateServer, join, start
    from redismr.server.credentials import JOIN_USER, derived_credentials
    from redismr.settings import is_debugging, redact_url, resolve_connection
    from redismr.standard_streams import open_missing_descriptors, use_command_streams
    from redismr.ui.error_screens import print_message

__all__ = [
    "DEFAULT_NAMESPACE",  # the namespace on the server of a script
    "JOIN_USER",  # the user as whom a client logs in
    "TAG_BYTES",  # the length of a signature
    "UNLIMITED",  # "any number of parameters", as count_arguments says it
    "CannotSnapshot",  # raised by private_copy and snapshot_key
    "Connection",  # where a server is, and how to open it
    "Keyring",  # signs user commands
    "LocalWorker",  # the worker process of a ``Client``
    "PrivateServer",  # the server of a script
    "Progress",  # what ``run`` reports while a job runs
    "Store",  # carries user commands over pub/sub
    "check_functions",  # refuses functions that no job can call, before they are wrapped
    "check_pair",  # refuses what is no pair, before collectfn gets it
    "count_arguments",  # tells the form of a function
    "derived_credentials",  # what a password opens
    "explain_output_error",  # the error text for a value that cannot be copied
    "explain_pickle_error",  # the error text for a worker's own function that does not pickle
    "global_names",  # the names that the code of a function uses
    "is_debugging",  # True if tracebacks show our own frames
    "iterate_pairs",  # walks over what a function emits
    "join",  # the connection of a client to the server of a script
    "open_missing_descriptors",  # before a client hands descriptors to its worker process
    "partition_or_zero",  # the partitionfn: takes keys of any type
    "pickle_by_value",  # pickles a worker's own functions, and the data of user commands
    "print_message",  # prints a line on standard error
    "private_copy",  # copies a value that collectfn gets later
    "redact_url",  # a URL without its password, for texts
    "refuse_while_loading",  # forbids a client in a module that is loaded for a job
    "resolve_connection",  # the server that the environment names
    "snapshot_key",  # copies a key that collectfn gets later
    "start",  # starts the server of a script
    "use_command_streams",  # for ``python -m``: broken and full streams
]

_MODULE_OF_LAZY_NAME = {
    "LocalWorker": "redismr.client.embedded",
    "PrivateServer": "redismr.server",
    "join": "redismr.server",
    "start": "redismr.server",
    "JOIN_USER": "redismr.server.credentials",
    "derived_credentials": "redismr.server.credentials",
    "is_debugging": "redismr.settings",
    "redact_url": "redismr.settings",
    "resolve_connection": "redismr.settings",
    "open_missing_descriptors": "redismr.standard_streams",
    "use_command_streams": "redismr.standard_streams",
    "print_message": "redismr.ui.error_screens",
}


def __getattr__(name: str) -> Any:
    """Import a lazy name on first use (PEP 562)."""
    module = _MODULE_OF_LAZY_NAME.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(module), name)
    return value
