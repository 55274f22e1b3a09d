"""The whole: batches in and webhooks out as fast as it goes, and how long one takes at a steady rate."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import orjson
import uvloop

from loadtest.bench.bodies import batches, items
from loadtest.bench.cpu import Meter, wait_at_rest
from loadtest.bench.figures import Promise, Sample, percentile
from loadtest.bench.frame import BenchError, Contender, Plan, Stage
from loadtest.bench.http_client import drive, pace, post
from loadtest.bench.pipelines import TASK_QUEUES, Ours, Pipeline, Running, peers
from loadtest.bench.receiving import Receivers, receivers
from loadtest.bench.rig import Rig
from loadtest.bench.waiting import wait_for, wait_for_count
from loadtest.peers import settings

BATCH_ITEMS: Final = 500
RATE_PER_S: Final = 200.0
_CONNECTIONS: Final = 2
_SINGLE_CONNECTIONS: Final = 16
_WITHIN_S: Final = 900.0
_WARM_UP_S: Final = 2.0
_SERVERS: Final = frozenset(("postgres", "kafka"))


@dataclass(frozen=True, slots=True)
class Scene:
    """A running pipeline with its receivers, warmed up."""

    pipeline: Pipeline
    running: Running
    received: Receivers
    plan: Plan

    def bodies(self, *, count: int, size: int) -> list[bytes]:
        """Return the JSON of batches to our receiver."""
        return batches(self.plan.seed, count=count, size=size, channels=("webhook",), url=self.received.url)

    def singles(self) -> list[bytes]:
        """Return requests of one notification each."""
        wanted = items(self.plan.seed, 500, channels=("webhook",), url=self.received.url)
        return [post(self.running.path, orjson.dumps(item), api_key=self.api_key) for item in wanted]

    @property
    def api_key(self) -> str:
        """What the API takes; a peer has no use for it."""
        return self.pipeline.installation.rig.api_key

    def wait_received(self, count: int) -> None:
        """Return once so many different ones have come."""
        wait_for_count(self.received.received, count, timeout_s=_WITHIN_S, what="all webhooks")

    def wait_recorded(self) -> None:
        """Return once all are recorded as sent."""
        wait_for(self.pipeline.all_recorded, timeout_s=60, what="the last record")


class Measured:
    """A pipeline as a contender."""

    def __init__(self, pipeline: Pipeline, plan: Plan, measure: Callable[[Scene], Sample]) -> None:
        self.name, self.what = pipeline.name, pipeline.what
        self._pipeline, self._plan, self._measure = pipeline, plan, measure

    def setup(self) -> None:
        """Prepare the pipeline."""
        self._pipeline.setup()

    def round(self) -> Sample:
        """Run it with receivers until all of it has started, warm it up by a batch, and measure."""
        with receivers(self._pipeline.installation.rig) as received, self._pipeline.running() as running:
            wait_at_rest(pid for name, pids in running.processes.items() if name not in _SERVERS for pid in pids)
            scene, size = Scene(self._pipeline, running, received, self._plan), self._plan.pick(1_000, 50)
            requests = [
                post(running.batch_path, body, api_key=scene.api_key) for body in scene.bodies(count=1, size=size)
            ]
            uvloop.run(drive(running.port, requests, connections=1, count=1))
            scene.wait_received(size)
            scene.wait_recorded()
            received.forget()
            return self._measure(scene)

    def teardown(self) -> None:
        """Nothing is left."""


class Throughput:
    """So many accepted in batches; the clock stops when the last is recorded as sent."""

    def __init__(self, count: int) -> None:
        self._batches = max(1, count // BATCH_ITEMS)

    def __call__(self, scene: Scene) -> Sample:
        """Measure once."""
        running, count = scene.running, self._batches * BATCH_ITEMS
        requests = [
            post(running.batch_path, body, api_key=scene.api_key) for body in scene.bodies(count=8, size=BATCH_ITEMS)
        ]
        meter, began = Meter(running.processes), time.perf_counter()
        answers = uvloop.run(drive(running.port, requests, connections=_CONNECTIONS, count=self._batches))
        answers.expect(202)
        scene.wait_received(count)
        scene.wait_recorded()
        took_s = time.perf_counter() - began
        return Sample(count, took_s, meter.read(), {"accepted_per_s": count / answers.took_s})


class Latency:
    """Single POSTs at a steady rate; each counted from the instant it was to begin to its receipt."""

    def __init__(self, *, per_s: float, seconds: float) -> None:
        self._per_s, self._count = per_s, round(per_s * seconds)

    def __call__(self, scene: Scene) -> Sample:
        """Measure once, after some seconds of the same: single requests have statements, plans and connections too."""
        running, requests = scene.running, scene.singles()
        warm_up = round(self._per_s * _WARM_UP_S)
        uvloop.run(pace(running.port, requests, per_s=self._per_s, count=warm_up))[0].expect(202)
        scene.wait_received(warm_up)
        scene.received.forget()
        meter, began = Meter(running.processes), time.perf_counter()
        answers, instants = uvloop.run(pace(running.port, requests, per_s=self._per_s, count=self._count))
        answers.expect(202)
        scene.wait_received(self._count)
        took_s, cpu_s = time.perf_counter() - began, meter.read()
        ledger = scene.received.ledger()
        latencies_ms = [
            1e3 * (ledger[_hex_id(body)] - instant) for body, instant in zip(answers.bodies, instants, strict=True)
        ]
        others = {f"p{name}_ms": percentile(latencies_ms, share) for name, share in _SHARES.items()}
        others["accept_p99_ms"] = 1e3 * percentile(answers.latencies_s, 0.99)
        return Sample(self._count, took_s, cpu_s, others)


class LatencyAtHalf:
    """The capacity first, by single POSTs as fast as they are taken; then half of that at a steady rate."""

    def __init__(self, *, seconds: float) -> None:
        self._seconds = seconds

    def __call__(self, scene: Scene) -> Sample:
        """Measure once. The capacity counts until the last is delivered, so that nothing is left behind."""
        requests, began = scene.singles(), time.perf_counter()
        answers = uvloop.run(
            drive(scene.running.port, requests, connections=_SINGLE_CONNECTIONS, seconds=self._seconds / 2)
        )
        answers.expect(202)
        scene.wait_received(answers.count)
        capacity = answers.count / (time.perf_counter() - began)
        if capacity < 1:
            raise BenchError("the pipeline delivers less than one a second")
        scene.received.forget()
        sample = Latency(per_s=capacity / 2, seconds=self._seconds)(scene)
        return replace(sample, others={"capacity_per_s": capacity, **sample.others})


_SHARES: Final = {"50": 0.5, "90": 0.9, "99": 0.99, "999": 0.999}


def _hex_id(body: bytes) -> str:
    return str(orjson.loads(body)["id"]).replace("-", "")


def _throughput(rig: Rig, plan: Plan) -> list[Contender]:
    ours = Measured(Ours(rig.installation("whole"), processes=settings.CORES), plan, Throughput(plan.pick(60_000, 500)))
    return [ours, *(Measured(peer, plan, Throughput(plan.pick(6_000, 500))) for peer in peers(rig))]


def _latency(rig: Rig, plan: Plan) -> list[Contender]:
    measure = Latency(per_s=plan.pick(RATE_PER_S, 20.0), seconds=plan.pick(60.0, 2.0))
    pipelines = [Ours(rig.installation("latency")), *peers(rig)]
    return [Measured(pipeline, plan, measure) for pipeline in pipelines]


def _latency_at_half(rig: Rig, plan: Plan) -> list[Contender]:
    measure = LatencyAtHalf(seconds=plan.pick(60.0, 2.0))
    return [Measured(Ours(rig.installation("latency_half"), processes=settings.CORES), plan, measure)]


WHOLE = Stage(
    "whole",
    "The whole pipeline: batches in, webhooks out",
    _throughput,
    (
        Promise("whole pipeline", "ours", at_least=5_000),
        Promise("whole pipeline beside the better task queue", "ours", at_least=5, beside=TASK_QUEUES),
    ),
)
LATENCY = Stage(
    "latency",
    f"From POST to receiver at {RATE_PER_S:.0f}/s",
    _latency,
    (
        Promise("latency at 200/s, p50 in ms", "ours", "p50_ms", at_most=12),
        Promise("latency at 200/s, p99 in ms", "ours", "p99_ms", at_most=50),
        Promise("latency at 200/s, p99 beside the better task queue", "ours", "p99_ms", at_most=1, beside=TASK_QUEUES),
    ),
)
LATENCY_AT_HALF = Stage(
    "latency_half",
    "From POST to receiver at half the capacity",
    _latency_at_half,
    (Promise("latency at half the capacity, p99 in ms", "ours", "p99_ms", at_most=250),),
)
