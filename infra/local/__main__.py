"""The local stack from the command line: `python -m infra.local up|down|status|demo`."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from infra.local.background import Background
from infra.local.errors import LocalStackError

EXIT_CANNOT_START = 2


@click.group(help=__doc__)
def main() -> None:
    """Group the commands."""


@main.command()
@click.option("--fresh", is_flag=True, help="Remove the data of earlier runs first.")
def up(fresh: bool) -> None:
    """Start the whole pipeline in the background; return when every part is ready."""
    state, started = refusing(lambda: Background().up(fresh=fresh, say=click.echo))
    click.echo("The stack is ready." if started else "The stack is running already.")
    click.echo(described(state.urls))


@main.command()
def down() -> None:
    """End what `up` started. The data stays."""
    ended = refusing(lambda: Background().down())
    click.echo("The stack has ended; its data is kept." if ended else "The stack is not running.")


@main.command()
def status() -> None:
    """Say whether the stack runs, and where; exit 0 if it is ready, 3 if not."""
    state = Background().state()
    if state is None:
        click.echo("The stack is not running.")
        sys.exit(3)
    click.echo(f"The stack is {state.phase} (supervisor pid {state.pid}).")
    if state.phase != "ready":
        sys.exit(3)
    click.echo(described(state.urls))


@main.command(hidden=True)
@click.argument("local_dir", type=click.Path(path_type=Path))
def supervise(local_dir: Path) -> None:
    """Run the stack in this process until SIGTERM; what `up` starts."""
    refusing(lambda: Background(local_dir).supervise(os.environ))


@main.command()
def demo() -> None:
    """Tell the pipeline's story on real servers; exit 0 only if every promise held."""
    from infra.local.demo import run  # noqa: PLC0415 - up and down need no rich

    sys.exit(refusing(run))


T = TypeVar("T")


def refusing(action: Callable[[], T]) -> T:
    """Run an action; an error a person can act on becomes one sentence and exit code 2."""
    try:
        return action()
    except LocalStackError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(EXIT_CANNOT_START)
    except KeyboardInterrupt:
        click.echo("Interrupted; everything has been ended.", err=True)
        sys.exit(130)


def described(urls: dict[str, str]) -> str:
    """Describe a running stack: addresses, and a request to paste."""
    body = '{"channel": "email", "recipient": "ada@example.org", "subject": "Hello", "message": "It works."}'
    return f"""
  API            {urls["api"]}/docs
  Mail received  {urls["mail"]}
  Webhooks       {urls["receiver"]}/received
  PostgreSQL     {urls["postgres"]}
  Kafka          {urls["kafka"]}

  curl -i {urls["api"]}/api/v1/notifications -H 'Content-Type: application/json' \\
    -d '{body}'
"""


if __name__ == "__main__":
    main()
