"""Transports that remember, and looks made by hand."""

import asyncio
from collections import Counter
from typing import Any

from loadtest.measuring import Look


class Transport(asyncio.Transport):
    """Remembers what was written to it."""

    def __init__(self, protocol: Any = None) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = False
        self._protocol = protocol

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        if not self.closed:
            self.closed = True
            if self._protocol is not None:
                self._protocol.connection_lost(None)

    def said(self) -> bytes:
        """What was written since the last time."""
        said = bytes(self.written)
        self.written.clear()
        return said


def a_look(at_s: float, *, asked: int = 0, accepted: int = 0, received: int = 0, refused: int = 0) -> Look:
    counts = Counter(asked=asked, accepted=accepted, received=received, refused=refused)
    return Look(at_s, 1.0, counts, received=Counter(webhook=received))
