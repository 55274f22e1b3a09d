"""From SIGTERM to a stop event: a service asked to stop finishes or gives back what it holds, then exits 0."""

import logging
import signal
import threading
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
