"""Our own processes killed, stopped and asked to end."""

import os
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from infra.local import watchdog
from infra.local.processes import ManagedProcess, answers_ok
from tests.chaos.faults import Bites, Kind, Planned

if TYPE_CHECKING:
    from tests.chaos.world import World

_SERVICES = ("api", "relay-1", "relay-2", "delivery-1", "delivery-2", "dlq-1", "dlq-2")
_SWIZZLED = _SERVICES[1:]
SEVERAL = "delivery-2"
"""The delivery consumer that is two processes and their parent."""
_DRAIN_S = 25.0

# What a service has to do at the moment it is hurt: one that idles proves little.
_UNDER_WAY = {
    "api": "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'api%'",
    "relay": "SELECT count(*) FROM (SELECT FROM outbox LIMIT 5000) o",
    "delivery": "SELECT count(*) FROM delivery_attempts WHERE outcome = 'begun'",
    "dlq": """
        SELECT count(*) FROM dlq_messages
         WHERE status = 'failed' AND retry_at < now() + interval '2 s' OR last_failed_at > now() - interval '1 s'
    """,
}


class _ProcessFault:
    def __init__(self, planned: Planned) -> None:
        self.planned = planned
        self.under_way = 0

    def look(self, world: "World") -> None:
        """Remember how much its service had under way; what an outage of PostgreSQL hides counts as nothing."""
        self.under_way = int(world.value(_UNDER_WAY[self.planned.target.partition("-")[0]], default=0))


class Kill(_ProcessFault):
    """SIGKILL of a service with everything below it; started again by the keeper after `for_s`."""

    def inject(self, world: "World") -> None:
        """Kill it."""
        self.look(world)
        self.died = world.keeper.is_up(self.planned.target)
        if self.died:
            world.keeper.expect_death(self.planned.target, restart_after_s=self.planned.for_s)
            world.topology.services[self.planned.target].kill()

    def heal(self, world: "World") -> None:
        """The keeper starts it."""

    def bites(self, world: "World") -> Bites:
        """It died with work under way."""
        return Bites(int(self.died and self.under_way > 0), {"under_way": self.under_way})


class KillAll(_ProcessFault):
    """SIGKILL of all processes of a service at once, so that nobody is there to take over; the keeper starts them."""

    def inject(self, world: "World") -> None:
        """Kill them."""
        self.look(world)
        names = [name for name in _SERVICES if name.partition("-")[0] == self.planned.target.partition("-")[0]]
        self.died = [name for name in names if world.keeper.is_up(name)]
        for name in self.died:
            world.keeper.expect_death(name, restart_after_s=self.planned.for_s)
        for name in self.died:
            world.topology.services[name].send_signal(signal.SIGKILL)
        self.all = len(self.died) == len(names)

    def heal(self, world: "World") -> None:
        """The keeper starts them; what came in while there was none has had to wait."""
        before = self.under_way
        self.look(world)
        self.under_way = max(before, self.under_way)

    def bites(self, world: "World") -> Bites:
        """There was none left, and work under way."""
        return Bites(int(self.all and self.under_way > 0), {"under_way": self.under_way, "died": self.died})


class Stop(_ProcessFault):
    """SIGSTOP of a service and everything below it, SIGCONT later: a long pause, with all connections open."""

    def inject(self, world: "World") -> None:
        """Stop it."""
        self.look(world)
        self.process = world.topology.services[self.planned.target]
        self.stopped = self.process.is_running
        self.process.pause()

    def heal(self, world: "World") -> None:
        """Let it go on."""
        self.stopped = self.stopped and self.process.is_running
        self.process.resume()

    def bites(self, world: "World") -> Bites:
        """It stood still all the time with work under way."""
        return Bites(
            int(self.stopped and self.under_way > 0), {"under_way": self.under_way, "stood_s": self.planned.for_s}
        )


