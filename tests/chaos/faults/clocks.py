"""A service's clock that is wrong by an hour, by a hook in its process.

libfaketime is no way to do it: on Python 3.11 it breaks time.sleep when the monotonic clock is left alone.
"""

from typing import TYPE_CHECKING

from tests.chaos import launch
from tests.chaos.faults import Bites, Kind, Planned

if TYPE_CHECKING:
    from tests.chaos.world import World

FAR_S = 3600.0


class ServiceClock:
    """A service comes back from a restart an hour early or late, and later from another one as it should be."""

    def __init__(self, planned: Planned) -> None:
        self.planned = planned
        self.by_s = planned.rng().choice((-FAR_S, FAR_S))
        self.starts = 0

    def inject(self, world: "World") -> None:
        """Start it anew under another clock."""
        launchers = world.topology.launchers
        self._usual = launchers.get(self.planned.target)
        launchers[self.planned.target] = self._launcher
        self._restart(world)

    def heal(self, world: "World") -> None:
        """Start it anew under the right one."""
        launchers = world.topology.launchers
        if self._usual is None:
            launchers.pop(self.planned.target, None)
        else:
            launchers[self.planned.target] = self._usual
        self._restart(world)

    def bites(self, world: "World") -> Bites:
        """It ran under the wrong clock."""
        return Bites(int(self.starts > 0), {"by_s": self.by_s, "starts": self.starts})

    def _launcher(self, _service: str, package: str) -> list[str]:
        self.starts += 1
        return launch.arguments(package, clock_shift_s=self.by_s)

    def _restart(self, world: "World") -> None:
        process = world.topology.services[self.planned.target]
        if process.is_running:
            world.keeper.expect_death(self.planned.target, restart_after_s=0.0)
            process.kill()


KINDS = (
    *(
        Kind(f"clock_{target.partition('-')[0]}", (target,), ServiceClock, 0.3, (2.0, 8.0))
        for target in ("api", "relay-1", "delivery-1", "dlq-1")
    ),
)
