"""mincemeat.py, and its forks, on redismr: ``from redismr.compat import mincemeat``.

Scripts written for them run unchanged: ``Server`` listens on a port of its own, ``Client`` and
``python -m redismr.compat.mincemeat -p PASSWORD HOST`` work for a server. Faults of the originals
are gone: errors reach the server, nothing is lost or doubled, and functions see what they use. A
file ``mincemeat.py`` beside a script may hold just ``from redismr.compat.mincemeat import *``.
"""

from __future__ import annotations

import logging

from redismr.compat.channels import Channel as ServerChannel
from redismr.compat.client_main import MINCEMEAT_VERSION as VERSION
from redismr.compat.client_main import run_client
from redismr.compat.daemons import (
    Client_daemon,
    Client_HB,
    Client_HB_daemon,
    Mincemeat_daemon,
    Server_daemon,
    Server_HB,
    Server_HB_daemon,
)
from redismr.compat.doorway import use_safe_streams
from redismr.compat.hosting import MINCEMEAT_PORT as DEFAULT_PORT
from redismr.compat.job_functions import applyover, generator
from redismr.compat.mincemeat_globals import MincemeatGlobals
from redismr.compat.threaded import Server
from redismr.compat.timers import (
    close_all,
    minimum_time,
    next_future_time,
    process,
    schedule,
    timer,
    trigger,
)
from redismr.compat.transactions import TaskManager
from redismr.compat.user_commands import CommandBus as Protocol
from redismr.compat.worker import Client

__all__ = [
    "DEFAULT_PORT",
    "VERSION",
    "Client",
    "Client_HB",
    "Client_HB_daemon",
    "Client_daemon",
    "Mincemeat_daemon",
    "Protocol",
    "Server",
    "ServerChannel",
    "Server_HB",
    "Server_HB_daemon",
    "Server_daemon",
    "TaskManager",
    "applyover",
    "close_all",
    "generator",
    "logging",
    "minimum_time",
    "next_future_time",
    "process",
    "run_client",
    "schedule",
    "timer",
    "trigger",
]

Server.initfn_class = MincemeatGlobals

if __name__ == "__main__":
    use_safe_streams(strict=True)
    run_client()
