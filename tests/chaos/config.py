"""What the processes of one run are told: a file in its directory, written before they start."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from tests.chaos.plan import Destination, Plan

PLAN, CONFIG, META = "plan.json", "config.json", "meta.json"


@dataclass(frozen=True, slots=True)
class Config:
    """Instants are of the ledgers' clock."""

    seed: int
    api_url: str
    hooks_port: int
    smtp_port: int
    secret: str
    api_key: str
    began_at: float  # the load begins
    ends_at: float  # the load ends
    heal_at: float  # receivers answer well from now on
    rate: float
    producers: int

    def save(self, run_dir: Path) -> None:
        """Write it."""
        (run_dir / CONFIG).write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, run_dir: Path) -> "Config":
        """Read it."""
        return cls(**orjson.loads((run_dir / CONFIG).read_bytes()))


def destinations_of(run_dir: Path) -> tuple[Destination, ...]:
    """The destinations of the run's plan."""
    return Plan.load(run_dir / PLAN).destinations
