"""`python -m loadtest performance`: what the newest runs measured, as tables in Markdown."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import click

from loadtest.markdown import replaced, table
from loadtest.options import directory_option
from loadtest.results import ResultError, RunResult, load

MARK: Final = "performance"
_LOADS: Final = {"load": "Load test", "stress": "Load test", "dlq": "DLQ test"}


@click.command("performance")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@directory_option
@click.option("--into", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="A page with two marks.")
def command(*, files: tuple[Path, ...], directory: Path, into: Path | None) -> None:
    """Print what FILES, or the runs of a directory, measured: the newest of each stage and profile.

    Of a directory those are left out that were quick, were broken off, or changed their profile by --set, and those
    that compare settings of peers, which have a page of their own.

    With --into, what stands between the marks of a page is replaced instead.
    """
    try:
        found = [load(path) for path in files or sorted(directory.glob("*.json"))]
        shown = [one for one in found if files or _counts(one)]
        if not shown:
            raise click.UsageError(f"no runs in {directory} that count")
        text = everything(sorted(shown, key=lambda one: one.started_at))
        if into is None:
            click.echo(text, nl=False)
        else:
            into.write_text(replaced(into.read_text(), text, MARK))
    except (ResultError, ValueError) as error:
        raise click.UsageError(str(error)) from error


def _counts(result: RunResult) -> bool:
    """Say whether a run says something of the program as it is; a stage of a bench that broke leaves the others' be."""
    was_broken_off = bool(result.broken_off) and result.kind != "bench"
    is_of_peers = "--only tune_" in result.command or "--tune" in result.command
    return result.profile != "quick" and not (was_broken_off or is_of_peers) and " --set " not in result.command


def everything(results: Iterable[RunResult]) -> str:
    """Return all sections of results that are given oldest first."""
    benches: list[RunResult] = []
    loads: dict[str, RunResult] = {}
    for result in results:
        if result.kind == "bench":
            benches.append(result)
        else:
            loads[f"{_LOADS[result.kind]} `{result.profile}`"] = result
    sections = [("Promises of the bench", _promises(benches)), ("Contenders", _contenders(benches))] if benches else []
    sections += [(title, _load(result)) for title, result in loads.items()]
    sections.append(("Runs", _runs([*benches, *loads.values()])))
    return "\n\n".join(f"### {title}\n\n{text}" for title, text in sections) + "\n"


def _promises(benches: Sequence[RunResult]) -> str:
    newest = {limit.name: (limit, result) for result in benches for limit in result.limits}
    return table(
        ("what", "promised", "measured", "", "run"),
        [
            (name, limit.promised, limit.measured, _verdict(limit.held), _short(result))
            for name, (limit, result) in newest.items()
        ],
    )


def _contenders(benches: Sequence[RunResult]) -> str:
    newest: dict[str, dict[str, str]] = {}
    for result in benches:
        stages: dict[str, dict[str, str]] = {}
        for note in result.notes:
            name, _, figures = note.partition(": ")
            stage, _, contender = name.partition("/")
            stages.setdefault(stage, {})[contender] = figures
        newest |= stages
    rows = [
        (f"`{stage}`", contender, figures)
        for stage, contenders in newest.items()
        for contender, figures in contenders.items()
    ]
    return table(("stage", "contender", "median (lowest–highest)"), rows)


def _load(result: RunResult) -> str:
    latencies = table(
        ("ms", "count", "p50", "p90", "p99", "p99.9", "max"),
        [(one.name, one.count, one.p50, one.p90, one.p99, one.p999, one.max) for one in result.latencies],
    )
    limits = table(
        ("limit", "promised", "measured", ""),
        [(limit.name, limit.promised, limit.measured, _verdict(limit.held)) for limit in result.limits],
    )
    return "\n\n".join((*_remarks(result), latencies, limits))


def _remarks(result: RunResult) -> Iterator[str]:
    yield f"Run {_short(result)}, {result.took_s:.0f} s, {_command(result)}."
    if result.broken_off:
        yield f"Broken off: {result.broken_off}"


def _runs(results: Sequence[RunResult]) -> str:
    return table(
        ("run", "commit", "command", "seed", "rounds", "machine", "load at the start", "stolen, %", "versions"),
        [
            (
                _short(result),
                result.versions.get("commit", "?"),
                _command(result),
                str(result.seed),
                result.counts.get("rounds", ""),
                "{cores} cores, {cpu}, {memory_gib} GiB".format_map(result.machine),
                result.machine.get("load_at_start", "?"),
                result.machine.get("stolen_percent", "?"),
                ", ".join(f"{name} {version}" for name, version in result.versions.items() if name != "commit"),
            )
            for result in results
        ],
    )


def _command(result: RunResult) -> str:
    """Return it without the folder of that machine, which says nothing elsewhere."""
    return f"`{re.sub(r' --reports [^ ]+', '', result.command)}`"


def _short(result: RunResult) -> str:
    return result.name.partition("-")[0]


def _verdict(held: bool) -> str:
    return "held" if held else "**not held**"
