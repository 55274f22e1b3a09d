"""One run under way: a started target and crew, a look at everything each second, and how it all ends."""

import math
import os
import secrets
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol, Self

from infra.local.errors import LocalStackError
from loadtest import limits, surroundings
from loadtest.crew import Crew, Order
from loadtest.errors import RunError
from loadtest.measuring import Lines, Look, Measured, draw
from loadtest.profiles import Profile, Stage
from loadtest.reconcile import Verdict
from loadtest.results import Event, Kind, Limit, RunResult
from loadtest.sampling import Sampler
from loadtest.stamps import now_us
from loadtest.target import Maker, described, start_embedded

LEAD_S: Final = 0.3
"""A stage begins so long after it was told: every process of the generator has heard of it by then."""
_LOOK_S: Final = 1.0
_QUIET_LOOKS: Final = 2
_MOMENT_S: Final = 10.0


class View(Protocol):
    """Who shows how a run is going."""

    def phase(self, text: str) -> None:
        """Say what begins."""

    def show(self, look: Look, running: "Running") -> None:
        """Show a look."""


@dataclass(slots=True)
class Found:
    """What a run learns besides its looks."""

    counts: dict[str, int] = field(default_factory=dict)
    idle: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    ledger: Verdict | None = None
    limits: list[Limit] = field(default_factory=list)  # judged by whoever knows them
    load_from_s: float = 0.0
    load_to_s: float = 0.0


