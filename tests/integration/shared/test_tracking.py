"""Dead letters are tracked by batches, each one exchange with PostgreSQL."""

import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from shared.db import dlq_messages
from shared.db.accepting import NewNotification
from shared.db.pipelining import Pipeline
from tests.integration.shared.conftest import Conn
from tests.integration.shared.steps import begin, rows, tracked


def test_a_process_that_is_stopped_once_a_batch_is_sent_holds_no_row(
    conn: Conn, other: Conn, new: Callable[..., NewNotification], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it sent is committed without its taking the answers: whoever has its partition next waits for nobody."""
    letters = [tracked(one) for one in (new(), new()) if begin(conn, one)]
    fetch, committed = Pipeline._fetch_gen, []

    def stopped(pipeline: Pipeline, **options: Any) -> Any:
        deadline = time.monotonic() + 5
        while (found := rows(other, "SELECT count(*) FROM dlq_messages")[0][0]) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        committed.append(found)
        return fetch(pipeline, **options)

    monkeypatch.setattr(Pipeline, "_fetch_gen", stopped)
    dlq_messages.track(conn, letters)

    assert committed == [2]


def test_a_batch_of_which_postgresql_refuses_one_is_not_tracked_at_all(
    conn: Conn, new: Callable[..., NewNotification]
) -> None:
    """It is one transaction: the batch is read again, and its offsets are not committed."""
    first, second = new(), new()
    for one in (first, second):
        begin(conn, one)

    with pytest.raises(psycopg.DataError):
        dlq_messages.track(conn, [tracked(first), tracked(second, partition=2**40)])

    assert rows(conn, "SELECT count(*) FROM dlq_messages") == [(0,)]
