"""Combining: what arrives while a statement is under way is written together, by the next one.

PostgreSQL shares an fsync among sessions that commit at once, but not the work of a statement. Here a process has one
accepting statement under way at a time, and its other threads' notifications wait for the next: none waits where
nothing is under way, and the more arrive, the cheaper each becomes.

The threads of the requests do it themselves. One that finds nothing under way writes at once; the others wait, and when
a statement has ended the first of them writes for all that wait by then. So there is no thread to keep alive, to drain
or to find dead: whoever waits, waits for a statement that a request under way has begun, or is told to begin one.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from api_service.database import DatabaseUnavailableError, unavailable
from shared.db.accepting import NewNotification

log = logging.getLogger(__name__)

MAX_TOGETHER: Final = 100
MAX_TOGETHER_BYTES: Final = 1024 * 1024
"""A statement takes no more than this, unless a single notification is larger."""

Write = Callable[[list[NewNotification]], None]
"""Writes notifications, all or none; returns once they are committed. Writing again what was written does no harm."""


class Combiner:
    """Writes notifications of one process, one statement at a time. Safe from any thread; to be made after the fork."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._lock = threading.Lock()
        self._waiting: deque[_Entry] = deque()
        self.is_writing = False  # a statement is under way, or somebody has been told to begin one

    @property
    def waiting(self) -> int:
        """Return how many wait for the statement under way to end."""
        return len(self._waiting)

    def write(self, news: list[NewNotification]) -> None:
        """Return once these are committed; a single one goes together with others where others were waiting.

        What the database as a whole cannot do now (DatabaseUnavailableError) is so for all of a statement. At any other
        error nothing of it was written, and each writes its own alone, so that a fault stays with its notification.
        """
        if len(news) != 1:
            self._write(news)
            return
        entry = _Entry(news[0])
        with self._lock:
            if self.is_writing:
                self._waiting.append(entry)
            else:
                self.is_writing = True
                entry.together = [entry]
        if entry.together is None:
            entry.wait()
        if entry.together is not None:
            self._write_all(entry.together)
        if entry.reason is not None:
            raise unavailable(entry.reason)
        if not entry.is_written:
            self._write(news)

    def _write_all(self, together: list["_Entry"]) -> None:
        """Write for all of these, the first of which is this thread's own; then the next may."""
        try:
            self._write([entry.new for entry in together])
            for entry in together:
                entry.is_written = True
        except DatabaseUnavailableError as error:
            for entry in together:
                entry.reason = error.reason
            raise
        except Exception:
            if len(together) == 1:
                raise
            log.warning("combined_write_failed", extra={"together": len(together)}, exc_info=True)
        finally:
            self._hand_on()
            for entry in together[1:]:
                entry.wake()

    def _hand_on(self) -> None:
        """Have the first of those that wait write for as many as a statement takes."""
        together: list[_Entry] = []
        size = 0
        with self._lock:
            while self._waiting and len(together) < MAX_TOGETHER:
                size += len(self._waiting[0].new.record)
                if together and size > MAX_TOGETHER_BYTES:
                    break
                together.append(self._waiting.popleft())
            self.is_writing = bool(together)
        if together:
            together[0].together = together
            together[0].wake()


class _Entry:
    """One notification on its way, and what has become of it."""

    def __init__(self, new: NewNotification) -> None:
        self.new = new
        self.together: list[_Entry] | None = None  # for the one that writes: with whom
        self.is_written = False
        self.reason: str | None = None  # why the database could not
        self._woken = threading.Lock()
        self._woken.acquire()

    def wait(self) -> None:
        """Wait for wake(), which bounds the wait as each statement is bounded: see api_service.database."""
        self._woken.acquire()

    def wake(self) -> None:
        """End the wait, begun or not."""
        self._woken.release()
