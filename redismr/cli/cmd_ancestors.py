"""``redismr mincemeat`` and ``redismr octo``: the commands of mincemeat.py and octo.py."""

from __future__ import annotations

import logging
import os

import click

import redismr
from redismr.cli.cmd_run import print_job_outcome
from redismr.cli.job_file import job_source, load_job_file
from redismr.cli.shared_options import EXECUTOR_COUNT, PORT_NUMBER
from redismr.cli.unshown_results import keep_unless_shown
from redismr.compat import octo as octo_compat
from redismr.compat.client_main import MINCEMEAT_VERSION, work_for_server
from redismr.compat.hosting import MINCEMEAT_PORT
from redismr.config import MAX_PORT

_executors_option = click.option("-n", "--executors", type=EXECUTOR_COUNT, default=1,
                                 show_default=True, metavar="N",
                                 help="Number of tasks to run at a time.")  # fmt: skip


@click.command()
@click.argument("host", default="localhost")
@click.option("-p", "--password", default="", help="The script's password.")
@click.option("-P", "--port", type=PORT_NUMBER, default=MINCEMEAT_PORT, show_default=True,
              metavar="PORT", help="The script's port.")  # fmt: skip
@click.option("-l", "--loop", is_flag=True, help="Wait for a server, and then for the next one.")
@_executors_option
@click.option("-v", "--verbose", "level", flag_value=logging.INFO, type=int, help="Log more.")
@click.option("-V", "--loud", "level", flag_value=logging.DEBUG, type=int, help="Log everything.")
@click.version_option(MINCEMEAT_VERSION, prog_name="mincemeat.py", message="%(prog)s %(version)s")
def mincemeat(
    *, host: str, password: str, port: int, loop: bool, executors: int, level: int | None
) -> int:
    """Work for a script that was written for mincemeat.py, until it ends.

    The output of user functions is printed here. The exit code is 3 if there is no server, or if
    the server has another password.
    """
    if level:
        logging.basicConfig(level=level)
    return work_for_server(host, port, password, executors=executors, loop=loop)


@click.group(no_args_is_help=False)
def octo() -> None:
    """Run a job file written for octo.py, on clients that wait for more."""


def _refuse_port_as_password(_ctx: click.Context, _option: click.Parameter, password: str) -> str:
    """Refuse a number for -p, which was the port in octo.py."""
    if password.isdecimal() and int(password) <= MAX_PORT:
        raise click.BadParameter(
            f"-p is the password; write -P {password} if that is the port. As a password a number "
            "is too easy to guess"
        )
    return password


_password_option = click.option("-p", "--password", default="", callback=_refuse_port_as_password,
                                help="The password that server and clients share.")  # fmt: skip
_port_option = click.option("-P", "--port", type=PORT_NUMBER, default=octo_compat.OCTO_PORT,
                            show_default=True, metavar="PORT",
                            help="The server's port.")  # fmt: skip


@octo.command(short_help="Serve a job file until its job is done.")
@click.argument("file", metavar="FILE")
@_password_option
@_port_option
def server(*, file: str, password: str, port: int) -> None:
    """Serve a job file until its job is done, and call its final(key, value) in order of keys.

    FILE is a job file, as for `redismr run`. Without a password only clients on this machine can
    join.
    """
    job = load_job_file(file)

    def print_results(results: redismr.Results, private: bool) -> None:  # noqa: FBT001
        with keep_unless_shown(results, job.functions["finishfn"], private=private) as outcome:
            if job.resultfn:
                job.resultfn(job.options.get("txn") or results.job_id, outcome)
            print_job_outcome(job, outcome)

    octo_compat.run_server(
        job_source(job),
        job.functions,
        print_results,
        port=port,
        password=password,
        params=job.params,
        **job.options,
    )


@octo.command(short_help="Work for a server, and wait for the next one.")
@click.argument("host", metavar="HOST|FILE")
@_password_option
@_port_option
@_executors_option
def client(*, host: str, password: str, port: int, executors: int) -> int:
    """Work for a server, wait for the next one when it is done, and so on until Ctrl-C.

    Of a FILE only its line `server = "host"` is used; without one, the server is localhost.
    """
    if os.path.isfile(host):
        host = load_job_file(host).server or "localhost"
    return work_for_server(host, port, password, executors=executors, loop=True)
