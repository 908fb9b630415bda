"""Calls that are refused while the code of a job is loaded, and the name in the error."""

from __future__ import annotations

import sys
import threading

import pytest

import redismr
from redismr.client.embedded import LocalWorker
from redismr.client.job_submission import JobSubmission
from redismr.compat import octo
from redismr.compat.mincemeat import Client, Server
from redismr.config import Connection
from redismr.process_guards import loading_job_code
from redismr.server import start
from redismr.shipping.importer import JobImporter, install_importer
from redismr.shipping.modules import ModuleSource
from redismr.shipping.shared_globals import ScriptNamespaces

SERVER = Server()
SERVER.datasource = {1: 1}
SERVER.mapfn = SERVER.reducefn = lambda *_: ()
A_CLIENT = object.__new__(redismr.Client)
A_CLIENT._submission = object.__new__(JobSubmission)  # what refuses needs no server
CONNECTION = Connection(url="unix:///nowhere", secret="0123456789abcdef", namespace="redismr")

STARTS = {
    "run": lambda: redismr.run([1], lambda x: [(x, 1)], "sum"),
    "Client": lambda: redismr.Client("unix:///nowhere", secret="0123456789abcdef"),
    "Client.submit": lambda: A_CLIENT.submit([1], lambda x: [(x, 1)]),
    "Client.run": lambda: A_CLIENT.run([1], lambda x: [(x, 1)]),
    "serve": lambda: redismr.serve(),
    "start": lambda: start(),
    "LocalWorker": lambda: LocalWorker(CONNECTION, 1),
    "Server.run_server": lambda: SERVER.run_server("", 1),
    "Server.conn": lambda: SERVER.conn("", 1),
    "Client.conn": lambda: Client().conn("localhost", 1, "p"),
    "run_server": lambda: octo.run_server([1], {}, print, port=1),
}


@pytest.mark.parametrize("name", STARTS)
def test_starting_jobs_servers_or_workers_is_refused_by_name(name):
    code = compile("\n\ndef start():\n    return go()\n\nstart()\n", "/theirs/job.py", "exec")
    with loading_job_code(), pytest.raises(redismr.RunawayJob) as info:
        exec(code, {"go": STARTS[name]})  # noqa: S102
    # The error names the line of the module, though a lambda of this file makes the call.
    assert str(info.value).startswith(
        f"/theirs/job.py, line 6, calls {name}() while it is imported"
    )
    assert 'under `if __name__ == "__main__":`' in str(info.value)


def test_an_inline_run_starts_nothing_and_may_fill_a_table_of_the_modules():
    with loading_job_code(all_threads=True):
        assert dict(redismr.run([1], lambda x: [(x, 1)], "sum", inline=True)) == {1: 1}


@pytest.mark.parametrize("everywhere", [True, False])
def test_threads_of_an_executor_are_refused_as_well_and_those_of_a_reader_are_not(everywhere):
    errors = []

    def go():
        try:
            redismr.Client("nothing://")
        except redismr.RedismrError as error:
            errors.append(type(error))

    with loading_job_code(all_threads=everywhere):
        thread = threading.Thread(target=go)
        thread.start()
        thread.join()
    assert errors == [redismr.RunawayJob if everywhere else redismr.ConfigError]


@pytest.mark.parametrize("first", [True, False])
def test_a_shipped_module_is_never_a_script_whenever_it_is_imported(first):
    text = "import redismr\nredismr.run([1], print)\n"
    shipped = {"unguarded_one": ModuleSource("/theirs/unguarded_one.py", text, None)}
    install_importer(JobImporter(shipped, {}, ScriptNamespaces({})), take_precedence=first)
    try:
        with pytest.raises(redismr.RunawayJob, match=r"unguarded_one.py, line 2, calls run"):
            import unguarded_one  # noqa: F401
    finally:
        install_importer(JobImporter({}, {}, ScriptNamespaces({})), take_precedence=first)
        sys.modules.pop("unguarded_one", None)
