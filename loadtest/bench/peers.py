"""The peers as contenders: other people's programs, in an environment of their own, doing the same work."""

from pathlib import Path
from typing import Final

from loadtest.bench.figures import Sample
from loadtest.bench.frame import Contender, ContenderUnavailableError, Plan
from loadtest.bench.outbox_rows import SOURCE, parameters
from loadtest.bench.rig import Installation, Rig
from loadtest.peers import environment, settings

_WITHIN_S: Final = 180.0


class PeerProgram:
    """A peer that drains a table of its own: it is filled, and its program timed from the first row to the last."""

    def __init__(self, installation: Installation, name: str, module: str, what: str, *, rows: int, noop: bool) -> None:
        self.name, self.what = name, f"{what}; {rows:,} rows"
        self._installation, self._module, self._rows, self._noop = installation, module, rows, noop
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
        )
        argv: list[str | Path] = [self._python or "", "-m", f"loadtest.peers.programs.{self._module}"]
        report = self._installation.rig.run_program(self._module, argv, environ, timeout_s=_WITHIN_S)
        return Sample(report["work"], report["wall_s"], {"peer": report["cpu_s"]})

    def teardown(self) -> None:
        """Its tables go with the database."""


def relay_peers(rig: Rig, plan: Plan, *, brokers: str | None) -> list[Contender]:
    """Return the peers that relay to Kafka, each with as many rows as it can move in some seconds."""
    tx, fast = settings.TXOUTBOX, settings.FASTSTREAM_OUTBOX
    installation = rig.installation("peers" if brokers is None else "peers_mock", brokers=brokers)

    def peer(name: str, module: str, what: str, rows: int) -> Contender:
        return PeerProgram(installation, name, module, what, rows=plan.pick(rows, 200), noop=False)

    return [
        peer("txoutbox", "txoutbox_relay", f"batches of {tx['batch_size']}, {tx['concurrency']} at once", 100_000),
        peer(
            "faststream-outbox",
            "faststream_relay",
            f"{fast['max_workers']} workers, batches of {fast['fetch_batch_size']}",
            20_000,
        ),
        *_queues(installation, plan, noop=False),
    ]


def queue_peers(rig: Rig, plan: Plan) -> list[Contender]:
    """Return the peers that are queues in PostgreSQL, with jobs that do nothing."""
    return _queues(rig.installation("queues", brokers="none:0"), plan, noop=True)


def _queues(installation: Installation, plan: Plan, *, noop: bool) -> list[Contender]:
    does = "jobs that do nothing" if noop else "each job publishes its record"

    def peer(name: str, module: str, what: str, rows: int) -> Contender:
        return PeerProgram(installation, name, module, f"{what}, {does}", rows=plan.pick(rows, 200), noop=noop)

    return [
        peer("PgQueuer", "pgqueuer_worker", f"batches of {settings.PGQUEUER['batch_size']}", 50_000),
        peer(
            "procrastinate",
            "procrastinate_worker",
            f"concurrency {settings.PROCRASTINATE['concurrency']}, jobs deleted",
            5_000,
        ),
    ]
