"""No room left for PostgreSQL's log.

A limit on the size of its files, set from outside on the running server, stops it where a full disk would: the next
write of WAL fails, the server panics, its recovery fails too, and it ends. Unlike a small file system it needs neither
root nor a mount that could outlive the run. Linux checks the limit against the position of a write, so a log file
made long ago is no way around it.
"""

import subprocess
import sys
import time
from typing import TYPE_CHECKING

from infra.local import watchdog
from infra.local.errors import LocalStackError
from infra.local.processes import privilege_drop
from tests.chaos.faults import Bites, Kind, Planned

if TYPE_CHECKING:
    from tests.chaos.world import World

_ROOM_BYTES = 64 * 1024
_SAID = ("PANIC", "File too large", "No space left")


class DiskFull:
    """PostgreSQL cannot write; with room again it is started anew."""

    def __init__(self, planned: Planned) -> None:
        self.planned = planned
        self.said: dict[str, int] = {}

    def inject(self, world: "World") -> None:
        """Leave no room; a write of our own makes sure that somebody notices."""
        process = world.topology.postgres.process
        self._before = self._count(world)
        if not process.is_running:
            return
        for pid in (process.pid, *watchdog.descendants(process.pid)):
            self._limit(pid)
        world.value("SELECT pg_switch_wal()")
        world.value("SELECT pg_logical_emit_message(true, 'chaos', repeat('x', 200000))")

    @staticmethod
    def _limit(pid: int) -> None:
        """As the user the server runs as: for another one's process even root needs a capability containers lack."""
        command = [*privilege_drop(), "prlimit", f"--pid={pid}", f"--fsize={_ROOM_BYTES}:"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0 and watchdog.is_alive(pid):
            raise LocalStackError(f"prlimit: {done.stderr.strip()}")

    def heal(self, world: "World") -> None:
        """Make room: a new server has the limits of whoever starts it."""
        postgres = world.topology.postgres
        began = time.monotonic()
        postgres.stop(immediate=True)
        postgres.start()
        after = self._count(world)
        self.said = {word: after[word] - self._before[word] for word in _SAID}
        self.recovered_s = round(time.monotonic() - began, 2)

    def bites(self, world: "World") -> Bites:
        """It panicked, or said that there was no room."""
        return Bites(int(any(self.said.values())), {**self.said, "recovered_s": self.recovered_s})

    @staticmethod
    def _count(world: "World") -> dict[str, int]:
        text = world.topology.postgres.process.log_path.read_text(errors="replace")
        return {word: text.count(word) for word in _SAID}


KINDS = (Kind("disk_full", ("postgres",), DiskFull, 0.4, (1.0, 5.0)),) if sys.platform == "linux" else ()
