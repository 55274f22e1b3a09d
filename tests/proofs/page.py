"""What several proofs wrote with --json, as one page: `python -m tests.proofs page FILES > docs/reports/figures.md`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

_HEAD = """\
# Figures

Each was measured by a command of this repository on one machine, on the day and at the load it names;
[how to measure again](README.md). A row without a promise was measured beside the others."""


def page(results: Sequence[dict[str, Any]]) -> str:
    """The page: a section per proof, with what it ran on."""
    return "\n\n".join([_HEAD, *(_section(result) for result in results)]) + "\n"


def _section(result: dict[str, Any]) -> str:
    lines = [
        f"## {result['proof']}: {'held' if result['held'] else 'did not hold'}",
        "",
        f"Sizes: {_pairs(result['sizes'])}. On: {_pairs(result['surroundings'])}.",
        "",
        "| figure | measured | promised | |",
        "|---|---|---|---|",
    ]
    marks = {None: "", True: "held", False: "**not held**"}
    for figure in result["figures"]:
        value = f"{figure['value']:,}" if isinstance(figure["value"], int) else figure["value"]
        lines.append(f"| {figure['name']} | {value} | {figure['target']} | {marks[figure['held']]} |")
    return "\n".join([*lines, *(f"\n{note}" for note in result["notes"])])


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def main(argv: list[str]) -> int:
    """Print the page; exit 1 if a promise of one of them did not hold."""
    results = [json.loads(Path(name).read_bytes()) for name in argv]
    click.echo(page(results), nl=False)
    return 0 if results and all(result["held"] for result in results) else 1
