"""``redismr acl``: print the rights that a user of the server needs."""

import re
import sys

import click

from redismr import settings
from redismr.store.acl_rules import ROLES, Role, acl_rule
from redismr.ui.error_screens import print_message


def _check_user(ctx: click.Context, option: click.Parameter, user: str | None) -> str | None:
    if user is not None and not re.fullmatch(r"[^\s\0]+", user):
        raise click.BadParameter("a user's name has no spaces", ctx, option)
    return user


@click.command()
@click.argument("role", type=click.Choice(ROLES), metavar="ROLE")
@click.option("--user", metavar="NAME", callback=_check_user, help="[redismr-worker, and so on]")
@click.option("--namespace", metavar="NAME", help="Prefix of all keys. [REDISMR_NAMESPACE]")
def acl(*, role: Role, user: str | None, namespace: str | None) -> None:
    """Print the ACL command that makes a user with the least rights.

    ROLE is worker (runs `redismr worker`), submitter (hands in, reads, cancels and deletes jobs) or
    monitor (only reads: jobs, workers, progress, results, events). Put a password in the place of
    PASSWORD, and type the line into redis-cli as an administrator.

    \b
      redismr acl worker
      redismr acl monitor --user grafana --namespace team1
    """  # noqa: D301  click wants the control character
    user = user or f"redismr-{role}"
    click.echo(acl_rule(role, user, settings.resolve_namespace(namespace)))
    if sys.stdout.isatty():
        url = f"redis://{user}:PASSWORD@HOST:6379/0"
        advice = f"put a password in the place of PASSWORD; then REDISMR_URL is {url}"
        print_message(advice, sys.stderr)
