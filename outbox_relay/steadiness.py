"""Noticing that the database's clock jumped: leases must not all be over at once because of it."""

import time
from collections.abc import Callable
from typing import Any, Final

from psycopg import Connection

JUMP_S: Final = 1.0
"""How far the server's clock may get away from ours between two looks; leases are several times as long."""


class ServerClock:
    """Compares now() of the server with our monotonic clock, from one look to the next.

    Where both moved by the same the server's clock runs as clocks do. An answer that took long proves nothing, so the
    time of each look is taken as an interval. A process that was stopped, or a machine that slept, looks like a jump
    where its monotonic clock slept as well, and is treated as one: owners get the time to renew.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._last: tuple[float, float, float] | None = None  # ours before and after, the server's

    def jumped(self, conn: Connection[Any]) -> bool:
        """Look at the server's now() and say whether it moved otherwise than ours since the last look.

        Inside a transaction now() stands still: what follows there goes by the very instant that was judged.
        """
        before = self._monotonic()
        server = float(conn.execute("SELECT extract(epoch FROM now())::float8").fetchall()[0][0])
        after = self._monotonic()
        last, self._last = self._last, (before, after, server)
        if last is None:
            return False
        moved = server - last[2]
        return not before - last[1] - JUMP_S <= moved <= after - last[0] + JUMP_S
