"""``redismr secret``: print a new secret."""

import click

from redismr.core.seal import new_secret


@click.command()
def secret() -> None:
    """Print a new secret: put it in REDISMR_SECRET wherever you submit or work.

    \b
      export REDISMR_SECRET=$(redismr secret)
    """  # noqa: D301  click wants the control character
    click.echo(new_secret())
