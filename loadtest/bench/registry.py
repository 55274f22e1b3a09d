"""All stages by name: those of `make bench`, and those that compare settings of the peers."""

from typing import Final

from loadtest.bench.frame import Stage
from loadtest.bench.stages import (
    accept,
    deliver,
    footprint,
    idle,
    isolation,
    relay,
    scaling,
    stored,
    tune,
    whole,
    write_back,
)

STAGES: Final[dict[str, Stage]] = {
    stage.name: stage
    for stage in (
        accept.BATCH,
        accept.SINGLE,
        isolation.STAGE,
        relay.KAFKA,
        relay.MOCK,
        relay.TWO,
        relay.SNAPSHOT,
        deliver.CONSUME,
        deliver.WEBHOOK,
        deliver.EMAIL,
        write_back.STAGE,
        whole.WHOLE,
        whole.LATENCY,
        whole.LATENCY_AT_HALF,
        idle.STAGE,
        stored.STAGE,
        scaling.STAGE,
        footprint.STAGE,
    )
}
TUNING: Final[dict[str, Stage]] = {stage.name: stage for stage in tune.STAGES}