class Running:
    """A run; as a context manager it ends and removes everything it started, whatever happens."""

    def __init__(
        self, profile: Profile, *, overrides: tuple[str, ...], seed: int, directory: Path, view: View,
        make_target: Maker,
    ) -> None:  # fmt: skip
        self.profile, self.seed, self._view = profile, seed, view
        self._began, self.started_at = time.monotonic(), datetime.now(UTC)
        self._machine, self._stolen = surroundings.machine(), surroundings.Stolen()
        self.run_id = secrets.token_hex(4)
        self._directory = directory / self.run_id
        self.ledgers = self._directory / "ledgers"
        self._directory.mkdir(parents=True)
        self.target = make_target(self._directory, self.run_id)
        self.crew = Crew(self.target.supervisor, Order(profile, overrides, seed, self.run_id, self.ledgers))
        self.lines, self.measured, self.found = Lines(), Measured(), Found()
        self.sampler: Sampler | None = None
        self.on_look: Callable[[Look], None] = lambda _: None
        self._last_look = 0.0
        self._ends_at_s = math.inf

    def clock(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._began

    @property
    def left_s(self) -> float:
        """What limit_s leaves; it counts from the instant at which everything was ready."""
        return self._ends_at_s - self.clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.crew.close()
        if self.sampler is not None:
            self.sampler.stop()
        self.target.stop()
        self._keep_logs()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _keep_logs(self) -> None:
        """Keep the logs of all processes until the next run ends."""
        kept = self._directory.parent / "logs"
        shutil.rmtree(kept, ignore_errors=True)
        with suppress(OSError):
            shutil.copytree(self.target.supervisor.log_dir, kept)

    @property
    def directory(self) -> Path:
        """Where data and logs are while it runs."""
        return self._directory

    def start(self) -> None:
        """Start target and crew; everything is ready when this returns. Raises RunError, LocalStackError."""
        self._view.phase("starting")
        with within(self.profile.start_s):
            self._start()
        self._last_look = self.clock()
        self._ends_at_s = self._last_look + self.profile.limit_s
        self.event("everything is ready")

    def _start(self) -> None:
        target = self.target
        if target.stack is not None:
            start_embedded(target, self.profile)
        self.crew.start_sink(hook_ports=target.hook_ports, smtp_port=target.smtp_port, host=target.sink_host)
        self.crew.start_generators(api_url=target.api_url, hooks=target.hooks, api_key=target.api_key)
        self.found.versions = surroundings.versions(database_url=target.database_url, embedded=target.stack is not None)
        self.sampler = Sampler(
            self.lines,
            clock=self.clock,
            parts={**target.processes, **self.crew.processes},
            metrics=target.metrics,
            database_url=target.database_url,
            every_s=self.profile.sample_s,
        )
        self.sampler.start()
        self.crew.take()

    def event(self, text: str) -> None:
        """Note that something happens now."""
        self.found.events.append(Event(round(self.clock(), 2), text))
        self._view.phase(text)

    def look(self, *, last: bool = False) -> Look:
        """Look once, now. Raises RunError if something has ended that should not, or (but for the last) time is up."""
        at_s = self.clock()
        asked, sink = self.crew.take()
        look = self.measured.add(asked, sink, at_s=at_s, took_s=max(at_s - self._last_look, 1e-3))
        self._last_look = at_s
        draw(self.lines, look, backlog=self.measured.backlog)
        self.on_look(look)
        self._view.show(look, self)
        if not last:
            self.target.check()
        if not last and self.left_s < 0:
            raise RunError(f"not done after {self.profile.limit_s:g} s (limit_s)")
        return look

    def watch(self, for_s: float, *, until: Callable[[Look], bool] = lambda _: False) -> list[Look]:
        """Look each second, for so long or until something is seen; return the looks."""
        ends_at, looks = self.clock() + for_s, []
        while (left := ends_at - self.clock()) > 0:
            time.sleep(_LOOK_S if left > 1.5 * _LOOK_S else left)  # no last look at next to nothing
            looks.append(self.look())
            if until(looks[-1]):
                break
        return looks

    def idle(self, for_s: float) -> None:
        """Let nothing happen, and measure what that takes."""
        if for_s <= 0 or self.sampler is None:
            return
        self.event("idle: nothing is asked for")
        self.watch(min(5.0, for_s / 3))  # what starting left to do is not idleness
        from_s, self.sampler.largest_process_mib = self.clock(), 0.0
        self.sampler.leaves_services_alone = True
        self.watch(for_s * 2 / 3)
        self.sampler.leaves_services_alone = False
        services = [name for name in self.lines.names("cpu") if name in limits.SERVICES]
        spent = [value for name in services for at_s, value in self.lines.points("cpu", name) if at_s > from_s]
        if spent and self.sampler.largest_process_mib:
            self.found.idle["idle_cpu_percent"] = limits.mean(spent) * len(services)
            self.found.idle["idle_process_mib"] = self.sampler.largest_process_mib

    def play(self, *stages: Stage, warm_up_s: float = 0.0) -> list[Look]:
        """Play stages, the first one from now; measure but for the first seconds. Return the looks."""
        begin_us = now_us() + round(LEAD_S * 1e6)
        load_s = sum(stage.for_s for stage in stages)
        self.measured.begin_window()
        self.crew.window(begin_us + round(warm_up_s * 1e6), begin_us + round(load_s * 1e6))
        self.found.load_from_s = self.clock() + LEAD_S + warm_up_s
        at_us = begin_us
        for stage in stages:
            self.crew.stage(at_us, stage)
            at_us += round(stage.for_s * 1e6)
        self.found.load_to_s = self.clock() + LEAD_S + load_s
        looks = []
        for stage in stages:
            if len(stages) > 1:
                to = "" if stage.to_per_s == stage.rate_per_s else f" to {stage.to_per_s:,.0f}"
                self.event(f"{stage.rate_per_s:,.0f}{to}/s for {stage.for_s:g} s")
            looks += self.watch(stage.for_s + (LEAD_S if stage is stages[0] else 0))
        return looks

    def drain(self, for_s: float) -> bool:
        """Wait until what was accepted has been received; say whether it was."""
        quiet = 0

        def arrived(look: Look) -> bool:
            nonlocal quiet
            counts = self.measured.counts
            # By counts alone one that was received without an answer would stand for one that is still on its way.
            calm = look.under_way == 0 and counts["received"] >= counts["accepted"] and not look.counts["received"]
            quiet = quiet + 1 if calm else 0
            return quiet >= _QUIET_LOOKS

        self.watch(for_s, until=arrived)
        return quiet >= _QUIET_LOOKS

    def wind_down(self) -> bool:
        """Ask for nothing more, and give what is on its way a moment; say whether it arrived. Raises RunError."""
        self.event("ended early; a moment for what is on its way (Ctrl-C: at once, without a report)")
        self._ends_at_s = math.inf
        self.crew.stop_asking()
        return self.drain(min(_MOMENT_S, self.profile.drain_s))

    def result(self, kind: Kind, broken_off: str | None) -> RunResult:
        """Everything that is kept of the run."""
        found, latencies = self.found, self.measured.latencies()
        return RunResult(
            kind=kind,
            profile=self.profile.name,
            seed=self.seed,
            command=surroundings.command(),
            started_at=self.started_at.isoformat(timespec="seconds"),
            took_s=round(self.clock(), 1),
            versions=found.versions,
            machine=self._machine | self._stolen.facts(),
            settings=surroundings.settings(self.profile, target=described(os.environ)),
            limits=found.limits
            + limits.judge(
                self.profile.limits,
                counts=found.counts,
                latencies=latencies,
                lines=self.lines,
                idle=found.idle,
                ledger=found.ledger,
                load_from_s=found.load_from_s,
                load_to_s=found.load_to_s,
            ),
            latencies=latencies,
            series=self.lines.all(),
            counts=found.counts,
            events=found.events,
            notes=found.notes,
            broken_off=broken_off,
        )


@contextmanager
def within(start_s: float) -> Iterator[None]:
    """Have a start that takes longer raise RunError, whatever it waits for. In the main thread only."""

    def over(*_: object) -> None:
        raise RunError(f"the start took more than {start_s:g} s (start_s); nothing was sent")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, start_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


ENDS: Final = (RunError, LocalStackError, KeyboardInterrupt)


def why(error: BaseException) -> str:
    """Why a run was broken off, for its report."""
    return "ended by Ctrl-C" if isinstance(error, KeyboardInterrupt) else str(error)
