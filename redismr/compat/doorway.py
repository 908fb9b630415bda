"""The one way from ``compat`` to the inside of redismr; each import says what it is needed for.

A name that only a server or a client needs is imported on first use: executors import this module
too, and the rest would cost them 0.1 s.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from redismr.config import DEFAULT_NAMESPACE, Connection  # of the server of a script
from redismr.core import pickle_by_value  # pickles own functions and the data of commands
from redismr.core.annotations import Function, Pair  # for annotations
from redismr.core.pickled_snapshots import CannotSnapshot  # raised by the functions that copy
from redismr.core.seal import TAG_BYTES, Keyring  # sign user commands
from redismr.core.status_rows import Progress  # what ``run`` reports while a job runs
from redismr.core.value_snapshots import private_copy  # copies a value that collectfn gets later

# Walk over what a function emits, refuse what is no pair, copy a key, and explain why that fails.
from redismr.engine.emitted import check_pair, explain_output_error, iterate_pairs, snapshot_key
from redismr.engine.key_hash import partition_or_zero  # the partitionfn: takes any key
from redismr.engine.program import (
    UNLIMITED,  # this and count_arguments tell the form of a function
    check_functions,  # before they are wrapped
    count_arguments,
)
from redismr.process_guards import refuse_while_loading  # no client in a module of a job
from redismr.shipping.pickle_diagnosis import explain_pickle_error, global_names  # of functions
from redismr.store import Store  # carries user commands over pub/sub

if TYPE_CHECKING:
    from redismr.client.embedded import LocalWorker  # the worker process of a ``Client``
    from redismr.server import PrivateServer, join, start  # the server of a script
    from redismr.server.credentials import JOIN_USER, derived_credentials  # to log in there
    from redismr.server.early_listener import raise_address_error  # with the address in the text
    from redismr.settings import (  # for error texts
        is_debugging,
        redact_url,
        resolve_connection,  # the server that the environment names
    )
    from redismr.standard_streams import (
        open_missing_descriptors,  # before a worker inherits some
        use_safe_streams,  # for ``python -m``
    )
    from redismr.ui.error_screens import print_message  # on standard error

_LAZY_NAMES = {
    "redismr.client.embedded": ("LocalWorker",),
    "redismr.server": ("PrivateServer", "join", "start"),
    "redismr.server.credentials": ("JOIN_USER", "derived_credentials"),
    "redismr.server.early_listener": ("raise_address_error",),
    "redismr.settings": ("is_debugging", "redact_url", "resolve_connection"),
    "redismr.standard_streams": ("open_missing_descriptors", "use_safe_streams"),
    "redismr.ui.error_screens": ("print_message",),
}


def __getattr__(name: str) -> Any:
    """Import a lazy name on first use (PEP 562)."""
    for module, names in _LAZY_NAMES.items():
        if name in names:
            value = globals()[name] = getattr(importlib.import_module(module), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
