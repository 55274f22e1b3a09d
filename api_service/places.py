"""Places for what is slow: so many requests at once do it, and all others find threads free."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from api_service.problems import Problem

RETRY_AFTER_S: Final = 1


class Places:
    """A number of places. Nobody waits for one: that would hold a thread as the slow thing itself does."""

    def __init__(self, count: int, *, when_taken: str) -> None:
        self._free = threading.BoundedSemaphore(count)
        self._when_taken = when_taken

    @contextmanager
    def one(self) -> Iterator[None]:
        """Hold a place inside `with` this. Raises Problem 503 where all are taken."""
        if not self._free.acquire(blocking=False):
            raise Problem("busy", self._when_taken, headers={"Retry-After": str(RETRY_AFTER_S)})
        try:
            yield
        finally:
            self._free.release()
