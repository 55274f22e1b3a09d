"""librdkafka's mock broker as a process: a broker that costs next to nothing, for comparing relays among themselves."""

import sys
from typing import Final

from infra.local.processes import ManagedProcess
from loadtest.bench.rig import Rig
from loadtest.bench.waiting import wait_for

_LINE: Final = "BOOTSTRAP "


class MockBroker:
    """One mock cluster; topics appear when they are asked for."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._process: ManagedProcess | None = None
        self.address = ""

    def start(self) -> str:
        """Start it and return its address."""
        argv = [sys.executable, "-m", "loadtest.bench.programs.mock_broker"]
        self._process = self._rig.start("mock-broker", argv, self._rig.environ())
        wait_for(self._has_spoken, timeout_s=60, what="the mock broker")
        return self.address

    def _has_spoken(self) -> bool:
        text = self._process.log_path.read_text() if self._process else ""
        for line in text.splitlines():
            if line.startswith(_LINE):
                self.address = line.removeprefix(_LINE)
        return bool(self.address)
