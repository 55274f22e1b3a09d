"""The limit of accepting one by one: pgbench, a client in C, running the statement of the API."""

import re
import subprocess
from datetime import UTC, datetime
from typing import Any, Final, LiteralString, Self, cast
from uuid import UUID

from psycopg import Connection, sql
from psycopg.adapt import AdaptersMap

from infra.local.postgres import program
from loadtest.bench.bodies import items
from loadtest.bench.cpu import Meter
from loadtest.bench.figures import Sample
from loadtest.bench.frame import BenchError
from loadtest.bench.rig import Installation
from shared.db import accepting
from shared.db.accepting import NewNotification
from shared.model import Channel, OnUnknown, Priority, bucket_of, uuid7
from shared.records import Record, encode_record, record_headers

_TPS: Final = re.compile(r"tps = ([\d.]+) \(without initial connection time\)")
_TRANSACTIONS: Final = re.compile(r"transactions actually processed: (\d+)")
_PARAMETER: Final = re.compile(r"%\((\w+)\)s")
_THREADS: Final = 2


class PgbenchInsert:
    """`pgbench -M prepared` with the statement that accepts one notification, in the API's role."""

    def __init__(self, installation: Installation, *, clients: int, seconds: float) -> None:
        self.name, self.what = "pgbench", f"pgbench -M prepared, {clients} clients, the statement of the API"
        self._installation, self._clients, self._seconds = installation, clients, max(1, round(seconds))
        self._script = installation.rig.directory / "insert.sql"

    def setup(self) -> None:
        """Write the script."""
        self._script.write_text(insert_script())

    def round(self) -> Sample:
        """Run it for a while on empty tables."""
        self._installation.empty()
        options = ["-n", "-M", "prepared", f"-c{self._clients}", f"-j{_THREADS}", f"-T{self._seconds}"]
        meter = Meter({"postgres": self._installation.rig.postgres.process.pid})
        done = subprocess.run(
            [program("pgbench"), *options, f"--file={self._script}", self._installation.dsn_of("api_service")],
            capture_output=True,
            text=True,
            check=False,
            timeout=self._seconds + 60,
        )
        cpu_s = meter.read()
        per_s, count = _TPS.search(done.stdout), _TRANSACTIONS.search(done.stdout)
        if done.returncode != 0 or per_s is None or count is None:
            raise BenchError(f"pgbench ended with {done.returncode}: {done.stderr.strip()[-300:]}")
        return Sample(int(count[1]), int(count[1]) / float(per_s[1]), cpu_s)

    def teardown(self) -> None:
        """The script stays with the run's directory."""


class _Recorder:
    """Stands in for a connection and its cursor, and keeps what it is asked to execute."""

    autocommit = False  # so that it is asked as a connection of psycopg is
    rowcount = 1
    query: str = ""
    parameters: dict[str, Any]

    def __init__(self) -> None:
        self.adapters = AdaptersMap()

    def cursor(self) -> Self:
        return self

    def execute(self, query: str, parameters: dict[str, Any]) -> Self:
        self.query, self.parameters = query, parameters
        return self


def insert_script() -> str:
    """Return the API's own statement as a pgbench script: ids and instants made by PostgreSQL, all else constant."""
    recorder = _Recorder()
    accepting.insert(cast(Connection[Any], recorder), _a_notification())
    query = _PARAMETER.sub(lambda match: _literal(match[1], recorder.parameters[match[1]]), recorder.query)
    return " ".join(query.split()) + ";\n"


def _literal(name: str, value: Any) -> str:
    if name == "id":
        return "uuidv7()"
    if name == "created_at":
        return "now()"
    if isinstance(value, bytes):  # in hexadecimal: pgbench takes :name in a text for a variable of its own
        return f"'\\x{value.hex()}'::bytea"
    if value is None:
        return "NULL"
    return sql.Literal(str(cast(LiteralString, value))).as_string(None)


def _a_notification() -> NewNotification:
    (item,) = items(1, 1, channels=("email",))
    notification_id: UUID = uuid7()
    key = str(notification_id).encode()
    record = Record(
        id=str(notification_id),
        tenant_id="default",
        channel=Channel.EMAIL,
        recipient=item["recipient"],
        message=item["message"],
        subject=item["subject"],
        metadata=item["metadata"],
        created_at="2030-01-31T09:00:00.000Z",
    )
    return NewNotification(
        id=notification_id,
        tenant_id=record.tenant_id,
        channel=record.channel,
        recipient=record.recipient,
        priority=Priority.NORMAL,
        on_unknown=OnUnknown.RETRY,
        created_at=datetime.now(UTC),
        bucket=bucket_of(key),
        topic="bench.email",
        key=key,
        record=encode_record(record),
        headers=record_headers(attempt=1),
    )
