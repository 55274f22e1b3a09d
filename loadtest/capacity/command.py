"""`python -m loadtest capacity`: what 100 to 100,000 notifications a second need, from results of the bench."""

import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import click

from loadtest.capacity import costs, tables
from loadtest.capacity.costs import NotMeasuredError
from loadtest.capacity.sizing import RATES_PER_S, Assumptions
from loadtest.markdown import replaced
from loadtest.options import Rate, directory_option
from loadtest.reading import MOST
from loadtest.results import ResultError, RunResult, load

MARK: Final = "capacity"
MISUSED: Final = 2
_RANGES: Final[dict[str, tuple[float, int]]] = {
    "utilisation": (0.01, 1),
    "single_share": (0, 1),
    "email_share": (0, 1),
}


@click.command("capacity")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@directory_option
@click.option("--rate", "rates", type=Rate(), multiple=True, help="Instead of 100 to 100,000.")
@click.option("--assume", multiple=True, metavar="NAME=VALUE", help="Another value of an assumption.")
@click.option("--into", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="A page with two marks.")
def command(
    *, files: tuple[Path, ...], directory: Path, rates: tuple[float, ...], assume: tuple[str, ...], into: Path | None
) -> None:
    """Print what a rate needs, as tables in Markdown.

    Each figure is from the newest of FILES that has it; without any, of all runs of the bench but quick ones. With
    --into, what stands between the marks of a page is replaced instead. Exit 2: something was not measured.
    """
    try:
        assumed = assumptions(assume)
        text = tables.everything(costs.read(_results(files, directory)), assumed, rates or RATES_PER_S)
        if into is None:
            click.echo(text, nl=False)
        else:
            into.write_text(replaced(into.read_text(), text, MARK))
    except (ResultError, ValueError) as error:
        _refuse(str(error))
    except NotMeasuredError as error:
        only = " ".join(f"--only {stage}" for stage in error.stages)
        _refuse(f"{error}. This measures it: python -m loadtest bench {only}")


def assumptions(given: tuple[str, ...]) -> Assumptions:
    """Return the assumptions with other values, each NAME=VALUE. Raises ValueError."""
    known = {one.name: getattr(Assumptions(), one.name) for one in fields(Assumptions)}
    values: dict[str, Any] = {}
    for one in given:
        name, _, value = one.partition("=")
        if name not in known:
            raise ValueError(f"{name} is no assumption; there are {', '.join(known)}")
        values[name] = _value(name, value, type(known[name]))
    return Assumptions(**values)


def _value(name: str, text: str, kind: type) -> Any:
    """Return the value of an assumption, of the type that it has by default. Raises ValueError."""
    low, high = _RANGES.get(name, (0, MOST))
    read, what = (float, "a number") if kind is float else (int, "a whole number")
    try:
        found = tuple(map(read, text.split(",") if kind is tuple else [text]))
        if all(low <= one <= high for one in found):
            return found if kind is tuple else found[0]
    except ValueError:
        pass
    several = ", or several with commas between them" if kind is tuple else ""
    raise ValueError(f"{name}: {text!r}; expected {what} from {low:g} to {high:,}{several}")


def _results(files: tuple[Path, ...], directory: Path) -> list[RunResult]:
    paths = files or sorted(directory.glob("*-bench-*.json"))
    found = [load(path) for path in paths]
    return [one for one in found if one.kind == "bench" and (files or one.profile != "quick")]


def _refuse(message: str) -> None:
    click.echo(f"Error: {message}", err=True)
    sys.exit(MISUSED)
