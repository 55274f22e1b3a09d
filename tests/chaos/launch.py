"""Start a service exactly as `python -m <service>` does, with a crash point, a mutant or a hurried constant in it.

    python -m tests.chaos.launch delivery_consumer --crash delivery_after_yes:2 --traps DIRECTORY
    python -m tests.chaos.launch outbox_relay --mutant range_delete
    python -m tests.chaos.launch outbox_relay --set outbox_relay.upkeep.LEASE_GRACE_S=0.5
    python -m tests.chaos.launch dlq_consumer --clock-shift-s 3600

All of it happens while the product is imported, in this process alone: images hold no tests, and no setting of a
service leads here.
"""

import json
import runpy
import sys
import time
from pathlib import Path

import click

from tests.chaos.crash_points import POINTS
from tests.chaos.mutants import BY_NAME as MUTANTS
from tests.chaos.rewriting import Edit, NotFoundInProductError, Place, Rewriter
from tests.chaos.traps import Armed, arm, traps_of

SERVICES = ("api_service", "outbox_relay", "delivery_consumer", "dlq_consumer")


def arguments(
    service: str,
    *,
    traps: Path | None = None,
    name: str | None = None,
    mutant: str | None = None,
    constants: dict[str, object] | None = None,
    clock_shift_s: float = 0.0,
) -> list[str]:
    """The arguments with which Python starts a service so. `traps`: its crash points can be armed in that directory,
    for all processes of the service or for the one of that name.
    """
    line = ["-m", "tests.chaos.launch", service]
    if traps is not None:
        line += ["--traps", str(traps)]
    if name is not None:
        line += ["--as", name]
    if mutant is not None:
        line += ["--mutant", mutant]
    for constant, value in (constants or {}).items():
        line += ["--set", f"{constant}={json.dumps(value)}"]
    if clock_shift_s:
        line += ["--clock-shift-s", str(clock_shift_s)]
    return line


@click.command()
@click.argument("service", type=click.Choice(SERVICES))
@click.option("--crash", help="POINT:HIT, armed from the start; see crash_points.py. Needs --traps.")
@click.option("--traps", type=click.Path(path_type=Path), help="the directory in which crash points are armed")
@click.option("--as", "name", help="what this process is called among several of its service")
@click.option("--mutant", type=click.Choice(sorted(MUTANTS)), help="a bug to build in, see mutants.py")
@click.option("--set", "constants", multiple=True, metavar="MODULE.NAME=JSON", help="a constant to change")
@click.option("--clock-shift-s", type=float, default=0.0, help="have time.time() tell another time")
def main(  # noqa: PLR0917 - click passes them by name
    service: str,
    crash: str | None,
    traps: Path | None,
    name: str | None,
    mutant: str | None,
    constants: tuple[str, ...],
    clock_shift_s: float,
) -> None:
    """Run SERVICE until it ends."""
    try:
        rewriter = prepared(service, traps, MUTANTS[mutant].edits if mutant else (), constants, name=name)
        if crash is not None:
            arm_one(service, crash, traps)
    except (ValueError, NotFoundInProductError) as error:
        raise click.UsageError(str(error)) from error
    if clock_shift_s:
        shift_clock(clock_shift_s)
    rewriter.install()
    sys.argv = [service]
    runpy.run_module(service, run_name="__main__", alter_sys=True)


def prepared(
    service: str, traps: Path | None, edits: tuple[Edit, ...], constants: tuple[str, ...], *, name: str | None = None
) -> Rewriter:
    """What is to be changed. Raises ValueError, or NotFoundInProductError for what the product no longer has."""
    rewriter = Rewriter()
    if traps is not None:
        traps.mkdir(parents=True, exist_ok=True)
        points = [point for point in POINTS if point.service == service]
        for place, wrap in traps_of(points, traps, name):
            rewriter.wrap(place, wrap)
    rewriter.edit(edits)
    for constant in constants:
        name, equals, value = constant.partition("=")
        module, _, last = name.rpartition(".")
        if not (equals and module):
            raise ValueError(f"{constant!r}: expected MODULE.NAME=JSON")
        try:
            rewriter.set(Place(module, last), json.loads(value))
        except json.JSONDecodeError as error:
            raise ValueError(f"{constant!r}: expected MODULE.NAME=JSON") from error
    return rewriter


def arm_one(service: str, crash: str, traps: Path | None) -> None:
    """Arm a point of the service. Raises ValueError."""
    armed = Armed.parse(crash)
    if armed.point.service != service or traps is None:
        raise ValueError(f"{crash} is a point of {armed.point.service}, and needs --traps")
    arm(armed, traps)


def shift_clock(by_s: float) -> None:
    """Have this process believe in another time of day. Sleeps, deadlines and PostgreSQL's clock are as before."""
    real_s, real_ns = time.time, time.time_ns
    time.time = lambda: real_s() + by_s
    time.time_ns = lambda: real_ns() + int(by_s * 1e9)


if __name__ == "__main__":
    main()
