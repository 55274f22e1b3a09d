"""The chaos test from the command line: `python -m tests.chaos chaos|check|report|crash-test`."""

import faulthandler
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import orjson

from tests.chaos.crash_test import crash_test
from tests.chaos.faults.catalogue import KINDS
from tests.chaos.plan import Plan, draw
from tests.chaos.report import page
from tests.chaos.running import Run
from tests.chaos.topology import REPOSITORY

RUNS = REPOSITORY / ".local" / "chaos"
RATE = 700.0
PRODUCERS = 4


@click.group(help=__doc__)
def main() -> None:
    """Group the commands."""
    faulthandler.enable()  # librdkafka and libpq are in this process, too


main.add_command(crash_test)


@main.command()
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--minutes", type=float, default=3.0, show_default=True, help="Of load, the calm beginning included.")
@click.option("--rate", type=float, default=RATE, show_default=True, help="Notifications asked for in a second.")
@click.option("--producers", type=int, default=PRODUCERS, show_default=True)
@click.option("--calm", is_flag=True, help="No faults; receivers misbehave all the same.")
@click.option("--only", multiple=True, help="Draw these kinds of faults only, such as kill9_relay or sigstop_*.")
@click.option("--plan", "plan_file", type=click.Path(exists=True, path_type=Path), help="Run this plan again.")
@click.option("--dir", "run_dir", type=click.Path(path_type=Path), help="For ledgers and logs; must not exist.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the result, for `report`, here as well.")
def chaos(
    *, only: tuple[str, ...], plan_file: Path | None, run_dir: Path | None, out: Path | None, **drawn: Any
) -> None:
    """Run one seed and check it. Exit 0: everything held; 1: something promised did not; 3: the harness broke."""
    kinds = {name: kind for name, kind in KINDS.items() if not only or any(Path(name).match(one) for one in only)}
    plan = Plan.load(plan_file) if plan_file else draw(kinds=kinds, load_s=60 * drawn.pop("minutes"), **drawn)
    run_dir = run_dir or RUNS / f"seed-{plan.seed}-{time.strftime('%Y%m%dT%H%M%S')}"
    print_plan(plan)
    click.echo(f"directory: {run_dir}")
    Run(plan, run_dir, say=click.echo).carry_out()
    sys.exit(run_checker(run_dir, out))


@main.command()
@click.argument("run_dir", type=click.Path(exists=True, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path))
def check(run_dir: Path, out: Path | None) -> None:
    """Check the ledgers and the dump of a run again."""
    sys.exit(run_checker(run_dir, out))


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
def report(files: tuple[Path, ...]) -> None:
    """Add up the results of runs into a page on standard output. Exit 1: violated, or some kind of fault never bit."""
    text, proven = page([orjson.loads(path.read_bytes()) for path in files])
    click.echo(text, nl=False)
    sys.exit(0 if proven else 1)


def print_plan(plan: Plan) -> None:
    """Say what is going to happen."""
    click.echo(f"seed {plan.seed}: {len(plan.faults)} faults in {plan.load_s:.0f} s, {plan.rate:.0f} notifications/s")
    for fault in plan.faults:
        click.echo(f"  {fault.at_s:7.2f} s  {fault.kind:<32} {fault.target:<12} for {fault.for_s:5.2f} s")
    if plan.kinds_left_out:
        click.echo(f"  not in this plan: {', '.join(plan.kinds_left_out)}")


def run_checker(run_dir: Path, out: Path | None) -> int:
    """Check in a process of its own, on what the run left behind alone."""
    command = [sys.executable, "-m", "tests.chaos.checker", str(run_dir.absolute())]
    if out:
        command.append(str(out.absolute()))
    return subprocess.run(command, cwd=REPOSITORY, check=False).returncode


if __name__ == "__main__":
    main()
