"""The chaos test from the command line: `python -m tests.chaos chaos|check|report|crash-test`."""

import faulthandler
import subprocess
import sys
import time
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import click
import orjson

from tests.chaos import config as files
from tests.chaos.crash_test import crash_test
from tests.chaos.faults import Kind
from tests.chaos.faults.catalogue import KINDS
from tests.chaos.plan import Plan, draw
from tests.chaos.report import page
from tests.chaos.running import Run
from tests.chaos.topology import REPOSITORY

RUNS = REPOSITORY / ".local" / "chaos"
RATE = 700.0
PRODUCERS = 4
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_SOME = click.FloatRange(min=0, min_open=True, max=1_000_000)


@click.group(help=__doc__)
def main() -> None:
    """Group the commands."""


main.add_command(crash_test)


def chosen_kinds(_context: click.Context, _option: click.Parameter, patterns: tuple[str, ...]) -> dict[str, Kind]:
    """The kinds of faults that `--only` names, all of them without it. A pattern that fits none is a mistake."""
    for one in patterns:
        if not any(fnmatchcase(name, one) for name in KINDS):
            raise click.BadParameter(f"no kind of fault fits {one!r}; there are {', '.join(sorted(KINDS))}")
    return {
        name: kind for name, kind in KINDS.items() if not patterns or any(fnmatchcase(name, one) for one in patterns)
    }


def kept_plan(_context: click.Context, _option: click.Parameter, file: Path | None) -> Plan | None:
    """The plan in a file, whose kinds of faults there still are."""
    if file is None:
        return None
    try:
        plan = Plan.load(file)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise click.BadParameter(f"{file} is no plan of a run, such as the {files.PLAN} in its directory") from error
    if unknown := {fault.kind for fault in plan.faults} - set(KINDS):
        raise click.BadParameter(
            f"there are no faults {', '.join(sorted(unknown))}; there are {', '.join(sorted(KINDS))}"
        )
    return plan


def ended_run(_context: click.Context, _argument: click.Parameter, run_dir: Path) -> Path:
    """A directory that a run has written its last word into."""
    if not (run_dir / files.META).is_file():
        raise click.BadParameter(f"{run_dir} is no directory of a run that came to its end: it has no {files.META}")
    return run_dir


def results(_context: click.Context, _argument: click.Parameter, paths: tuple[Path, ...]) -> list[Any]:
    """What runs came to, as `check` writes it."""
    found = []
    for path in paths:
        try:
            found.append(orjson.loads(path.read_bytes()))
        except (OSError, orjson.JSONDecodeError) as error:
            raise click.BadParameter(
                f"{path} is no result of a run, such as the result.json in its directory"
            ) from error
    return found


def unused(_context: click.Context, _option: click.Parameter, run_dir: Path | None) -> Path | None:
    """A directory that is not there yet: ledgers are added to, and those of two runs prove nothing."""
    if run_dir is not None and run_dir.exists():
        raise click.BadParameter(f"{run_dir} is there already")
    return run_dir


@main.command()
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--minutes", type=_SOME, default=3.0, show_default=True, help="Of load, the calm beginning included.")
@click.option("--rate", type=_SOME, default=RATE, show_default=True, help="Notifications asked for in a second.")
@click.option("--producers", type=click.IntRange(min=1), default=PRODUCERS, show_default=True)
@click.option("--calm", is_flag=True, help="No faults; receivers misbehave all the same.")
@click.option(
    "--only",
    "kinds",
    multiple=True,
    callback=chosen_kinds,
    help="Draw these kinds of faults only, such as kill9_relay or sigstop_*.",
)
@click.option("--plan", type=FILE, callback=kept_plan, help="Run this plan again.")
@click.option(
    "--dir",
    "run_dir",
    type=click.Path(path_type=Path),
    callback=unused,
    help="For ledgers and logs; must not exist.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Write the result, for `report`, here as well.")
def chaos(*, kinds: dict[str, Kind], plan: Plan | None, run_dir: Path | None, out: Path | None, **drawn: Any) -> None:
    """Run one seed and check it. Exit 0: everything held; 1: something promised did not; 3: the harness broke."""
    plan = plan or draw(kinds=kinds, load_s=60 * drawn.pop("minutes"), **drawn)
    run_dir = run_dir or RUNS / f"seed-{plan.seed}-{time.strftime('%Y%m%dT%H%M%S')}"
    print_plan(plan)
    click.echo(f"directory: {run_dir}")
    Run(plan, run_dir, say=click.echo).carry_out()
    sys.exit(run_checker(run_dir, out))


@main.command()
@click.argument("run_dir", type=click.Path(exists=True, file_okay=False, path_type=Path), callback=ended_run)
@click.option("--out", type=click.Path(path_type=Path))
def check(run_dir: Path, out: Path | None) -> None:
    """Check the ledgers and the dump of a run again."""
    sys.exit(run_checker(run_dir, out))


@main.command()
@click.argument("runs", metavar="FILES...", nargs=-1, required=True, type=FILE, callback=results)
def report(runs: list[Any]) -> None:
    """Add up the results of runs into a page on standard output. Exit 1: violated, or some kind of fault never bit."""
    text, proven = page(runs)
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
    faulthandler.enable()  # librdkafka and libpq are in this process, too
    main()
