"""From SIGTERM to a stop event: a service asked to stop finishes or gives back what it holds, then exits 0."""

import logging
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Final

log = logging.getLogger(__name__)

DRAIN_S: Final = 20.0
"""A service has this long to end after SIGTERM; container stop grace periods are set above it."""


def stop_on_signals() -> threading.Event:
    """Return an event that SIGTERM or SIGINT sets. Call it on the main thread, once."""
    stop = threading.Event()

    def request_stop(signum: int, _frame: FrameType | None) -> None:
        log.info("stop_requested", extra={"signal": signal.Signals(signum).name})
        stop.set()

    signal.signal(signal.SIGTERM, request_stop)
    signal.signal(signal.SIGINT, request_stop)
    return stop


class Companion(threading.Thread):
    """A loop beside the main one. If it fails the service stops: half a service would look healthy and do nothing."""

    def __init__(self, name: str, run: Callable[[], None], stop: threading.Event) -> None:
        super().__init__(name=name, daemon=True)
        self._work, self._stop_service = run, stop
        self.failed = False

    def run(self) -> None:
        """Run the loop; on an exception log it, mark it, and set the service's stop event."""
        try:
            self._work()
        except Exception:
            log.exception("companion_failed", extra={"thread_name": self.name})
            self.failed = True
            self._stop_service.set()


def run_beside(name: str, run: Callable[[], None], stop: threading.Event) -> Companion:
    """Start `run` on a thread of its own and return it."""
    companion = Companion(name, run, stop)
    companion.start()
    return companion
