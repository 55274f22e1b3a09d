"""Starts again whatever has died, and tells deaths that a fault brought about from those nobody planned."""

import threading
from random import Random

from tests.chaos.ledger import Ledger, now
from tests.chaos.topology import SERVICES, Topology

_LOOK_EVERY_S = 0.1
_UNEXPECTED_RESTART_S = 0.5


class Keeper(threading.Thread):
    """One thread over all services. A death that was not announced is a finding; the run fails by it."""

    def __init__(self, topology: Topology, ledger: Ledger, rng: Random) -> None:
        super().__init__(name="keeper", daemon=True)
        self._topology, self._ledger, self._rng = topology, ledger, rng
        self._lock = threading.Lock()
        self._expected: dict[str, float] = {}  # service -> seconds until it is started again
        self._due: dict[str, float] = {}
        self._over = threading.Event()
        self.deaths = 0
        self.starts: dict[str, int] = dict.fromkeys(SERVICES, 1)

    def expect_death(self, service: str, *, restart_after_s: float | None = None) -> None:
        """Announce the next death of a service. It is started again 0 to 3 s after it, or when told."""
        with self._lock:
            self._expected[service] = self._rng.uniform(0, 3) if restart_after_s is None else restart_after_s

    def expect_no_death(self, service: str) -> None:
        """Take an announcement back: what was to kill it did not."""
        with self._lock:
            self._expected.pop(service, None)

    def is_up(self, service: str) -> bool:
        """Say whether a process of the service runs, ready or not."""
        return self._topology.services[service].is_running

    def run(self) -> None:
        """Look after the services until `end`."""
        while not self._over.wait(_LOOK_EVERY_S):
            for service in SERVICES:
                self._look_after(service)

    def end(self) -> None:
        """Leave the services alone from now on."""
        self._over.set()
        self.join()

    def _look_after(self, service: str) -> None:
        process = self._topology.services[service]
        if process.is_running:
            return
        due = self._due.get(service)
        if due is None:
            self._due[service] = now() + self._seconds_until_restart(service, process.returncode)
        elif now() >= due:
            del self._due[service]
            self._topology.start_service(service)
            self.starts[service] += 1
            self._ledger.write({"e": "started", "t": now(), "target": service})

    def _seconds_until_restart(self, service: str, code: int | None) -> float:
        with self._lock:
            wait_s = self._expected.pop(service, None)
        self.deaths += 1
        event = "died" if wait_s is not None else "unexpected_death"
        self._ledger.write({"e": event, "t": now(), "target": service, "code": code})
        return _UNEXPECTED_RESTART_S if wait_s is None else wait_s
