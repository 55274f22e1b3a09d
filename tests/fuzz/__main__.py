"""`make fuzz MINUTES=10 SEED=1`: the API by its own description, and the parsers of what comes from outside.

A third of the time is the parsers'. Of the rest the sweep, which is the same for all seeds, takes what it takes, and
the callers share what is left. Exit 0: no finding; 1: there are some, and each is listed.
"""

import sys
import time
from pathlib import Path
from typing import Final

import click

from tests.fuzz import api, rows
from tests.fuzz.api import ApiFuzzed
from tests.fuzz.parsers import TARGETS
from tests.fuzz.running import fuzz_all

DIRECTORY: Final = Path(".local/fuzz")
PARTS: Final = ("sweep", "turns", "parsers")
_LEAST_S: Final = 10.0  # of a turn


@click.command(help=__doc__)
@click.option("--minutes", type=click.FloatRange(min=0.05), default=10, show_default=True, help="For all of it.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed begins with the same inputs.")
@click.option("--part", type=click.Choice(PARTS), multiple=True, default=PARTS, help="Of the API: sweep, turns.")
def main(minutes: float, seed: int, part: tuple[str, ...]) -> None:
    """Fuzz, and say what came of it."""
    until = time.monotonic() + minutes * 60
    findings = _parsers(seed, minutes * 60 / 3) if "parsers" in part else []
    if {"sweep", "turns"} & set(part):
        findings += _api(seed, until, part)
    click.echo(f"\nseed {seed}, {minutes:g} minutes: {len(findings)} finding(s)")
    for finding in findings:
        click.echo(f"  {finding}")
    sys.exit(1 if findings else 0)


def _parsers(seed: int, seconds: float) -> list[str]:
    done = fuzz_all(TARGETS, seed=seed, seconds=seconds)
    click.echo(f"{'parser':<24} {'inputs':>9}")
    for one in done:
        click.echo(f"{one.name:<24} {one.inputs:>9}{'  FINDING' if one.finding else ''}")
    click.echo(f"{'all':<24} {sum(one.inputs for one in done):>9}")
    return [f"{one.name}: {one.finding}" for one in done if one.finding]


def _api(seed: int, until: float, parts: tuple[str, ...]) -> list[str]:
    findings, directory = [], DIRECTORY.absolute()
    with api.running_api(directory) as target:
        everybody = rows.callers(target.database, target.url)
        if "sweep" in parts:
            admin = next(one for one in everybody if one.name == rows.ADMIN)
            findings += _told("the sweep as", api.swept(target, admin, seed=seed, directory=directory / "sweep"))
        if "turns" in parts:
            seconds = max((until - time.monotonic()) / len(everybody), _LEAST_S)
            for caller in everybody:
                done = api.fuzzed(target, caller, seed=seed, seconds=seconds, directory=directory / "turns")
                findings += _told(f"{seconds:.0f} s as", done)
    return findings


def _told(what: str, done: ApiFuzzed) -> list[str]:
    statuses = ", ".join(f"{status} × {count}" for status, count in sorted(done.statuses.items()))
    click.echo(f"API, {what} {done.caller}: {done.cases} cases, {sum(done.statuses.values())} requests, ", nl=False)
    click.echo(f"{done.operations} operations, {done.put_aside} verdicts put aside; {statuses}")
    return [f"API, {what} {done.caller}: {one}" for one in done.findings]


if __name__ == "__main__":
    main()
