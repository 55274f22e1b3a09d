"""One, two and four processes of each service, all else as it is: what another process brings on this machine."""

from typing import Final

from loadtest.bench.bodies import batches
from loadtest.bench.frame import Contender, Plan, Stage
from loadtest.bench.http_client import post
from loadtest.bench.rig import Rig
from loadtest.bench.stages.accept import BATCH_ITEMS, CHANNELS, PATH, HttpServer
from loadtest.bench.stages.deliver import Delivery
from loadtest.bench.stages.relay import Relays

PROCESSES: Final = (1, 2, 4)


def _accept(rig: Rig, plan: Plan) -> list[Contender]:
    installation = rig.installation("scaling_accept")
    bodies = batches(plan.seed, count=plan.pick(8, 2), size=BATCH_ITEMS, channels=CHANNELS)
    return [
        HttpServer(
            installation,
            f"accept × {count}",
            f"API_WORKERS={count}, batches of {BATCH_ITEMS}",
            [post(f"{PATH}/batch", body, api_key=rig.api_key) for body in bodies],
            connections=2 * count,
            seconds=plan.pick(8.0, 0.5),
            work_per_answer=BATCH_ITEMS,
            environ={"API_WORKERS": str(count)},
        )
        for count in PROCESSES
    ]


def _relay(rig: Rig, plan: Plan) -> list[Contender]:
    installation = rig.installation("scaling_relay")
    rows = plan.pick(400_000, 1_000)
    return [Relays(installation, f"relay × {count}", f"{count} relays", rows=rows, relays=count) for count in PROCESSES]


def _deliver(rig: Rig, plan: Plan) -> list[Contender]:
    return [
        Delivery(
            rig.installation(f"scaling_deliver_{count}"),
            f"webhook × {count}",
            f"{count} delivery consumers",
            count=plan.pick(60_000, 6_000),
            channel="webhook",
            environ={"DELIVERY_CONCURRENCY": "200", "DESTINATION_CONCURRENCY": "200"},
            processes=count,
        )
        for count in PROCESSES
    ]


STAGE = Stage(
    "scaling",
    "One, two and four processes of each service",
    lambda rig, plan: [*_accept(rig, plan), *_relay(rig, plan), *_deliver(rig, plan)],
)