class Terminate(_ProcessFault):
    """SIGTERM: it has to drain and exit 0 in time. Anything else is written down as a finding."""

    def inject(self, world: "World") -> None:
        """Ask it to end, wait."""
        self.look(world)
        self.process = world.topology.services[self.planned.target]
        self.code: int | None = None
        if not self.process.is_running:
            return
        listens = answers_ok(world.topology.ready_url(self.planned.target).replace("/ready", "/live"))
        world.keeper.expect_death(self.planned.target, restart_after_s=0.5)
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        ended = self._ends_within(_DRAIN_S)
        self.took_s = time.monotonic() - began
        if not ended:
            world.note("finding", what="sigterm_ignored", target=self.planned.target, seconds=round(self.took_s, 1))
            self.process.send_signal(signal.SIGABRT)  # PYTHONFAULTHANDLER: its log says where each thread stood
            if not self._ends_within(0.4):  # the keeper starts it again half a second after its death
                self.process.kill()
        self.code = self.process.returncode
        # While Python is still importing, nothing can have been prepared for the signal.
        if self.code != 0 and (listens or self.code != -signal.SIGTERM):
            world.note("finding", what="sigterm_exit_code", target=self.planned.target, code=self.code)

    def _ends_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while (running := self.process.is_running) and time.monotonic() < deadline:
            time.sleep(0.05)
        return not running

    def heal(self, world: "World") -> None:
        """The keeper starts it."""

    def bites(self, world: "World") -> Bites:
        """It ended, with work under way."""
        return Bites(int(self.code is not None and self.under_way > 0), {"under_way": self.under_way})


class WorkerSignal(_ProcessFault):
    """One worker of the API, or one of several delivery processes, killed or asked to end; its parent makes another."""

    signum = signal.SIGKILL

    def inject(self, world: "World") -> None:
        """Signal one worker."""
        process = world.topology.services[self.planned.target]
        workers = self._workers(process.pid) if process.is_running else []
        self.hit = bool(workers)
        if workers:
            os.kill(self.planned.rng().choice(sorted(workers)), self.signum)

    @staticmethod
    def _workers(parent: int) -> list[int]:
        return [pid for pid in watchdog.descendants(parent) if watchdog.is_alive(pid)]

    def heal(self, world: "World") -> None:
        """The parent makes another."""

    def bites(self, world: "World") -> Bites:
        """There was a worker to signal."""
        return Bites(int(self.hit))


class WorkerTerminate(WorkerSignal):
    """SIGTERM to one worker of the API, or to one of several delivery processes."""

    signum = signal.SIGTERM


class Swizzle:
    """Services are stopped one by one, and go on in another order."""

    def __init__(self, planned: Planned) -> None:
        self.planned = planned
        self.stopped: list[ManagedProcess] = []

    def inject(self, world: "World") -> None:
        """Stop them, a moment apart."""
        rng = self.planned.rng()
        for name in rng.sample(_SWIZZLED, len(_SWIZZLED)):
            process = world.topology.services[name]
            if process.is_running:
                process.pause()
                self.stopped.append(process)
            time.sleep(rng.uniform(0.05, 0.5))

    def heal(self, world: "World") -> None:
        """Let them go on."""
        rng = self.planned.rng()
        for process in rng.sample(self.stopped, len(self.stopped)):
            process.resume()
            time.sleep(rng.uniform(0.05, 0.5))

    def bites(self, world: "World") -> Bites:
        """They stood still together."""
        return Bites(int(len(self.stopped) == len(_SWIZZLED)), {"stopped": len(self.stopped)})


def _kind(name: str, target: str, make: Callable[[Planned], "Kill | Stop | Terminate"], weight: float,
          for_s: tuple[float, float]) -> Kind:  # fmt: skip
    return Kind(f"{name}_{target}", tuple(s for s in _SERVICES if s.split("-")[0] == target), make, weight, for_s)


KINDS = (
    *(_kind("kill9", target, Kill, 2.0, (0.0, 3.0)) for target in ("relay", "delivery", "dlq")),
    _kind("kill9", "api", Kill, 0.7, (0.0, 1.5)),
    Kind("kill9_relays", ("relay-1",), KillAll, 0.7, (0.5, 2.0), frozenset({"relay-2"})),
    *(_kind("sigstop", target, Stop, 1.0, (0.5, 12.0)) for target in ("relay", "delivery", "dlq")),
    _kind("sigstop", "api", Stop, 0.5, (0.3, 3.0)),
    *(_kind("sigterm", target, Terminate, 0.7, (0.0, 0.0)) for target in ("relay", "delivery", "dlq")),
    _kind("sigterm", "api", Terminate, 0.3, (0.0, 0.0)),
    Kind("swizzle", (_SWIZZLED[0],), Swizzle, 0.3, (0.5, 4.0), frozenset(_SWIZZLED)),
    Kind("kill9_api_worker", ("api",), WorkerSignal, 0.7, (0.0, 0.5)),
    Kind("sigterm_api_worker", ("api",), WorkerTerminate, 0.5, (0.0, 0.5)),
    Kind("kill9_delivery_process", (SEVERAL,), WorkerSignal, 0.7, (0.0, 0.5)),
    Kind("sigterm_delivery_process", (SEVERAL,), WorkerTerminate, 0.5, (0.0, 0.5)),
)
