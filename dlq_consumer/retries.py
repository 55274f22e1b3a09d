"""Bulk retries: those a person asked for, taken a step further each time. The state is in PostgreSQL, see the steps."""

import logging
import time
from typing import Any, Final
from uuid import UUID

from psycopg import Connection

from dlq_consumer import metrics
from shared.db import dlq_retry_steps

log = logging.getLogger(__name__)

STEP_EVERY_S: Final = 0.2
"""How often one is taken further while there are any: a rate of ten per second goes out two by two."""


class BulkRetries:
    """Executes all of them; any number of executors share the work."""

    def __init__(self, *, poll_s: float) -> None:
        self._poll_s = poll_s  # how often new ones are looked for while there are none
        self._next_look = 0.0

    def run_once(self, conn: Connection[Any]) -> int:
        """Take each open retry a step further, if it is time to; return how many dead letters were published again.

        A crash between two steps leaves nothing half done. Raises psycopg.OperationalError.
        """
        if time.monotonic() < self._next_look:
            return 0
        ids = dlq_retry_steps.open_ids(conn)
        retried = sum(self._step(conn, retry_id) for retry_id in ids)
        self._next_look = time.monotonic() + (min(STEP_EVERY_S, self._poll_s) if ids else self._poll_s)
        return retried

    def _step(self, conn: Connection[Any], retry_id: UUID) -> int:
        if status := dlq_retry_steps.settle(conn, retry_id):
            log.info("bulk_retry_moved", extra={"retry_id": str(retry_id), "status": status})
            if status in ("done", "stopped"):
                metrics.BULK_RETRIES_ENDED.labels(status).inc()
        sent = dlq_retry_steps.send(conn, retry_id)
        for failure_class, letters in (sent.by_failure_class or {}).items():
            metrics.BULK_RETRIED.labels(failure_class).inc(letters)
        return sent.retried
