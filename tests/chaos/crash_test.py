"""`make crash-test`: each crash point twice, each scenario once, a chaos run; or a mutant that must be caught."""

import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import orjson

from infra.local.errors import LocalStackError
from tests.chaos import matrix, published
from tests.chaos.checker import EXIT_BROKEN, EXIT_VIOLATED, result_of, said, violations
from tests.chaos.crash_points import POINTS
from tests.chaos.faults.catalogue import KINDS
from tests.chaos.history import load
from tests.chaos.mutants import BY_NAME, MUTANTS, Mutant
from tests.chaos.scenarios import BY_SCENARIO, SCENARIOS, Scenario
from tests.chaos.stage import LADDER_S, NotSeenError, Stage
from tests.chaos.topology import REPOSITORY
from tests.chaos.violations import Violation

RUNS = REPOSITORY / ".local" / "chaos"
_QUIET_S = 60.0
_MUTANT_QUIET_S = 25.0
_SHOWN = 3
# Scenarios that the matrix contains already; they are for mutants.
_IN_MATRIX = frozenset({"killed_after_yes", "killed_before_send", "killed_before_track"})


@dataclass(slots=True)
class Verdict:
    """What a stage came to."""

    found: list[Violation] = field(default_factory=list)
    unproved: list[str] = field(default_factory=list)  # what did not happen although the test rests on it
    said: str = ""

    @property
    def code(self) -> int:
        """The exit code: violated, or proves nothing, or fine."""
        if self.found:
            return EXIT_VIOLATED
        return EXIT_BROKEN if self.unproved else 0


@click.command("crash-test")
@click.option(
    "--mutant",
    type=click.Choice(["all", *BY_NAME]),
    metavar="NAME",
    multiple=True,
    help="Build this bug in, or `all`; exit 0 if it is caught. See mutants.py.",
)
@click.option(
    "--scenario",
    "only",
    type=click.Choice(list(BY_SCENARIO)),
    metavar="NAME",
    multiple=True,
    help="These scenarios alone, without matrix and chaos run. See scenarios.py.",
)
@click.option(
    "--chaos-s",
    type=click.FloatRange(0, 1_000_000),
    default=45.0,
    show_default=True,
    help="Seconds of the chaos run; 0: none.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of the chaos run.")
@click.option(
    "--dir", "run_dir", type=click.Path(path_type=Path), default=RUNS / "crash-test", help="For ledgers, logs."
)
def crash_test(mutant: tuple[str, ...], only: tuple[str, ...], chaos_s: float, seed: int, run_dir: Path) -> None:
    """Kill every service at every crash point. Exit 0: all held; 1: something did not; 3: it proves nothing."""
    if mutant:
        sys.exit(_mutants(mutant, run_dir))
    began = time.monotonic()
    verdict = _everything(run_dir, [BY_SCENARIO[name] for name in only])
    click.echo(verdict.said)
    code = verdict.code
    if chaos_s and not only:
        code = max(code, _chaos(seed, chaos_s, run_dir / "chaos"))
    _tell_unproved(verdict)
    click.echo(f"crash-test: {'held' if code == 0 else 'FAILED'} after {time.monotonic() - began:.0f} s")
    sys.exit(code)


def _everything(run_dir: Path, only: list[Scenario]) -> Verdict:
    verdict, began = Verdict(), time.monotonic()
    with Stage(run_dir, say=click.echo) as stage:
        stage.begin("run")
        click.echo(f"ready after {time.monotonic() - began:.0f} s")
        if not only:
            click.echo(f"{len(POINTS)} crash points, each at its first and second call:")
            matrix.run(stage, nets=False)
        _play(stage, only or [one for one in SCENARIOS if one.name not in _IN_MATRIX], verdict, nets=False)
        _note_published(stage, verdict)  # before Kafka is made to lose what it has
        stage.nets(on=True)
        if not only:
            matrix.run(stage, nets=True)
        _play(stage, only or SCENARIOS, verdict, nets=True)
        _judge(stage, verdict, within_s=_QUIET_S)
        click.echo(f"crash points and scenarios took {time.monotonic() - began:.0f} s")
    return verdict


def _play(stage: Stage, scenarios: list[Scenario] | tuple[Scenario, ...], verdict: Verdict, *, nets: bool) -> None:
    for scenario in scenarios:
        if scenario.nets is not nets:
            continue
        began = time.monotonic()
        stage.world.note("scenario", name=scenario.name)
        try:
            scenario.play(stage)
        except (NotSeenError, LocalStackError) as error:
            verdict.unproved.append(f"{scenario.name}: {error}")
            stage.say(f"  NOT SEEN: {scenario.name}: {error}")
            stage.recover()
        stage.say(f"  {time.monotonic() - began:4.1f} s  {scenario.name}: {scenario.says}")


