"""What a fault may reach for."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from shared.db import OUTAGE
from tests.chaos.keeper import Keeper
from tests.chaos.ledger import Ledger, now
from tests.chaos.topology import DATABASE, Topology


@dataclass(frozen=True)
class World:
    """The run as its faults see it. `began_at` is the instant of the ledgers' clock that the plan counts from."""

    topology: Topology
    keeper: Keeper
    ledger: Ledger  # of faults
    run_dir: Path
    began_at: float

    def note(self, event: str, **fields: Any) -> None:
        """Write to the ledger of faults."""
        self.ledger.write({"e": event, "t": now(), **fields})

    @contextmanager
    def connection(self, *, statement_timeout_s: float = 60.0) -> Iterator["psycopg.Connection[tuple[Any, ...]]"]:
        """A superuser's connection to the database, past all proxies. Raises psycopg.OperationalError in an outage."""
        dsn = self.topology.postgres.dsn(DATABASE)
        options = f"-c statement_timeout={statement_timeout_s * 1000:.0f}"
        with psycopg.connect(dsn, autocommit=True, connect_timeout=5, options=options) as conn:
            yield conn

    def rows(self, query: Any, *parameters: Any, within_s: float = 60.0) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        with self.connection(statement_timeout_s=within_s) as conn:
            return conn.execute(query, parameters or None).fetchall()

    def value(self, query: Any, *parameters: Any, default: Any = None) -> Any:
        """The first value of a query; `default` where it has none, or PostgreSQL is away or busy for 3 s."""
        try:
            rows = self.rows(query, *parameters, within_s=3.0)
        except OUTAGE:
            return default
        return rows[0][0] if rows else default
