"""`python -m loadtest bench`: runs stages, prints tables, writes the result."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
from rich.console import Console

from infra.local.errors import LocalStackError
from infra.local.postgres import program
from loadtest import profiles, report, results, surroundings
from loadtest.bench import outcome as outcomes
from loadtest.bench import peer_settings
from loadtest.bench.figures import Sample
from loadtest.bench.frame import BenchError, Plan, Stage, Told, run_rounds
from loadtest.bench.outcome import StageOutcome
from loadtest.bench.registry import STAGES, TUNING
from loadtest.bench.rig import POSTGRES_SETTINGS, Rig
from loadtest.options import reports_option, seed_option
from loadtest.peers import environment, settings

NOT_HELD: Final = 1
BROKEN: Final = 3
_SECRET: Final = re.compile(r"PASS|SECRET|URL|USER|TOKEN")


@click.command("bench")
@click.option(
    "--only", multiple=True, type=click.Choice([*STAGES, *TUNING]), help="A stage; may be given several times."
)
@click.option(
    "--tune",
    is_flag=True,
    help="Every stage that compares settings of the peers; writes docs/reports/peer-settings.md.",
)
@click.option("--rounds", type=click.IntRange(1, 100), default=5, show_default=True)
@click.option("--quick", is_flag=True, help="Tiny sizes: shows that everything runs, and measures nothing.")
@seed_option
@click.option("--contender", multiple=True, help="Only these contenders of a stage; may be given several times.")
@reports_option
@click.option("--keep-logs", type=click.Path(path_type=Path), help="Copy the logs of all processes there.")
def command(
    *,
    only: Sequence[str],
    tune: bool,
    rounds: int,
    quick: bool,
    seed: int,
    contender: Sequence[str],
    reports: Path,
    keep_logs: Path | None,
) -> None:
    """Measure each stage alone, beside its limit and its peers, in interleaved rounds.

    Exit code 0: every promise held; 1: some did not; 2: bad usage; 3: a stage could not be carried through.
    """
    if tune and only:
        raise click.UsageError(f"--tune is --only {' --only '.join(TUNING)}: give the one or the other.")
    plan = Plan(rounds=rounds, quick=quick, seed=seed)
    run = _Run(plan, frozenset(contender), keep_logs)
    broken_off = run.stages([(STAGES | TUNING)[name] for name in only or (TUNING if tune else STAGES)])
    result = outcomes.result(
        run.outcomes,
        plan,
        command=surroundings.command(),
        started_at=run.started_at.isoformat(timespec="seconds"),
        took_s=time.monotonic() - run.began,
        versions=run.versions,
        machine=run.machine | run.stolen.facts(),
        settings=_settings(),
        broken_off=broken_off,
    )
    path = results.save(result, reports)
    page = report.write(result, path.with_suffix(".html"))
    report.write_index(reports)
    run.write_peer_settings()
    run.console.print(f"written to {path} and {page}")
    sys.exit(BROKEN if result.broken_off else 0 if result.held else NOT_HELD)


def _settings() -> dict[str, str]:
    """Return what was set beside the stages: variables of the services in the environment, the server, the peers."""
    shown = [name for name in profiles.variables() if name in os.environ and not _SECRET.search(name)]
    shared = vars(settings).keys() - {"SETTINGS", "TRIED"}
    peers = {**{name: vars(settings)[name] for name in sorted(shared) if name.isupper()}, **settings.SETTINGS}
    return {
        **{f"environment/{name}": os.environ[name] for name in shown},
        **{f"postgres/{name}": value for name, value in POSTGRES_SETTINGS.items()},
        **{f"peers/{name}": str(value) for name, value in peers.items()},
    }


def _others() -> dict[str, str]:
    """Return the versions of what the load tests do not use, or do not see."""
    done = subprocess.run([program("postgres"), "--version"], capture_output=True, text=True, check=True)
    return {"postgresql": done.stdout.split()[-1], **environment.versions()}


class _Run:
    """One run of the command."""

    def __init__(self, plan: Plan, wanted: frozenset[str], keep_logs: Path | None) -> None:
        self._plan, self._wanted, self._keep_logs = plan, wanted, keep_logs
        self.console = Console()
        self.machine, self.stolen = surroundings.machine(), surroundings.Stolen()
        self.versions = surroundings.versions(database_url=None, embedded=True) | _others()
        self.started_at, self.began = datetime.now(UTC), time.monotonic()
        self.outcomes: list[StageOutcome] = []
        told = ", ".join(f"{name} {value}" for name, value in {**self.machine, **self.versions}.items())
        self.console.print(f"seed {plan.seed}, {plan.rounds} rounds{', quick' if plan.quick else ''}; {told}")

    def stages(self, stages: Sequence[Stage]) -> str | None:
        """Run stages one after the other; a broken one does not keep the next from running. Say why it ended early."""
        try:
            for stage in stages:
                self._stage(stage)
        except KeyboardInterrupt:
            return "interrupted"
        return None

    def write_peer_settings(self) -> None:
        """Write what was found out about settings of the peers, unless the sizes were too small to tell."""
        tuned = [one for one in self.outcomes if one.stage.name in TUNING]
        if tuned and not self._plan.quick:
            peer_settings.write(tuned, {"on": self.started_at.date(), **self.machine})

    def _stage(self, stage: Stage) -> None:
        found = StageOutcome(stage)
        self.outcomes.append(found)
        self.console.rule(stage.title, align="left")
        directory = Path(tempfile.mkdtemp(prefix="bench-"))
        rig = Rig(directory, self._plan)
        try:
            present = stage.build(rig, self._plan)
            contenders = [one for one in present if not self._wanted or one.name in self._wanted]
            if not contenders:
                raise BenchError(f"none of its contenders is asked for: {', '.join(one.name for one in present)}")
            found.whats |= {one.name: one.what for one in contenders}
            for one in contenders:
                self.console.print(f"  {one.name}: {one.what}", highlight=False)
            run_rounds(contenders, self._plan, self._told(found), found.samples)
        except (BenchError, LocalStackError) as error:
            found.fault = str(error)
        except Exception as error:  # noqa: BLE001 - a service that died ends its stage, not the hours before and after
            found.fault = f"{type(error).__name__}: {error}"
            self.console.print_exception()
        finally:
            if found.fault:
                self.console.print(f"  broken: {found.fault}", style="red", highlight=False, markup=False)
            rig.close()
            if self._keep_logs:
                shutil.copytree(directory / "logs", self._keep_logs / stage.name, dirs_exist_ok=True)
            shutil.rmtree(directory, ignore_errors=True)
            if found.samples:
                self.console.print(outcomes.table(found, quick=self._plan.quick))

    def _told(self, found: StageOutcome) -> Told:
        def began(name: str, number: int) -> None:
            found.began_at_s.setdefault(name, []).append(round(time.monotonic() - self.began, 1))
            self.console.print(f"  round {number + 1}: {name} …", highlight=False)

        def ended(name: str, number: int, sample: Sample) -> None:
            rate = f"{sample.work:,} in {sample.wall_s:.2f} s" if sample.work else ""
            rest = ", ".join(f"{key} {value:.3g}" for key, value in sample.others.items())
            self.console.print(f"  round {number + 1}: {name}: {rate} {rest}", highlight=False)

        def left_out(name: str, reason: str) -> None:
            found.left_out[name] = reason
            self.console.print(f"  left out: {name}: {reason}", highlight=False)

        return Told(began, ended, left_out)
