""".env.example and docs/configuration.md tell the truth about what the services read."""

import importlib
import re
from dataclasses import dataclass
from pathlib import Path

from shared.settings import Environment
from tests.dockerfiles import EXTRAS

REPOSITORY = Path(__file__).resolve().parents[2]
COMPUTED = {"API_WORKERS": ""}
"""Defaults that depend on the machine, and how the files write them."""

COMPOSE_ONLY = {"DB_OWNER_PASS": "notify", "GRAFANA_PASSWORD": "admin"}


@dataclass(frozen=True)
class Variable:
    """A variable as .env.example shows it."""

    name: str
    default: str
    readers: tuple[str, ...]
    unit: str
    text: str


def shown() -> list[Variable]:
    """The variables of .env.example: an explanation in comment lines, then the commented-out default."""
    found, explanation = [], ""
    for line in (REPOSITORY / ".env.example").read_text().splitlines():
        if assigned := re.fullmatch(r"#([A-Z][A-Z0-9_]*)=(.*)", line):
            parts = re.fullmatch(r"\[([a-z, ]+)(?:; ([^\]]+))?\] (.+)", explanation)
            assert parts is not None, f"{assigned[1]} has no explanation of the form [readers; unit] text"
            readers, unit, text = parts.groups(default="")
            found.append(Variable(assigned[1], assigned[2], tuple(readers.split(", ")), unit, text))
            explanation = ""
        elif line.startswith("# [") or (explanation and line.startswith("# ")):
            explanation = f"{explanation} {line[2:]}".strip()
        else:
            explanation = ""
    return found


def read_by_services() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Each variable a service asks for: its default, and which services read it."""
    read: dict[str, tuple[str, tuple[str, ...]]] = {}
    for service, extra in EXTRAS.items():
        env = Environment({})
        importlib.import_module(f"{service}.settings").read_settings(env)
        for name, default in env.variables.items():
            known, readers = read.get(name, (default, ()))
            assert known == default, f"two services have different defaults for {name}"
            read[name] = (known, (*readers, extra))
    everywhere = tuple(EXTRAS.values())
    return {
        name: (COMPUTED.get(name, default), ("all",) if readers == everywhere else readers)
        for name, (default, readers) in read.items()
    }


def test_the_example_names_every_variable_once_with_its_default_and_readers() -> None:
    """No more, no less: a variable that is gone from the code is gone from the file."""
    example = {variable.name: (variable.default, variable.readers) for variable in shown()}

    compose_only = {name: (default, ("compose",)) for name, default in COMPOSE_ONLY.items()}
    assert example == read_by_services() | compose_only
    assert len(example) == len(shown())


def test_nothing_in_the_example_is_set() -> None:
    """A plain copy of it changes nothing: every assignment is commented out."""
    lines = (REPOSITORY / ".env.example").read_text().splitlines()

    assert [line for line in lines if line and not line.startswith("#")] == []


def test_numbers_name_their_unit() -> None:
    """300 of what?"""
    assert [one.name for one in shown() if re.fullmatch(r"[\d.,-]+", one.default) and not one.unit] == []


def test_secrets_are_marked_as_such() -> None:
    """So that nobody takes them for something to commit."""
    secret = {one.name for one in shown() if one.unit == "secret"}

    assert secret == {
        "DB_PASS",
        "SMTP_PASS",
        "WEBHOOK_SECRETS",
        "SECRETS_KEYS",
        "KAFKA_SASL_PASS",
        "KAFKA_KEY_PASS",
        "DB_OWNER_PASS",
        "GRAFANA_PASSWORD",
        "JWT_KEYS",
        "JWT_SECRET",
        "METRICS_TOKEN",
    }


def test_the_documented_table_is_the_example() -> None:
    """docs/configuration.md has a row for each variable, in the same order and words."""
    page = (REPOSITORY / "docs" / "configuration.md").read_text()
    rows = re.findall(r"(?m)^\| `([A-Z0-9_]+)` \| (.*?) \| (.*?) \| (.*?) \| (.*?) \|$", page)

    assert rows == [
        (one.name, f"`{one.default}`" if one.default else "", one.unit, ", ".join(one.readers), one.text)
        for one in shown()
    ]
