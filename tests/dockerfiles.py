"""What the Dockerfiles and locks say, read as far as the tests need it."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
EXTRAS = {"api_service": "api", "outbox_relay": "relay", "delivery_consumer": "delivery", "dlq_consumer": "dlq"}


@dataclass(frozen=True)
class Dockerfile:
    """A Dockerfile as (stage, instruction, rest of the line); stages are counted from 0."""

    lines: list[tuple[int, str, str]]

    @property
    def stages(self) -> int:
        """How many stages there are."""
        return self.lines[-1][0] + 1

    def all(self, instruction: str) -> list[str]:
        """The arguments of an instruction in any stage, in order."""
        return [rest for _, name, rest in self.lines if name == instruction]

    def final(self, instruction: str) -> list[str]:
        """The arguments of an instruction in the last stage, which is what runs."""
        return [rest for stage, name, rest in self.lines if name == instruction and stage == self.stages - 1]

    @property
    def copied(self) -> list[tuple[str, str]]:
        """What the last stage takes from the build context: (from, to)."""
        pairs = [rest.split() for rest in self.final("COPY") if not rest.startswith("--from")]
        return [(source, target) for source, target in pairs]

    @property
    def healthcheck(self) -> list[str]:
        """The command of the health check."""
        command: list[str] = json.loads(self.final("HEALTHCHECK")[0].partition("CMD ")[2])
        return command


def dockerfile_of(service: str) -> Dockerfile:
    """Read a service's Dockerfile."""
    text = (REPOSITORY / service / "Dockerfile").read_text()
    lines, stage = [], -1
    for line in re.sub(r"\\\n", " ", re.sub(r"(?m)^#.*\n", "", text)).splitlines():
        instruction, _, rest = line.strip().partition(" ")
        stage += instruction == "FROM"
        if instruction:
            lines.append((stage, instruction, " ".join(rest.split())))
    return Dockerfile(lines)


def locked(extra: str) -> dict[str, str]:
    """The distributions of a lock and their versions, names normalised."""
    text = (REPOSITORY / "locks" / f"{extra}.txt").read_text()
    return {normalised(name): version for name, version in re.findall(r"(?m)^([\w.-]+)==([^\s;\\]+)", text)}


def normalised(name: str) -> str:
    """A distribution's name as package indexes compare them (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
