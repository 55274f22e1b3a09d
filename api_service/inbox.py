"""What the test receiver has received: the last hundred requests, in a file that all processes of one server share."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import orjson
from werkzeug.datastructures import Headers

KEPT: Final = 100
SHOWN_HEADERS: Final = (
    "Content-Type",
    "User-Agent",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "notification-attempt",
    "traceparent",
)


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came in."""

    number: int
    received_at: str
    headers: dict[str, str]
    body: bytes


class Inbox:
    """Keeps the last hundred bodies. A connection per call: this is a tool for trying things out, not a hot path."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def keep(self, headers: Headers, body: bytes) -> int:
        """Keep a body and the headers worth showing; forget the oldest. Returns its number, from 1."""
        shown = {name.lower(): headers[name] for name in SHOWN_HEADERS if name in headers}
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        with closing(self._open()) as db, db:
            row = db.execute(
                "INSERT INTO received (received_at, headers, body) VALUES (?, ?, ?) RETURNING number",
                (now, orjson.dumps(shown), body),
            ).fetchone()
            db.execute("DELETE FROM received WHERE number <= ?", (row[0] - KEPT,))
        return int(row[0])

    def received(self) -> list[Received]:
        """Return what is kept, newest first."""
        with closing(self._open()) as db:
            rows = db.execute("SELECT number, received_at, headers, body FROM received ORDER BY number DESC").fetchall()
        return [Received(number, at, orjson.loads(headers), body) for number, at, headers, body in rows]

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, timeout=2.0)
        db.execute(
            "CREATE TABLE IF NOT EXISTS received (number INTEGER PRIMARY KEY AUTOINCREMENT, received_at TEXT NOT NULL,"
            " headers BLOB NOT NULL, body BLOB NOT NULL)"
        )
        return db
