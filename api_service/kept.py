"""What is remembered for a few seconds: a bounded number of things, the one written longest ago dropped first."""

import threading
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Kept(Generic[K, V]):
    """A bounded dictionary for several threads. Reading takes no lock: it happens at each request."""

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self._values: dict[K, V] = {}
        self._lock = threading.Lock()
        self.get = self._values.get

    def put(self, key: K, value: V) -> None:
        """Remember a value, as the one written last."""
        with self._lock:
            self._values.pop(key, None)
            while len(self._values) >= self._at_most:
                del self._values[next(iter(self._values))]
            self._values[key] = value

    def drop(self, key: K) -> None:
        """Forget a value."""
        with self._lock:
            self._values.pop(key, None)

    def __len__(self) -> int:
        return len(self._values)
