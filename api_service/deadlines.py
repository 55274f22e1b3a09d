"""A limit on how long work may take that only somebody else can end: blocked on a socket whose other side is silent.

A read timeout does not do: it begins anew with every byte, and a server or client that sends one now and then holds
its thread of the API for ever.
"""

import threading
import time
from collections.abc import Callable
from typing import Final

_LOOK_EVERY_S: Final = 0.5


class Deadlines:
    """Calls what breaks a piece of work that takes too long, from a thread of its own. To be made after the fork."""

    def __init__(self, name: str) -> None:
        self._lock = threading.Lock()
        self._ends: dict[_Work, _End] = {}
        self._stop = threading.Event()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def on(self, end: Callable[[], None], timeout_s: float) -> "_Work":
        """Limit the work done inside `with` this.

        `end` is called every half second once its time is over, never after the block; it neither waits nor raises.
        """
        return _Work(self._lock, self._ends, (time.monotonic() + timeout_s, end))

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


_End = tuple[float, Callable[[], None]]


class _Work:
    """A piece of work, watched while it is under way. A class, since three of them surround each request."""

    __slots__ = ("_end", "_ends", "_lock")

    def __init__(self, lock: threading.Lock, ends: "dict[_Work, _End]", end: _End) -> None:
        self._lock, self._ends, self._end = lock, ends, end

    def __enter__(self) -> None:
        with self._lock:
            self._ends[self] = self._end

    def __exit__(self, *_: object) -> None:
        with self._lock:
            del self._ends[self]
