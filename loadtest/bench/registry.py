"""All stages by name."""

from typing import Final

from loadtest.bench.frame import Stage
from loadtest.bench.stages import accept, deliver, relay

STAGES: Final[dict[str, Stage]] = {
    stage.name: stage
    for stage in (
        accept.BATCH,
        accept.SINGLE,
        relay.KAFKA,
        relay.MOCK,
        relay.TWO,
        relay.SNAPSHOT,
        deliver.CONSUME,
        deliver.WEBHOOK,
        deliver.EMAIL,
    )
}
