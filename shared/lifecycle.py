"""From SIGTERM to a stop event: a service asked to stop finishes or gives back what it holds, then exits 0."""

import asyncio
import faulthandler
import gc
import logging
import os
import signal
import threading
from collections.abc import Callable
from typing import Final

log = logging.getLogger(__name__)

DRAIN_S: Final = 20.0
"""A service has this long to end after SIGTERM; container stop grace periods are set above it."""

STUCK_S: Final = 60.0
"""An event loop that stands still for so long will not go on: no step of ours takes a hundredth of it."""


def seek_cycles_seldom(objects: int) -> None:
    """Look for cycles once so many objects were made, 700 by default, and never in what was there from the start.

    Thousands of rows or jobs are in memory at any time, and no cycle holds any: looking at all of them again and again
    took up to a tenth of a service's CPU. What does make cycles, such as errors that are kept, waits so much longer.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(objects, 10, 10)


def stop_on_signals() -> threading.Event:
    """Return an event that SIGTERM or SIGINT sets. Call it on the main thread, once, before any thread is started.

    The signals are waited for on a thread of their own. A handler would run on the main thread in the middle of
    whatever that is doing, and an Event whose lock the main thread holds at that moment would never be set. A second
    SIGINT, a person's impatience, ends the process at once with 130.
    """
    stop = threading.Event()
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # every thread inherits it: only sigwait takes them

    def wait() -> None:
        while True:
            signum = signal.sigwait(signals)
            if signum == signal.SIGINT and stop.is_set():
                os._exit(130)
            stop.set()  # before the line, which may have to wait for whoever reads our log
            log.info("stop_requested", extra={"signal": signal.Signals(signum).name})

    threading.Thread(target=wait, name="signals", daemon=True).start()
    return stop


async def end_if_stuck(limit_s: float = STUCK_S) -> None:
    """Run beside an event loop: once that stands still for `limit_s`, the process ends with exit code 1.

    Its stack traces, without values, go to stderr first. It works even while no Python code can run, as when a library
    holds the interpreter's lock for ever. Whoever restarts the process finds its work as a crash leaves it. A process
    that was stopped for longer (SIGSTOP, a debugger; on macOS also the computer's sleep) may end when it goes on.
    """
    try:
        while True:
            faulthandler.dump_traceback_later(limit_s, exit=True)
            await asyncio.sleep(limit_s / 60)
    except RuntimeError as error:  # no stderr to write to, or no thread to be had
        log.error("not_guarded", extra={"reason": str(error)})
    finally:
        faulthandler.cancel_dump_traceback_later()


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
