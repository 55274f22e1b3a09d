"""`python -m loadtest run PROFILE`: load the pipeline, follow every message, judge, and leave a report."""

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import click

from infra.local.errors import LocalStackError
from infra.local.stack import REPOSITORY
from loadtest import found_capacity, profiles, surroundings
from loadtest.closing import reconcile
from loadtest.errors import RunError
from loadtest.options import Rate, reports_option, seed_option
from loadtest.profiles import Profile, ProfileError
from loadtest.progress import summary, view
from loadtest.report import write, write_index
from loadtest.results import Kind, RunResult, save
from loadtest.running import ENDS, Running, why
from loadtest.stress import find_capacity
from loadtest.target import Maker, described, maker

RUNS: Final = REPOSITORY / ".local" / "loadtest"
HELD, NOT_HELD, MISUSED, BROKEN = range(4)


@click.command()
@click.argument("name", metavar="PROFILE")
@seed_option
@click.option("--rate", type=Rate(), help="Notifications a second at the highest stage.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a value of the profile.")
@reports_option
def command(*, name: str, seed: int, rate: float | None, overrides: tuple[str, ...], reports: Path) -> None:
    """Run a profile of loadtest/profiles.toml on the embedded stack, or on TARGET_URL.

    Exit 0: every limit held. 1: some did not. 2: bad usage or configuration. 3: the run broke, or was ended by Ctrl-C;
    what was measured until then is reported all the same.
    """
    with refusing():
        profile, notes = at_its_rate(profiles.load(name, overrides), rate, reports)
        if profile.kind == "dlq":
            raise ProfileError([f"{name} is another test: python -m loadtest dlq"])
        target = maker(profile, os.environ, say=lambda _: None)
    kind: Kind = "stress" if profile.kind == "stress" else "load"
    action = stress if kind == "stress" else play
    sys.exit(carry_out(kind, profile, action, seed=seed, overrides=overrides, target=target, reports=reports,
                       notes=notes))  # fmt: skip


@contextmanager
def refusing() -> Iterator[None]:
    """End with every fault of a configuration, and exit code 2."""
    try:
        yield
    except ProfileError as error:
        click.echo("This run cannot start:\n" + "\n".join(f"  {fault}" for fault in error.faults), err=True)
        sys.exit(MISUSED)


def play(running: Running) -> None:
    """Idle, load, drain."""
    profile = running.profile
    running.idle(profile.idle_s)
    running.event("the load begins")
    running.play(*profile.stages, warm_up_s=profile.warm_up_s)
    running.event("the load has ended; waiting for what is on its way")
    running.drain(profile.drain_s)


def stress(running: Running) -> None:
    """Find the capacity."""
    if find_capacity(running) is None:
        running.found.notes.append("No rate was held.")


def carry_out(
    kind: Kind, profile: Profile, action: Callable[[Running], None], *, seed: int, overrides: tuple[str, ...],
    target: Maker, reports: Path, notes: Sequence[str] = (),
) -> int:  # fmt: skip
    """Start everything, act, reconcile, report; return the exit code. Whatever happens nothing is left running."""
    broken_off = None
    try:
        with interruptible(), view(f"load test {profile.name}") as shown:  # noqa: SIM117 - it outlives it
            with Running(profile, overrides=overrides, seed=seed, directory=RUNS, view=shown,
                         make_target=target) as running:  # fmt: skip
                running.found.notes += notes
                broken_off = _act(running, action)
                result = running.result(kind, broken_off)
    except KeyboardInterrupt:
        click.echo("Interrupted while ending; everything has been ended, and nothing is reported.", err=True)
        return BROKEN
    except LocalStackError as error:
        click.echo(f"Error: {error}", err=True)
        return BROKEN
    except Exception:  # noqa: BLE001 - a bug of ours; Python's own exit code for it means "a limit did not hold" here
        traceback.print_exc()
        return BROKEN
    report(result, reports)
    return BROKEN if broken_off else HELD if result.held else NOT_HELD


def _act(running: Running, action: Callable[[Running], None]) -> str | None:
    """Start, act and reconcile; return why the run was broken off, None if it was not."""
    broken_off = None
    try:
        running.start()
        action(running)
    except ENDS as error:
        broken_off = why(error)
    if running.crew.sink is not None:
        if broken_off:
            _wind_down(running)
        reconcile(running)
    return broken_off


def _wind_down(running: Running) -> None:
    """Let what is on its way arrive before ledgers are compared, and say so where it did not."""
    arrived = False
    with suppress(RunError):
        arrived = running.wind_down()
    if not arrived:
        running.found.notes.append(
            "What was on its way had not all arrived when sent and received were compared:"
            " what is missing may only be late."
        )


def report(result: RunResult, reports: Path) -> None:
    """Write the report, and the index of all; print the summary."""
    path = save(result, reports)
    click.echo(summary(result))
    click.echo(f"\n  {path}\n  {write(result, path.with_suffix('.html'))}\n  {write_index(reports)}")


def at_its_rate(profile: Profile, rate: float | None, reports: Path) -> tuple[Profile, list[str]]:
    """Return the profile at the rate of this run, and what is to be said about it."""
    if rate is not None:
        return profile.at_rate(rate), []
    if profile.share_of_capacity <= 0:
        return profile, []
    stress, target = profiles.load("stress"), described(os.environ)
    capacity, notes = found_capacity.find(reports, stress=stress, target=target, machine=surroundings.machine())
    if capacity is None:
        return profile, ["The rate is the profile's own.", *notes]
    share = f"The rate is {profile.share_of_capacity:g} of the capacity."
    return profile.at_rate(profile.share_of_capacity * capacity), [share, *notes]


@contextmanager
def interruptible() -> Iterator[None]:
    """Have SIGINT and SIGTERM raise KeyboardInterrupt, even where a shell started us in the background."""
    before = {signum: signal.signal(signum, signal.default_int_handler) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
