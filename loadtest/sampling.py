"""Every second: CPU and memory of each part, outbox depth and age, consumer lag, and the database's figures."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import httpx
import psutil
import psycopg

from loadtest.bench.metrics import parse
from loadtest.limits import SERVICES
from loadtest.measuring import Lines
from loadtest.results import Group

MIB: Final = 1024 * 1024
LARGE_ROWS: Final = 100_000
"""Of a table of fewer rows even the share of the dead that autovacuum leaves by its settings can be anything."""
_LOOK_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Exposed:
    """A series at /metrics of a service, and the line it becomes."""

    service: str
    series: str
    fold: Callable[[list[float]], float]  # of all processes of the service, each the sum over its labels
    group: Group
    name: str
    unit: str


EXPOSED: Final = (
    Exposed("outbox_relay", "outbox_depth_rows", max, "backlog", "outbox rows", "rows"),
    Exposed("outbox_relay", "outbox_oldest_age_seconds", max, "lag", "oldest outbox row", "s"),
    Exposed("delivery_consumer", "kafka_consumer_lag", sum, "backlog", "consumer lag", "records"),
)


class Reading(NamedTuple):
    """What a part takes."""

    cpu_percent: float | None  # of a core since the last reading; None the first time
    mib: float
    largest_mib: float  # of its processes
    files: int
    threads: int


class Meter:
    """CPU, memory and handles of one part: some processes with all they started."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._roots = [psutil.Process(pid) for pid in pids]
        self._last: tuple[float, float] | None = None  # when, and the CPU-seconds until then

    def read(self, now: float) -> Reading:
        """Read all processes; those that have just ended are in the CPU of whoever waited for them."""
        used_s, private, shared, largest, files, threads = 0.0, 0, 0, 0, 0, 0
        for process in self._processes():
            with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                used_s += sum(process.cpu_times()[:4])  # user, system, and both of its children that ended
                memory = process.memory_info()
                common = getattr(memory, "shared", 0)  # Linux: shared buffers would count once per backend
                private, shared = private + memory.rss - common, max(shared, common)
                largest = max(largest, memory.rss)
                files, threads = files + process.num_fds(), threads + process.num_threads()
        last, self._last = self._last, (now, used_s)
        percent = 100 * max(0.0, used_s - last[1]) / (now - last[0]) if last and now > last[0] else None
        return Reading(percent, (private + shared) / MIB, largest / MIB, files, threads)

    def _processes(self) -> list[psutil.Process]:
        found = []
        for root in self._roots:
            with suppress(psutil.NoSuchProcess):
                found += [root, *root.children(recursive=True)]
        return found


DATABASE: Final = """
    SELECT d.xact_commit, pg_current_wal_lsn() - '0/0'::pg_lsn,
           (SELECT count(*) FROM pg_stat_activity WHERE datid = d.datid AND backend_type = 'client backend'),
           pg_database_size(d.datid) / 1048576.0, (SELECT coalesce(sum(size), 0) / 1048576.0 FROM pg_ls_waldir()),
           t.dead, t.outbox, t.share
      FROM pg_stat_database d,
           (SELECT coalesce(sum(n_dead_tup), 0) AS dead,
                   coalesce(sum(n_dead_tup) FILTER (WHERE relname = 'outbox'), 0) AS outbox,
                   max(n_dead_tup::float8 / nullif(n_live_tup + n_dead_tup, 0))
                       FILTER (WHERE relname <> 'outbox' AND n_live_tup + n_dead_tup >= %(large)s) AS share
              FROM pg_stat_user_tables) t
     WHERE d.datname = current_database()
"""
GAUGES: Final = (
    ("connections", ""),
    ("size", "MiB"),
    ("WAL on disk", "MiB"),
    ("dead rows", "rows"),
    ("dead rows of outbox", "rows"),
    ("dead share of large tables", "share"),
)


class DatabaseFigures:
    """What PostgreSQL counts about itself; one connection, made anew when it is lost."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._conn: psycopg.Connection[Any] | None = None
        self._last: tuple[float, int, int] | None = None

    def read(self, lines: Lines, at_s: float) -> None:
        """Add a point to each of its lines. Raises psycopg.Error."""
        try:
            if self._conn is None:
                self._conn = psycopg.connect(self._url, autocommit=True, connect_timeout=5)
            row = self._conn.execute(DATABASE, {"large": LARGE_ROWS}).fetchone()
        except psycopg.Error:
            self.close()
            raise
        if row is None:
            return
        commits, wal = int(row[0]), int(row[1])
        for (name, unit), value in zip(GAUGES, row[2:], strict=True):
            lines.add("database", name, unit, at_s, None if value is None else float(value))
        if self._last is not None and at_s > self._last[0]:
            took_s = at_s - self._last[0]
            lines.add("database", "commits", "1/s", at_s, (commits - self._last[1]) / took_s)
            lines.add("database", "WAL written", "MiB/s", at_s, (wal - self._last[2]) / took_s / MIB)
        self._last = (at_s, commits, wal)

    def close(self) -> None:
        """Close the connection."""
        if self._conn is not None:
            self._conn.close()
            self._conn = None


class Sampler:
    """Looks every so often, on a thread of its own; what cannot be read just now is left out."""

    def __init__(
        self,
        lines: Lines,
        *,
        clock: Callable[[], float],
        parts: Mapping[str, Sequence[int]],
        metrics: Mapping[str, Sequence[str]],
        database_url: str | None,
        every_s: float,
    ) -> None:
        self._lines, self._clock, self._every_s = lines, clock, every_s
        self._meters = {name: Meter(pids) for name, pids in parts.items() if pids}
        self._metrics = {name: metrics[name] for name in metrics if name in {one.service for one in EXPOSED}}
        self._database = DatabaseFigures(database_url) if database_url else None
        self._http = httpx.Client(timeout=_LOOK_S, trust_env=False)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
        self.largest_process_mib = 0.0  # of the four services, since it was set to 0
        self.leaves_services_alone = False  # no /metrics: while idleness is measured, answering is not it
        self.now: dict[str, float] = {}  # the last values, for the live view

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2 * _LOOK_S)
        self._http.close()
        if self._database is not None:
            self._database.close()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            self.look()
            due = max(due + self._every_s, time.monotonic())

    def look(self) -> None:
        """Look once at everything."""
        at_s = self._clock()
        for name, meter in self._meters.items():
            reading = meter.read(time.monotonic())
            self._lines.add("cpu", name, "% of a core", at_s, reading.cpu_percent)
            self._lines.add("memory", name, "MiB", at_s, reading.mib)
            if name in SERVICES:
                self._lines.add("handles", f"{name} files", "files", at_s, reading.files)
                self._lines.add("handles", f"{name} threads", "threads", at_s, reading.threads)
                self.largest_process_mib = max(self.largest_process_mib, reading.largest_mib)
            self.now[f"cpu {name}"] = reading.cpu_percent or 0.0
        if not self.leaves_services_alone:
            self._ask(at_s)
        if self._database is not None:
            with suppress(psycopg.Error):
                self._database.read(self._lines, at_s)

    def _ask(self, at_s: float) -> None:
        for service, urls in self._metrics.items():
            pages = []
            for url in urls:
                with suppress(httpx.HTTPError, ValueError):  # gone, or no exposition
                    pages.append(parse(self._http.get(f"{url}/metrics").text))
            for one in EXPOSED:
                values = [page[one.series] for page in pages if one.series in page]
                if one.service == service and values:
                    self.now[one.name] = float(one.fold(values))
                    self._lines.add(one.group, one.name, one.unit, at_s, self.now[one.name])
