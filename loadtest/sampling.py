"""Every second: CPU and memory of each part, outbox depth and age, consumer lag, and the database's figures."""

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import httpx
import psutil
import psycopg

from loadtest.measuring import Lines
from loadtest.results import Group

MIB: Final = 1024 * 1024
SERVICES: Final = ("api_service", "outbox_relay", "delivery_consumer", "dlq_consumer")
_LOOK_S: Final = 5.0
_SAMPLE: Final = re.compile(r"(?m)^([a-z_]+)(?:\{[^}]*\})? ([0-9.eE+-]+)$")


@dataclass(frozen=True, slots=True)
class Exposed:
    """A series at /metrics of a service, and the line it becomes."""

    service: str
    series: str
    fold: Callable[[list[float]], float]  # of all its labels and all processes of the service
    group: Group
    name: str
    unit: str


EXPOSED: Final = (
    Exposed("outbox_relay", "outbox_depth_rows", max, "backlog", "outbox rows", "rows"),
    Exposed("outbox_relay", "outbox_oldest_age_seconds", max, "lag", "oldest outbox row", "s"),
    Exposed("delivery_consumer", "kafka_consumer_lag", sum, "backlog", "consumer lag", "records"),
)


class Meter:
    """CPU and memory of one part: some processes with all they started."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._roots = [psutil.Process(pid) for pid in pids]
        self._cpu_s: dict[int, float] = {}
        self._last_at: float | None = None

    def read(self, now: float) -> tuple[float | None, float, float]:
        """Return percent of a core since the last reading (None the first time), MiB of all, MiB of the largest."""
        used_s, private, shared, largest = 0.0, 0.0, 0.0, 0.0
        seen: dict[int, float] = {}
        for process in self._processes():
            with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                times, memory = process.cpu_times(), process.memory_info()
                seen[process.pid] = times.user + times.system
                used_s += seen[process.pid] - self._cpu_s.get(process.pid, seen[process.pid])
                common = getattr(memory, "shared", 0)  # Linux: shared buffers would count once per backend
                private, shared = private + memory.rss - common, max(shared, common)
                largest = max(largest, memory.rss)
        self._cpu_s = seen
        took_s, self._last_at = (now - self._last_at if self._last_at is not None else 0.0), now
        percent = 100 * used_s / took_s if took_s > 0 else None
        return percent, (private + shared) / MIB, largest / MIB

    def _processes(self) -> list[psutil.Process]:
        found = []
        for root in self._roots:
            with suppress(psutil.NoSuchProcess):
                found += [root, *root.children(recursive=True)]
        return found


def exposed(text: str, name: str) -> list[float]:
    """The values of a series in Prometheus' text format, whatever its labels."""
    return [float(value) for found, value in _SAMPLE.findall(text) if found == name]


DATABASE: Final = """
    SELECT d.xact_commit, d.numbackends, pg_database_size(d.datid), pg_current_wal_lsn() - '0/0'::pg_lsn,
           (SELECT coalesce(sum(size), 0) FROM pg_ls_waldir()),
           (SELECT coalesce(sum(n_dead_tup), 0) FROM pg_stat_user_tables)
      FROM pg_stat_database d WHERE d.datname = current_database()
"""


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
            row = self._conn.execute(DATABASE).fetchone()
        except psycopg.Error:
            self.close()
            raise
        if row is None:
            return
        commits, backends, size, wal, wal_files, dead = (int(value) for value in row)
        lines.add("database", "connections", "", at_s, backends)
        lines.add("database", "size", "MiB", at_s, size / MIB)
        lines.add("database", "WAL on disk", "MiB", at_s, wal_files / MIB)
        lines.add("database", "dead rows", "rows", at_s, dead)
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
        self.largest_process_mib = 0.0  # of the four services, since `forget_largest`
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
            percent, mib, largest = meter.read(time.monotonic())
            self._lines.add("cpu", name, "% of a core", at_s, percent)
            self._lines.add("memory", name, "MiB", at_s, mib)
            if name in SERVICES:
                self.largest_process_mib = max(self.largest_process_mib, largest)
            self.now[f"cpu {name}"] = percent or 0.0
        if not self.leaves_services_alone:
            self._ask(at_s)
        if self._database is not None:
            with suppress(psycopg.Error):
                self._database.read(self._lines, at_s)

    def _ask(self, at_s: float) -> None:
        for service, urls in self._metrics.items():
            pages = []
            for url in urls:
                with suppress(httpx.HTTPError):
                    pages.append(self._http.get(f"{url}/metrics").text)
            for one in EXPOSED:
                values = [value for page in pages for value in exposed(page, one.series)]
                if one.service == service and values:
                    self.now[one.name] = float(one.fold(values))
                    self._lines.add(one.group, one.name, one.unit, at_s, self.now[one.name])
