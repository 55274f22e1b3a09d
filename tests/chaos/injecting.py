"""Carries out the faults of a plan, each on a thread of its own, and asks at the end which of them bit."""

import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Sequence

import psycopg
from confluent_kafka import KafkaException

from tests.chaos.faults import Fault, Planned
from tests.chaos.faults.catalogue import KINDS
from tests.chaos.ledger import now
from tests.chaos.world import World

_JOIN_S = 300.0
_HEAL_WITHIN_S = 120.0
_OUTAGE = (KafkaException, psycopg.OperationalError, TimeoutError)


class Injector(threading.Thread):
    """Begins each fault at its time; a target that is still being healed is waited for.

    A fault that finds PostgreSQL or Kafka away, because another one struck first, is missed: it did not happen.
    """

    def __init__(self, world: World, planned: Sequence[Planned], *, ends_at: float) -> None:
        super().__init__(name="injector", daemon=True)
        self._world, self._planned, self._ends_at = world, planned, ends_at
        self._locks: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._done: list[tuple[Planned, Fault]] = []
        self.errors: list[str] = []

    def run(self) -> None:
        """Inject everything, return when everything has been healed."""
        threads = []
        for planned in self._planned:
            time.sleep(max(0.0, self._world.began_at + planned.at_s - now()))
            threads.append(threading.Thread(target=self._one, args=(planned,), name=planned.kind, daemon=True))
            threads[-1].start()
        for thread in threads:
            thread.join(_JOIN_S)
            if thread.is_alive():
                self.errors.append(f"the fault {thread.name} was not healed")

    def _one(self, planned: Planned) -> None:
        held = sorted(KINDS[planned.kind].holds | {planned.target})
        locks = [self._locks[name] for name in held]
        for lock in locks:
            lock.acquire()
        try:
            if now() < self._ends_at:
                self._inject(planned)
        finally:
            for lock in locks:
                lock.release()

    def _inject(self, planned: Planned) -> None:
        fault = KINDS[planned.kind].make(planned)
        about = {"n": planned.number, "kind": planned.kind, "target": planned.target}
        self._world.note("injecting", **about)
        try:
            fault.inject(self._world)
            self._world.note("injected", **about)
            time.sleep(planned.for_s)
            self._heal(fault, self._world)
            self._world.note("healed", **about)
            self._done.append((planned, fault))
        except _OUTAGE as error:  # another fault had taken away what this one needs
            self._world.note("missed", **about, error=type(error).__name__)
            self._heal_anyway(fault)
        except Exception as error:  # noqa: BLE001 - the harness is broken then, and says so
            self.errors.append(f"{planned.kind} on {planned.target}: {type(error).__name__}: {error}")
            self._world.note("harness_error", **about, error=traceback.format_exc(limit=-6))
            self._heal_anyway(fault)

    @staticmethod
    def _heal(fault: Fault, world: World, *, within_s: float = _HEAL_WITHIN_S) -> None:
        """Heal, again and again while another fault is in the way."""
        until = now() + within_s
        while True:
            try:
                fault.heal(world)
            except _OUTAGE:
                if now() > until:
                    raise
                time.sleep(1.0)
            else:
                return

    def _heal_anyway(self, fault: Fault) -> None:
        try:
            self._heal(fault, self._world)
        except Exception as error:  # noqa: BLE001 - said, and then the run goes on to its end
            self.errors.append(f"healing failed: {type(error).__name__}: {error}")

    def judge(self) -> None:
        """Write down which faults bit."""
        for planned, fault in self._done:
            try:
                bites = fault.bites(self._world)
            except Exception as error:  # noqa: BLE001 - the harness is broken then, and says so
                self.errors.append(f"bites of {planned.kind}: {type(error).__name__}: {error}")
                continue
            self._world.note(
                "bites", n=planned.number, kind=planned.kind, count=bites.count, evidence=dict(bites.evidence)
            )
