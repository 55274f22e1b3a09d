"""CPU-seconds of processes with everything below them, between two instants."""

import time
from collections.abc import Iterable, Mapping
from typing import Final

import psutil

_LOOK_S: Final = 0.5
_AT_REST: Final = 0.2


def tree_cpu_s(pid: int) -> float:
    """Return the CPU-seconds a process and all below it have used so far; 0 for one that has ended.

    Children that ended and were waited for are in their parent's times, so nothing is lost when a backend goes.
    """
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    return sum(map(_cpu_s, family))


def _cpu_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)


class Meter:
    """Counts from its making on; read it before what it watches has ended."""

    def __init__(self, processes: Mapping[str, int | Iterable[int]]) -> None:
        self._pids = {name: [pids] if isinstance(pids, int) else list(pids) for name, pids in processes.items()}
        self._began = self._now()

    def read(self) -> dict[str, float]:
        """Return the CPU-seconds used since, by name."""
        return {name: now - self._began[name] for name, now in self._now().items()}

    def _now(self) -> dict[str, float]:
        return {name: sum(map(tree_cpu_s, pids)) for name, pids in self._pids.items()}


def wait_at_rest(pids: Iterable[int], *, timeout_s: float = 30.0) -> None:
    """Wait until processes that have just started use less than a fifth of a core together; not longer than that."""
    deadline, pids = time.monotonic() + timeout_s, list(pids)
    while time.monotonic() < deadline:
        meter = Meter({"all": pids})
        time.sleep(_LOOK_S)
        if meter.read()["all"] < _AT_REST * _LOOK_S:
            return
