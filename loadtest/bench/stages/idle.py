"""What the four services take while there is nothing to do."""

import time
from typing import Final

import psutil

from infra.local.stack import SERVICES
from loadtest.bench.cpu import Meter
from loadtest.bench.figures import Promise, Sample
from loadtest.bench.frame import Contender, Plan, Stage
from loadtest.bench.pipelines import Ours
from loadtest.bench.rig import Rig

_SETTLE_S: Final = 10.0


class Idle:
    """The whole pipeline, left alone."""

    def __init__(self, pipeline: Ours, *, seconds: float) -> None:
        self.name, self.what = "ours", f"the four services with the settings of `whole`, left alone for {seconds:.0f} s"
        self._pipeline, self._seconds = pipeline, seconds

    def setup(self) -> None:
        """Nothing is needed."""

    def round(self) -> Sample:
        """Wait, then watch."""
        with self._pipeline.running() as running:
            time.sleep(min(_SETTLE_S, self._seconds))
            services = {name: running.processes[name] for name in SERVICES}
            meter, began = Meter(services), time.perf_counter()
            time.sleep(self._seconds)
            cpu_s, took_s = meter.read(), time.perf_counter() - began
            shares = {f"{name}_core_percent": 100 * used / took_s for name, used in cpu_s.items()}
            sizes = [size for (pid,) in services.values() for size in _resident_mib(pid)]
        others = {"core_percent": sum(shares.values()), "largest_process_mib": max(sizes), "all_mib": sum(sizes)}
        return Sample(0, took_s, {}, others | shares)

    def teardown(self) -> None:
        """Nothing is left."""


def _resident_mib(pid: int) -> list[float]:
    """Return the resident memory of a process and of each below it."""
    root = psutil.Process(pid)
    return [one.memory_info().rss / 2**20 for one in (root, *root.children(recursive=True))]


def _build(rig: Rig, plan: Plan) -> list[Contender]:
    return [Idle(Ours(rig.installation("idle")), seconds=plan.pick(60.0, 2.0))]


STAGE = Stage(
    "idle",
    "Idle",
    _build,
    (
        Promise("idle, all four services, percent of a core", "ours", "core_percent", at_most=3),
        Promise("idle, the largest process in MiB", "ours", "largest_process_mib", at_most=120),
    ),
)
