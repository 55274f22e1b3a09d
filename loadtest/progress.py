"""How a run is going: a live table on a terminal, a line every few seconds elsewhere; and the summary at its end."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from loadtest.measuring import Look
from loadtest.results import RunResult
from loadtest.running import Running, View

_LINE_EVERY_S: Final = 5.0
_SHOWN_COUNTS: Final = (
    *("asked", "accepted", "received", "lost", "on_their_way", "at_rest", "doubled", "unexplained", "refused"),
    *("unanswered", "requests_started_late", "capacity_per_s"),
)


def figures(look: Look, running: Running) -> list[tuple[str, str]]:
    """What is shown of a look: names and values."""
    now = running.sampler.now if running.sampler else {}
    busy = sorted(((value, name[4:]) for name, value in now.items() if name.startswith("cpu ")), reverse=True)
    rates = [f"{look.per_s(name):,.0f}" for name in ("asked", "accepted", "received")]
    return [
        ("asked · accepted · received /s", " · ".join(rates)),
        ("accept p50 · p99", _pair(look.accept.ms(50), look.accept.ms(99))),
        ("accept to receiver p50 · p99", _pair(look.receiver.ms(50), look.receiver.ms(99))),
        ("backlog", f"{running.measured.backlog:,} not received, {look.under_way:,} requests under way"),
        ("outbox · consumer lag", f"{now.get('outbox rows', 0):,.0f} rows · {now.get('consumer lag', 0):,.0f} records"),
        ("so far", f"{running.measured.counts['accepted']:,} accepted, {running.measured.counts['received']:,} received"
                   f", {running.measured.counts['refused'] + running.measured.counts['unanswered']:,} not accepted"),
        ("CPU, % of a core", ", ".join(f"{name} {value:.0f}" for value, name in busy[:6])),
    ]  # fmt: skip


def _pair(first: float | None, second: float | None) -> str:
    return " · ".join("-" if value is None else f"{value:,.1f} ms" for value in (first, second))


class Lines:
    """A line each few seconds, for a log."""

    def __init__(self) -> None:
        self._told_at = -_LINE_EVERY_S

    def phase(self, text: str) -> None:
        """Say what begins."""
        click.echo(f"  {text}")

    def show(self, look: Look, running: Running) -> None:
        """Say how it goes, if that was not said a moment ago."""
        if look.at_s - self._told_at < _LINE_EVERY_S:
            return
        self._told_at = look.at_s
        rates, accept, receiver, *_ = [value for _, value in figures(look, running)]
        backlog = running.measured.backlog
        click.echo(f"  {look.at_s:6.0f} s  {rates} /s   accept {accept}   receiver {receiver}   backlog {backlog:,}")


class Terminal:
    """A table that is drawn anew each second."""

    def __init__(self, live: Live, title: str) -> None:
        self._live, self._title, self._phase = live, title, "starting"

    def phase(self, text: str) -> None:
        """Say what begins."""
        self._phase = text
        self._live.update(Text(f"{self._title}\n{text}"), refresh=True)

    def show(self, look: Look, running: Running) -> None:
        """Draw a look."""
        table = Table(title=f"{self._title}: {self._phase}", title_justify="left", show_header=False, box=None)
        table.add_row("[dim]time[/]", f"{look.at_s:,.0f} s")
        for name, value in figures(look, running):
            table.add_row(f"[dim]{name}[/]", value)
        self._live.update(table, refresh=True)


@contextmanager
def view(title: str) -> Iterator[View]:
    """Show a run: live where somebody sits in front of it."""
    console = Console()
    if not console.is_terminal:
        click.echo(title)
        yield Lines()
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield Terminal(live, title)


def summary(result: RunResult) -> str:
    """The result for a person."""
    verdict = "held" if result.held else "DID NOT HOLD"
    lines = [f"\n{result.kind} {result.profile}: {verdict}   ({result.took_s:,.0f} s, seed {result.seed})"]
    if result.broken_off:
        lines.append(f"  BROKEN OFF: {result.broken_off}; what follows was measured until then")
    lines += ["", *_latencies(result)]
    counts = [f"{name} {result.counts[name]:,}" for name in _SHOWN_COUNTS if name in result.counts]
    lines += ["", f"  {', '.join(counts)}", ""] if counts else [""]
    wide = max((len(limit.name) for limit in result.limits), default=0)
    for limit in result.limits:
        lines.append(f"  {'ok ' if limit.held else 'NOT'} {limit.name:<{wide}}  {limit.measured}  ({limit.promised})")
    lines += [f"      {note}" for note in result.notes]
    return "\n".join(lines)


def _latencies(result: RunResult) -> list[str]:
    if not result.latencies:
        return ["  Nothing was measured yet: the run ended before its measured time had begun."]
    lines = [f"  {'ms':<30}{'count':>10}{'p50':>9}{'p90':>9}{'p99':>9}{'p99.9':>9}{'max':>10}"]
    for one in result.latencies:
        shown = "".join(f"{value:>9,.1f}" for value in (one.p50, one.p90, one.p99, one.p999))
        lines.append(f"  {one.name:<30}{one.count:>10,}{shown}{one.max:>10,.1f}")
    return lines
