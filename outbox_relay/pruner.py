"""The walk of retention: through what is old enough, chunk by chunk, then a rest."""

import time
from collections.abc import Callable
from typing import Any, Final

from psycopg import Connection

from shared.db import pruning
from shared.db.ledger import FIRST_ID, id_at

WALK_ROWS: Final = 1_000
_REST_S: Final = 60.0
_DAY_S: Final = 86_400.0


class Pruner:
    """Remembers how far it got; losing that costs another walk. `keep_days` 0 keeps everything for ever."""

    def __init__(
        self, keep_days: int, idempotency_keep_s: float, clock: Callable[[], float] = time.time, limit: int = WALK_ROWS
    ) -> None:
        self._keep_s = max(keep_days * _DAY_S, idempotency_keep_s) if keep_days else None
        self._clock, self._limit = clock, limit
        self._after = FIRST_ID
        self._rest_until = 0.0

    def run_once(self, conn: Connection[Any]) -> int:
        """Look at the next stretch and return how many notifications were deleted; at the end of the walk, rest."""
        now = self._clock()
        if self._keep_s is None or (self._after == FIRST_ID and now < self._rest_until):
            return 0
        before = id_at(now - self._keep_s)
        done = pruning.prune(conn, after=self._after, before=before, older_than_s=self._keep_s, limit=self._limit)
        self._after = done.last or FIRST_ID
        if done.last is None:
            self._rest_until = now + _REST_S
            pruning.prune_undecodable(conn, older_than_s=self._keep_s, limit=self._limit)
        return done.rows
