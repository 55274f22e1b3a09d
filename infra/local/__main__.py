"""The local stack from the command line: `python -m infra.local up|down|status|demo`."""

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from infra.local.background import Background, State
from infra.local.callers import is_refused
from infra.local.clients import request_to_paste
from infra.local.errors import LocalStackError
from infra.local.readiness import Verdict, verdicts
from infra.local.stack import REPOSITORY

EXIT_CANNOT_START = 2
EXIT_NOT_READY = 3


@click.group(help=__doc__)
def main() -> None:
    """Group the commands."""


@main.command()
@click.option("--fresh", is_flag=True, help="Remove the data of earlier runs first.")
def up(fresh: bool) -> None:
    """Start the whole pipeline in the background; return when every part is ready. Exit 3: it runs, but is not."""
    if (REPOSITORY / ".env").exists():
        say("Note: .env is for the containers and is not read here; set variables in the environment instead.")
    state, started = refusing(lambda: Background().up(fresh=fresh, say=say))
    if started:
        say("The stack is ready.")
        say(described(state))
    else:
        tell_how_it_is("is running already", state)


@main.command()
def down() -> None:
    """End what `up` started. The data stays."""
    ended = refusing(lambda: Background().down())
    say("The stack has ended; its data is kept." if ended else "The stack is not running.")


@main.command()
def status() -> None:
    """Ask each part whether it is ready, and say where it is; exit 0 if all are, 3 if not."""
    state = Background().state()
    if state is None:
        say("The stack is not running.")
        sys.exit(EXIT_NOT_READY)
    if state.phase != "ready":
        say(f"The stack is {state.phase} (supervisor pid {state.pid}).")
        sys.exit(EXIT_NOT_READY)
    tell_how_it_is("is running", state)


def tell_how_it_is(running: str, state: State) -> None:
    """Say of each part whether it is ready, then where everything is; leave with exit code 3 if one is not."""
    found = verdicts(state.urls)
    faulty = [verdict for verdict in found if verdict.fault]
    rest = f", but {len(faulty)} of its {len(found)} parts are not ready" if faulty else "; every part is ready"
    say(f"The stack {running}{rest} (supervisor pid {state.pid}).\n")
    for verdict in found:
        say(listed(verdict))
    say(described(state))
    if state.api_key and is_refused(state.urls["api"], state.api_key):
        say("The API refuses that key; `python -m infra.local down`, then `up`, makes another.")
    if faulty:
        say(f"What has ended is started again by itself; logs are in {Background().data_dir / 'logs'}.")
        sys.exit(EXIT_NOT_READY)


def listed(verdict: Verdict) -> str:
    """One part in one line."""
    return f"  {verdict.part:<18} " + (f"NOT READY: {verdict.fault}" if verdict.fault else "ready")


def say(text: str) -> None:
    """Print; once nobody reads any more, as after `up | head -1`, go on in silence: the stack is not the reader's."""
    try:
        click.echo(text)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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


def described(state: State) -> str:
    """Describe a running stack: addresses, a request to paste, and what its commands need in a shell."""
    urls = state.urls
    notes = "".join(f"\n  {note}" for note in state.notes)
    return f"""
  API            {urls["api"]}/docs
  Mail received  {urls["mail"]}
  Webhooks       {urls["receiver"]}/received
  PostgreSQL     {urls["postgres"]}
  Kafka          {urls["kafka"]}
{notes + chr(10) if notes else ""}
  {request_to_paste(urls["api"], state.api_key)}

  # for notify-admin and notify-audit:
  {commands_to_paste(state)}
"""


def commands_to_paste(state: State) -> str:
    """Return what has a shell find notify-admin and notify-audit, and these the stack's database and keys."""
    paths = {"DATABASE_URL": state.urls["postgres"], "SECRETS_KEYS_FILE": state.secrets_keys_file}
    exports = [f"{name}={shlex.quote(value)}" for name, value in paths.items() if value]
    return " ".join(["export", f'PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"', *exports])


if __name__ == "__main__":
    main()
