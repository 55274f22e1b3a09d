"""Accepting: the API as it runs, beside COPY, beside the same endpoint written plainly, and beside a bare Flask."""

from collections.abc import Mapping, Sequence
from typing import Final

import orjson
import uvloop

from loadtest.bench.bodies import batches, items
from loadtest.bench.cpu import Meter, wait_at_rest
from loadtest.bench.figures import Promise, Sample
from loadtest.bench.frame import BenchError, Contender, Plan, Stage
from loadtest.bench.http_client import drive, post
from loadtest.bench.pgbench import PgbenchInsert
from loadtest.bench.rig import Installation, Rig
from loadtest.bench.stages.copying import CopyBatches
from shared.model import uuid7

USED_FILE: Final = "BENCH_USED_FILE"
"""Names a file that a stand-in makes once it has done what it is there for."""
PATH: Final = "/api/v1/notifications"
CONNECTIONS: Final = 16
BATCH_CONNECTIONS: Final = 4
BATCH_ITEMS: Final = 1_000
CHANNELS: Final = ("email", "webhook")
_INSIDE: Final = "loadtest.bench.inside"
_EXCHANGED: Final = f"{_INSIDE}.api"


class HttpServer:
    """The API, or what stands in for it, kept busy by a closed loop of connections."""

    def __init__(
        self,
        installation: Installation,
        name: str,
        what: str,
        requests: Sequence[bytes],
        *,
        connections: int,
        seconds: float,
        module: str | None = None,
        exchange: Sequence[str] = (),
        work_per_answer: int = 1,
        keep: bool = False,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.name, self.what = name, what
        self._installation, self._requests = installation, requests
        self._module = _EXCHANGED if exchange else module
        self._connections, self._seconds = connections, seconds
        self._work_per_answer, self._keep = work_per_answer, keep
        directory = installation.rig.directory
        self._environ = dict(environ or {})
        self._proof = directory / f"used-{'-'.join(exchange)}" if "two-inserts" in exchange else None
        if exchange:
            metrics = directory / "metrics"
            metrics.mkdir(exist_ok=True)
            self._environ |= {"BENCH_EXCHANGE": ",".join(exchange), "PROMETHEUS_MULTIPROC_DIR": str(metrics)}

    def setup(self) -> None:
        """Nothing is needed but the installation."""

    def round(self) -> Sample:
        """Serve for a while and count the answers; a fifth of that time before it warms everything up."""
        first = uuid7()
        if self._keep:
            self._installation.settle()
        else:
            self._installation.empty()
        environ = self._environ | ({USED_FILE: str(self._proof)} if self._proof else {})
        with self._installation.running("api_service", module=self._module, **environ) as api:
            wait_at_rest([api.pid])  # all of its workers have started, not only the one that said so
            uvloop.run(drive(api.port, self._requests, connections=self._connections, seconds=self._seconds / 5))
            if self._proof and not self._proof.exists():
                raise BenchError(f"{self._module} did not exchange what it should: the API has changed")
            meter = Meter({"api": api.pid, "postgres": self._installation.rig.postgres.process.pid})
            answers = uvloop.run(drive(api.port, self._requests, connections=self._connections, seconds=self._seconds))
            cpu_s = meter.read()
        answers.expect(202)
        if self._keep:
            self._installation.remove_since(first)
        return Sample(answers.count * self._work_per_answer, answers.took_s, cpu_s)

    def teardown(self) -> None:
        """Nothing is left."""


def _single(rig: Rig, plan: Plan) -> list[Contender]:
    installation = rig.installation("accept_single")
    requests = [
        post(PATH, orjson.dumps(item), api_key=rig.api_key) for item in items(plan.seed, 500, channels=CHANNELS)
    ]
    seconds = plan.pick(8.0, 0.5)

    def server(name: str, what: str, *exchange: str, module: str | None = None) -> Contender:
        return HttpServer(
            installation,
            name,
            what,
            requests,
            connections=CONNECTIONS,
            seconds=seconds,
            exchange=exchange,
            module=module,
        )

    return [
        server("hello", "a Flask hello that reads the body, in the same gunicorn", module=f"{_INSIDE}.hello"),
        server("ours", "POST /api/v1/notifications of the API as it runs"),
        server("two inserts", "the same endpoint, its write as BEGIN, INSERT, INSERT, COMMIT", "two-inserts"),
        server("ours, behind Flask", "the same with every request served by Flask", "behind-flask"),
        server(
            "two inserts, behind Flask",
            "an endpoint in Flask with that write, as most services have it",
            *("two-inserts", "behind-flask"),
        ),
        PgbenchInsert(installation, clients=CONNECTIONS, seconds=seconds),
    ]


def _batch(rig: Rig, plan: Plan) -> list[Contender]:
    installation = rig.installation("accept_batch")
    bodies = batches(plan.seed, count=plan.pick(8, 2), size=BATCH_ITEMS, channels=CHANNELS)
    path = f"{PATH}/batch"
    requests = [post(path, body, api_key=rig.api_key) for body in bodies]

    def copy(connections: int) -> Contender:
        return CopyBatches(
            installation, requests, batches=plan.pick(120, 4), passes=plan.pick(3, 1), connections=connections
        )

    return [
        copy(1),
        HttpServer(
            installation,
            "ours",
            f"POST {path}, {BATCH_ITEMS} items a request, {BATCH_CONNECTIONS} connections",
            requests,
            connections=BATCH_CONNECTIONS,
            seconds=plan.pick(8.0, 0.5),
            work_per_answer=BATCH_ITEMS,
        ),
        copy(BATCH_CONNECTIONS),
    ]


SINGLE = Stage(
    "accept_single",
    f"Accept one by one, {CONNECTIONS} connections",
    _single,
    (
        Promise("single accept beside a Flask hello", "ours", at_least=0.4, beside=("hello",)),
        Promise("single accept beside BEGIN and two INSERTs", "ours", at_least=1.7, beside=("two inserts",)),
    ),
)
BATCH = Stage(
    "accept_batch",
    f"Accept in batches of {BATCH_ITEMS:,}",
    _batch,
    (
        Promise("batch accept beside COPY of the same rows", "ours", at_least=0.8, beside=("COPY, 1 connection",)),
        Promise("batch accept", "ours", at_least=40_000),
    ),
)
