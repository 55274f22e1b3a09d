"""The peers as contenders: other people's programs, in an environment of their own, doing the same work."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from psycopg.sql import SQL, Identifier

from loadtest.bench.figures import Sample
from loadtest.bench.frame import Contender, ContenderUnavailableError
from loadtest.bench.outbox_rows import SOURCE, parameters
from loadtest.bench.rig import Installation, Rig
from loadtest.peers import environment, settings

RELAYS: Final = {
    # The program of each peer that relays, and how many rows it can move in some seconds.
    "txoutbox": ("txoutbox_relay", 100_000),
    "faststream-outbox": ("faststream_relay", 20_000),
    "PgQueuer": ("pgqueuer_worker", 50_000),
    "procrastinate": ("procrastinate_worker", 5_000),
}
QUEUES: Final = ("PgQueuer", "procrastinate")
_WITHIN_S: Final = 180.0


class PeerProgram:
    """A peer that drains a table of its own: it is filled, and its program timed from the first row to the last."""

    def __init__(
        self,
        installation: Installation,
        peer: str,
        *,
        rows: int | None = None,
        noop: bool = False,
        name: str | None = None,
        changed: Mapping[str, Any] | None = None,
    ) -> None:
        self._module, some = RELAYS[peer]
        self._rows = rows or installation.rig.plan.pick(some, 200)
        self._installation, self._noop, self._changed = installation, noop, dict(changed or {})
        does = "jobs that do nothing, " if noop else ""
        self.name, self.what = name or peer, f"{does}{described(peer, self._changed)}; {self._rows:,} rows"
        self._python: Path | None = None

    def setup(self) -> None:
        """Find its environment. Raises ContenderUnavailableError."""
        try:
            self._python = environment.program("python")
        except environment.NotInstalledError as error:
            raise ContenderUnavailableError(str(error)) from error

    def round(self) -> Sample:
        """Make what its rows are copied from, and run its program."""
        with self._installation.connect() as conn:
            conn.execute("CREATE TABLE IF NOT EXISTS bench_source (key text NOT NULL, value bytea NOT NULL)")
            conn.execute("TRUNCATE bench_source")
            query = f"INSERT INTO bench_source SELECT key, convert_to(value, 'UTF8') FROM ({SOURCE}) source"
            conn.execute(query, parameters("", self._rows))
        self._installation.execute("CHECKPOINT")
        environ = self._installation.environ(
            BENCH_BROKERS=self._installation.brokers,
            BENCH_TOPIC=f"{self._installation.topics.prefix}.webhook",
            BENCH_COUNT=str(self._rows),
            BENCH_NOOP=str(int(self._noop)),
            BENCH_SETTINGS=json.dumps(self._changed),
        )
        argv: list[str | Path] = [self._python or "", "-m", f"loadtest.peers.programs.{self._module}"]
        report = self._installation.rig.run_program(self._module, argv, environ, timeout_s=_WITHIN_S)
        return Sample(report["work"], report["wall_s"], {"peer": report["cpu_s"]})

    def teardown(self) -> None:
        """Its tables go with the database."""


def described(peer: str, changed: Mapping[str, Any]) -> str:
    """Return a peer's settings in a line."""
    return ", ".join(f"{name} {value}" for name, value in {**settings.of(peer), **changed}.items())


def relaying(rig: Rig, name: str, *, brokers: str | None) -> Installation:
    """Return an installation for peers that relay.

    Their commits wait for the disk no more than our relay's do (`outbox_relay/relay.py`), and for the same reason: what
    a crash takes back is a claim or a delete, so a record comes twice, and none is lost.
    """
    installation = rig.installation(name, brokers=brokers)
    with installation.connect() as conn:
        conn.execute(SQL("ALTER DATABASE {} SET synchronous_commit = off").format(Identifier(conn.info.dbname)))
    return installation


def relay_peers(rig: Rig, *, brokers: str | None) -> list[Contender]:
    """Return the peers that relay to Kafka, each with as many rows as it can move in some seconds."""
    installation = relaying(rig, "peers" if brokers is None else "peers_mock", brokers=brokers)
    return [PeerProgram(installation, peer) for peer in RELAYS]


def queue_peers(rig: Rig) -> list[Contender]:
    """Return the peers that are queues in PostgreSQL, with jobs that do nothing; commits wait for the disk, as ours."""
    installation = rig.installation("queues", brokers="none:0")
    return [PeerProgram(installation, peer, noop=True) for peer in QUEUES]
