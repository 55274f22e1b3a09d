"""The API with parts exchanged, named in BENCH_EXCHANGE and separated by commas; all else is the API's own.

two-inserts   a write is BEGIN, INSERT, INSERT, COMMIT, as most services do it: four round trips
behind-flask  no request is served in front of Flask
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final
from wsgiref.types import WSGIApplication

from flask import Flask
from psycopg import Connection
from psycopg.types.json import Jsonb

# The variable that prometheus_client looks for at its import was set by whoever started this.
from api_service import __main__ as service
from api_service import accept, app
from shared.db.accepting import NewNotification

USED_FILE: Final = "BENCH_USED_FILE"
"""Names a file that the first exchanged write makes: proof that the exchange took place."""


def _write_two_inserts(conn: Connection[Any], news: Sequence[NewNotification]) -> None:
    """Write notifications and their outbox rows, a statement for each row; the first of two says for which tenant."""
    with conn.transaction():
        for new in news:
            conn.execute(
                """
                WITH t AS (SELECT set_config('notify.tenant', %s, true) AS tenant_id)
                INSERT INTO notifications (tenant_id, id, channel, recipient, priority, ordering_key, on_unknown,
                                           status, expires_at, created_at, bucket, topic, traceparent, correlation_id,
                                           record)
                SELECT tenant_id, %s, %s, %s, %s, %s, %s, 'pending', %s::timestamptz, %s, %s, %s, %s, %s, %s FROM t
                """,
                (new.tenant_id, new.id, new.channel, new.recipient, new.priority, new.ordering_key, new.on_unknown,
                 new.expires_at, new.created_at, new.bucket, new.topic, new.traceparent, new.correlation_id,
                 new.record),
            )  # fmt: skip
            conn.execute(
                "INSERT INTO outbox (notification_id, bucket, topic, key, value, headers)"
                " VALUES (%s, %s, %s, %s, %s, %s)",
                (new.id, new.bucket, new.topic, new.key, new.record, Jsonb(new.headers)),
            )


def _note_and_write(conn: Connection[Any], news: Sequence[NewNotification]) -> None:
    Path(os.environ[USED_FILE]).touch()
    accept.write = _write_two_inserts
    _write_two_inserts(conn, news)


def _behind(application: Flask) -> WSGIApplication:
    return application.wsgi_app


def _replace(module: Any, name: str, substitute: object) -> None:
    if not hasattr(module, name):
        raise SystemExit(f"{module.__name__}.{name} is gone: say here what does its work now")
    setattr(module, name, substitute)


_EXCHANGES: Final[dict[str, Callable[[], None]]] = {
    "two-inserts": lambda: _replace(accept, "write", _note_and_write),
    "behind-flask": lambda: _replace(app, "Direct", _behind),
}


def main() -> None:
    """Run the API until SIGTERM."""
    for name in os.environ["BENCH_EXCHANGE"].split(","):
        _EXCHANGES[name]()
    service.main()


if __name__ == "__main__":
    main()