def _note_published(stage: Stage, verdict: Verdict) -> None:
    try:
        published.note(stage)
    except NotSeenError as error:
        verdict.unproved.append(f"what was published: {error}")


def _judge(stage: Stage, verdict: Verdict, *, within_s: float) -> None:
    """Wait for rest, close the books, ask the checker."""
    began = time.monotonic()
    reached, left = stage.quiet(within_s=within_s)
    stage.close_books(reached=reached, left=left, took_s=round(time.monotonic() - began, 1))
    forgetful = frozenset(kind.name for kind in KINDS.values() if kind.loses_records) | {"records_dropped"}
    history = load(stage.run_dir, ladder=len(LADDER_S), loses_records=forgetful)
    verdict.found = violations(history)
    result = result_of(history, verdict.found)
    (stage.run_dir / "result.json").write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2))
    verdict.said = said(result, verdict.found)


def _chaos(seed: int, load_s: float, run_dir: Path) -> int:
    from tests.chaos.__main__ import PRODUCERS, RATE, run_checker  # noqa: PLC0415 - it imports this module
    from tests.chaos.plan import draw  # noqa: PLC0415
    from tests.chaos.running import Run  # noqa: PLC0415

    plan = draw(seed, KINDS, load_s=load_s, rate=RATE / 2, producers=PRODUCERS)
    click.echo(f"chaos run: seed {seed}, {len(plan.faults)} faults in {load_s:.0f} s")
    Run(plan, run_dir, say=click.echo).carry_out()
    return run_checker(run_dir, None)


def _mutants(names: tuple[str, ...], run_dir: Path) -> int:
    chosen = MUTANTS if "all" in names else [BY_NAME[name] for name in names]
    rows = []
    with Stage(run_dir, say=click.echo) as stage:
        for mutant in chosen:
            click.echo(f"{mutant.name}: {mutant.says}")
            began = time.monotonic()
            verdict = _one_mutant(stage, mutant)
            caught = _caught(mutant, verdict)
            rows.append((mutant, sorted(caught), len(verdict.found), time.monotonic() - began))
            _tell(mutant, verdict, caught)
    click.echo(f"\n{'mutant':<26} {'breaks':<9} {'s':>4}  caught by")
    for mutant, by, count, took_s in rows:
        click.echo(f"{mutant.name:<26} {mutant.invariants:<9} {took_s:4.0f}  {', '.join(by) or 'NOT CAUGHT'} ({count})")
    missed = [mutant.name for mutant, by, _, _ in rows if not by]
    click.echo(f"{len(rows) - len(missed)} of {len(rows)} mutants caught")
    return EXIT_VIOLATED if missed else 0


def _one_mutant(stage: Stage, mutant: Mutant) -> Verdict:
    verdict, scenarios = Verdict(), [BY_SCENARIO[name] for name in mutant.scenarios]
    stage.begin(mutant.name, mutant=mutant.name, nets=all(scenario.nets for scenario in scenarios))
    for nets in sorted({scenario.nets for scenario in scenarios}):
        stage.nets(on=nets)
        _play(stage, scenarios, verdict, nets=nets)
        if not nets:
            _note_published(stage, verdict)
    _judge(stage, verdict, within_s=_MUTANT_QUIET_S)
    return verdict


def _caught(mutant: Mutant, verdict: Verdict) -> set[str]:
    return {one.invariant for one in verdict.found} & mutant.caught_by


def _tell(mutant: Mutant, verdict: Verdict, caught: set[str]) -> None:
    by_name: dict[str, list[Any]] = defaultdict(list)
    for one in verdict.found:
        by_name[one.invariant].append(one)
    for name, ones in sorted(by_name.items(), key=lambda item: item[0] not in caught):
        click.echo(f"  {'caught' if name in caught else 'also'} by {name}: {len(ones)}")
        for one in ones[:_SHOWN] if name in caught else ():
            click.echo(f"      {one.about}: {orjson.dumps(one.evidence).decode()[:400]}")
    if not caught:
        click.echo(f"  NOT CAUGHT by any of {', '.join(sorted(mutant.caught_by))}")
    _tell_unproved(verdict)


def _tell_unproved(verdict: Verdict) -> None:
    for line in verdict.unproved:
        click.echo(f"  not seen: {line}")
