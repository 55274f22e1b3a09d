"""One clock for the model, moved by hand, and an event loop that never waits for it."""

import asyncio
import selectors
from collections.abc import Mapping
from typing import Final

_ID_EPOCH_S: Final = 1_767_225_600.0  # ids of one example are the same in every run, so that it can be repeated


class Clock:
    """Seconds that have passed in the example; stands in for the `time` module of the services.

    PostgreSQL's own clock cannot be moved: instants in its tables are moved back by as much instead.
    """

    def __init__(self) -> None:
        self.elapsed_s = 0.0

    def monotonic(self) -> float:
        """Seconds since some moment before the example."""
        return 1_000_000.0 + self.elapsed_s

    def time(self) -> float:
        """Seconds since 1970, the same at the beginning of every example."""
        return _ID_EPOCH_S + self.elapsed_s

    def time_ns(self) -> int:
        """The same in nanoseconds."""
        return int(self.time() * 1e9)


class PolledClock(Clock):
    """The same clock for a loop that waits by polling: each poll of a fake takes as long as it was allowed to."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock, self.polled_s = clock, 0.0

    def monotonic(self) -> float:
        """The clock's instant, and the time spent in polls."""
        return self._clock.monotonic() + self.polled_s

    def time(self) -> float:
        """The same, since 1970."""
        return self._clock.time() + self.polled_s


class _IdleSelector(selectors.SelectSelector):
    """Waits for nothing: when the loop would, it is idle, and stops."""

    loop: asyncio.AbstractEventLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout > 0:
            self.loop.stop()
        return []


class ModelLoop(asyncio.SelectorEventLoop):
    """An event loop on the model's clock, without input or output."""

    def __init__(self, clock: Clock) -> None:
        self._selector_of_ours = _IdleSelector()
        super().__init__(self._selector_of_ours)
        self._selector_of_ours.loop = self
        self._model_clock = clock
        self.faults: list[BaseException] = []
        self.set_exception_handler(self._note)

    def time(self) -> float:
        """The model's clock."""
        return self._model_clock.monotonic()

    def settle(self) -> None:
        """Run until every task waits for something that only the model can give. Raises what nobody caught."""
        self.run_forever()
        if self.faults:
            raise self.faults.pop()

    def _note(self, _loop: asyncio.AbstractEventLoop, context: Mapping[str, object]) -> None:
        error = context.get("exception")
        self.faults.append(error if isinstance(error, BaseException) else RuntimeError(str(context.get("message"))))
