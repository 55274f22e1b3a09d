"""A limit on how long work may take that only somebody else can end: blocked on a socket whose other side is silent.

A read timeout does not do: it begins anew with every byte, and a server or client that sends one now and then holds
its thread of the API for ever.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

_LOOK_EVERY_S: Final = 0.5


class Deadlines:
    """Calls what breaks a piece of work that takes too long, from a thread of its own. To be made after the fork."""

    def __init__(self, name: str) -> None:
        self._lock = threading.Lock()
        self._ends: dict[object, tuple[float, Callable[[], None]]] = {}
        self._stop = threading.Event()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    @contextlib.contextmanager
    def on(self, end: Callable[[], None], timeout_s: float) -> Iterator[None]:
        """Limit the work done inside this block.

        `end` is called every half second once its time is over, never after the block; it neither waits nor raises.
        """
        work = object()
        with self._lock:
            self._ends[work] = time.monotonic() + timeout_s, end
        try:
            yield
        finally:
            with self._lock:
                del self._ends[work]

    def close(self) -> None:
        """Stop looking."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(_LOOK_EVERY_S):
            now = time.monotonic()
            with self._lock:
                for ends_at, end in self._ends.values():
                    if ends_at < now:
                        end()
