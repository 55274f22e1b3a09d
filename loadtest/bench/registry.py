"""All stages by name."""

from typing import Final

from loadtest.bench.frame import Stage
from loadtest.bench.stages import accept

STAGES: Final[dict[str, Stage]] = {stage.name: stage for stage in (accept.BATCH, accept.SINGLE)}
