"""The limit of accepting in batches: COPY of the very rows the API wrote, into the same tables."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, LiteralString

import psycopg
import uvloop

from loadtest.bench.cpu import Meter
from loadtest.bench.figures import Sample
from loadtest.bench.frame import BenchError
from loadtest.bench.http_client import drive
from loadtest.bench.rig import Installation

_ROWS: Final = 1_000
_OUTBOX: Final[LiteralString] = "notification_id, bucket, topic, key, value, headers, created_at"
Chunk = tuple[bytes, bytes]
"""A thousand notifications and their outbox rows, in COPY's binary format, the faster one."""


class CopyBatches:
    """Writes chunks of a thousand rows per table, each chunk a transaction of two COPY commands.

    The rows are those the API wrote for the same requests, fetched back once and kept as the bytes COPY takes: no
    validation, no ids, no JSON, nothing but the database and the driver. The tables' owner writes them: COPY FROM is
    refused where row-level security binds.
    """

    def __init__(
        self, installation: Installation, requests: Sequence[bytes], *, batches: int, passes: int, connections: int
    ) -> None:
        self.name = f"COPY, {connections} connection{'s' if connections > 1 else ''}"
        self.what = f"two COPY commands per {_ROWS:,} rows and transaction, the rows ready as bytes"
        self._installation, self._requests = installation, requests
        self._batches, self._passes, self._connections = batches, passes, connections
        self._chunks: list[Chunk] = []

    def setup(self) -> None:
        """Have the API write the rows, and fetch them back."""
        self._installation.empty()
        with self._installation.running("api_service") as api:
            answers = uvloop.run(drive(api.port, self._requests, connections=1, count=self._batches))
        answers.expect(202)
        with self._installation.connect() as conn:
            self._chunks = [_chunk(conn, number) for number in range(self._batches)]

    def round(self) -> Sample:
        """Write all chunks several times, each time into empty tables; emptying them is not counted."""
        passes = [self._pass() for _ in range(self._passes)]
        cpu_s = {process: sum(one.cpu_s[process] for one in passes) for process in passes[0].cpu_s}
        return Sample(sum(one.work for one in passes), sum(one.wall_s for one in passes), cpu_s)

    def _pass(self) -> Sample:
        self._installation.empty()
        shares = [self._chunks[number :: self._connections] for number in range(self._connections)]
        conns = [psycopg.connect(self._installation.dsn, autocommit=True) for _ in shares]
        try:
            meter = Meter({"postgres": self._installation.rig.postgres.process.pid})
            client_began, began = time.process_time(), time.perf_counter()
            with ThreadPoolExecutor(len(shares)) as pool:
                for done in [pool.submit(_write, conn, share) for conn, share in zip(conns, shares, strict=True)]:
                    done.result()
            took_s, client_s = time.perf_counter() - began, time.process_time() - client_began
            cpu_s = meter.read() | {"client": client_s}
        finally:
            for conn in conns:
                conn.close()
        return Sample(len(self._chunks) * _ROWS, took_s, cpu_s)

    def teardown(self) -> None:
        """Let the rows go."""
        self._chunks = []


def _chunk(conn: psycopg.Connection[Any], number: int) -> Chunk:
    window = f"ORDER BY id LIMIT {_ROWS} OFFSET {number * _ROWS}"
    ids = f"SELECT id FROM notifications {window}"
    return (
        _read(conn, f"SELECT * FROM notifications {window}"),
        _read(conn, f"SELECT {_OUTBOX} FROM outbox WHERE notification_id IN ({ids}) ORDER BY seq"),
    )


def _read(conn: psycopg.Connection[Any], query: str) -> bytes:
    cursor = conn.cursor()
    with cursor.copy(f"COPY ({query}) TO STDOUT (FORMAT binary)".encode()) as copy:
        content = b"".join(bytes(block) for block in copy)
    if cursor.rowcount != _ROWS:
        raise BenchError("the API did not write a row and an outbox row for each item")
    return content


def _write(conn: psycopg.Connection[Any], chunks: Sequence[Chunk]) -> None:
    cursor = conn.cursor()
    for notifications, outbox in chunks:
        with conn.transaction():
            with cursor.copy("COPY notifications FROM STDIN (FORMAT binary)") as copy:
                copy.write(notifications)
            with cursor.copy(f"COPY outbox ({_OUTBOX}) FROM STDIN (FORMAT binary)".encode()) as copy:
                copy.write(outbox)
