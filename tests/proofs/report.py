"""What a proof prints and writes: each figure with its target and whether it held, and what it ran on."""

import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import confluent_kafka

from infra.local.kafka_jars import KAFKA_VERSION

_REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of a report; `held` None: it was measured, nothing is promised of it."""

    name: str
    value: float | int | str
    target: str = ""
    held: bool | None = None


@dataclass(slots=True)
class Report:
    """Collects figures and says whether every promise held."""

    proof: str
    sizes: dict[str, Any]
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    began_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    load_average_before: float = field(default_factory=lambda: os.getloadavg()[0])

    def promise(self, name: str, value: float | int | str, target: str, *, held: bool) -> None:
        """Note a figure that has a target."""
        self.figures.append(Figure(name, _short(value), target, held))

    def figure(self, name: str, value: float | int | str) -> None:
        """Note a figure that has none."""
        self.figures.append(Figure(name, _short(value)))

    def note(self, text: str) -> None:
        """Note a sentence, such as the evidence of a promise that did not hold."""
        self.notes.append(text)

    @property
    def held(self) -> bool:
        """Whether all promises held; a run without any proves nothing."""
        promised = [figure.held for figure in self.figures if figure.held is not None]
        return bool(promised) and all(promised)

    def text(self, surroundings: dict[str, Any]) -> str:
        """The report for a person."""
        wide = max((len(figure.name) for figure in self.figures), default=0)
        lines = [f"\nproof {self.proof}: {'held' if self.held else 'DID NOT HOLD'}", ""]
        for figure in self.figures:
            mark = {None: "   ", True: "ok ", False: "NOT"}[figure.held]
            target = f"   promised: {figure.target}" if figure.target else ""
            lines.append(f"  {mark} {figure.name:<{wide}}  {figure.value!s:>12}{target}")
        lines += [f"      {note}" for note in self.notes]
        lines += ["", "  sizes: " + _pairs(self.sizes), "  on:    " + _pairs(surroundings)]
        return "\n".join(lines)

    def finish(self, *, postgres: str, json_file: str | None) -> int:
        """Print the report, write it to `json_file` too if one is named; return the exit code."""
        surroundings = {
            "commit": _commit(),
            "began": self.began_at.isoformat(timespec="seconds"),
            "took_s": round((datetime.now(UTC) - self.began_at).total_seconds()),
            "python": platform.python_version(),
            "postgresql": postgres,
            "kafka": KAFKA_VERSION,
            "librdkafka": confluent_kafka.libversion()[0],
            "psycopg": version("psycopg"),
            "machine": f"{platform.system()} {platform.release()} {platform.machine()}",
            "cores": os.cpu_count(),
            "load_average_before": round(self.load_average_before, 2),
            "load_average_after": round(os.getloadavg()[0], 2),
        }
        click.echo(self.text(surroundings))
        if json_file:
            content = {
                "proof": self.proof,
                "held": self.held,
                "figures": [asdict(figure) for figure in self.figures],
                "notes": self.notes,
                "sizes": self.sizes,
                "surroundings": surroundings,
            }
            Path(json_file).write_text(json.dumps(content, indent=2) + "\n")
        return 0 if self.held else 1


def _short(value: float | int | str) -> float | int | str:
    return round(value, 3) if isinstance(value, float) else value


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, cwd=_REPOSITORY, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
