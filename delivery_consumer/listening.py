"""A clock that counts only the time in which this process could have heard something."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

_TICK_S: Final = 0.05
_COUNTED_S: Final = 0.1
"""Of the time between two ticks: what goes beyond it, the event loop was late."""


class ListeningClock:
    """Seconds, monotonic, standing still while the event loop is held up.

    Whether a destination is silent is judged by it. A process that is starved of CPU, as when it works off a backlog on
    a busy machine, hears nobody for a second or two, and would otherwise take that for everybody else's silence.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counted = self._ticked_at = clock()

    def __call__(self) -> float:
        """Return the instant."""
        return self._counted + min(self._clock() - self._ticked_at, _COUNTED_S)

    def tick(self) -> None:
        """Note that the event loop is running."""
        self._counted, self._ticked_at = self(), self._clock()

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            await asyncio.sleep(_TICK_S)
            self.tick()
