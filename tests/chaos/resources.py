"""How much memory and how many descriptors each process of ours holds, sampled while everything fails."""

import os
import threading
from contextlib import suppress
from pathlib import Path

from infra.local import watchdog
from tests.chaos.ledger import Ledger, now
from tests.chaos.topology import Topology

_EVERY_S = 2.0
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Sampler(threading.Thread):
    """Writes a line per process each two seconds."""

    def __init__(self, topology: Topology, ledger: Ledger) -> None:
        super().__init__(name="sampler", daemon=True)
        self._topology, self._ledger = topology, ledger
        self._over = threading.Event()

    def run(self) -> None:
        """Sample until `end`."""
        while not self._over.wait(_EVERY_S):
            for service, process in list(self._topology.services.items()):
                if process.is_running:
                    for pid in (process.pid, *watchdog.descendants(process.pid)):
                        self._sample(service, pid)

    def end(self) -> None:
        """Stop sampling."""
        self._over.set()
        self.join()

    def _sample(self, service: str, pid: int) -> None:
        with suppress(OSError, IndexError, ValueError):  # it has just ended
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            fds = len(list(Path(f"/proc/{pid}/fd").iterdir()))
            self._ledger.write({"t": now(), "s": service, "pid": pid, "rss": pages * _PAGE, "fds": fds})
