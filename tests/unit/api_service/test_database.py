"""Work on a database whose connections break: what is done again, and what is known of what was begun."""

from typing import Any

import psycopg
import pytest
from psycopg_pool import PoolTimeout

from api_service.database import Database, DatabaseUnavailableError


class Conn:
    """A connection that can break."""

    broken = False


class Pool:
    """Hands out connections, a number of them."""

    def __init__(self, count: int) -> None:
        self.left, self.drained = count, 0

    def getconn(self, timeout: float) -> Conn:
        if not self.left:
            raise PoolTimeout
        self.left -= 1
        return Conn()

    def putconn(self, conn: Conn) -> None:
        """Take it back."""

    def drain(self) -> None:
        self.drained += 1

    def close(self) -> None:
        """Hold nothing."""


def breaks(conn: Any) -> None:
    """Work whose connection breaks under it."""
    conn.broken = True
    raise psycopg.OperationalError


@pytest.mark.parametrize(
    ("connections", "reason", "may_be_done"),
    [(0, "no_connection", False), (1, "no_connection", True), (2, "connection_broke", True)],
    ids=["away", "restarted and away again", "each of them breaks"],
)
def test_what_met_a_broken_connection_may_be_done(connections: int, reason: str, may_be_done: bool) -> None:
    """Also where there was no other one to do it again on; what met none is surely not."""
    pool = Pool(connections)
    database = Database(pool)  # type: ignore[arg-type]

    with pytest.raises(DatabaseUnavailableError) as caught:
        database.run(breaks)
    database.close()

    assert (caught.value.reason, caught.value.may_be_done) == (reason, may_be_done)
    assert (pool.left, pool.drained) == (0, connections > 0)


def test_a_statement_that_is_not_repeatable_is_not_begun_again() -> None:
    """It may be committed, though nobody said so. What is a tenant's one transaction: test_outages.py."""
    pool = Pool(2)
    database = Database(pool)  # type: ignore[arg-type]

    with pytest.raises(DatabaseUnavailableError) as caught:
        database.run(breaks, repeatable=False)
    database.close()

    assert (caught.value.may_be_done, pool.left) == (True, 1)
