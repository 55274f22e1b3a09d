"""docs/reports/peer-settings.md: what the peers' settings gave beside others, a section for each peer."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from loadtest.bench.figures import CPU_US, PER_S, ratio, spread_of
from loadtest.bench.outcome import StageOutcome, in_words
from loadtest.bench.stages.tune import AS_SET
from loadtest.peers import environment

PAGE: Final = Path(__file__).resolve().parents[2] / "docs/reports/peer-settings.md"
_HEAD: Final = """\
# Settings of the peers

Written by `python -m loadtest bench --tune`. Each peer ran with its settings in `loadtest/peers/settings.py` and with
one of them changed at a time, in interleaved rounds ([how](../benchmarks.md#how-it-is-measured)). Relays moved their
rows to Apache Kafka; task queues did the whole, from the request to the recorded webhook. Every figure is the median of
the rounds with the lowest and the highest; the ratio is taken within each round. CPU is that of a relay's own process,
and of all processes of a task queue's pipeline, servers included.
"""


def write(outcomes: Sequence[StageOutcome], facts: Mapping[str, object], path: Path = PAGE) -> None:
    """Write the sections of these peers into the page; those of others stay as they are."""
    text = path.read_text() if path.exists() else ""
    sections = {found[1]: found[0] for found in re.finditer(r"(?ms)^## (.+?)\n.*?(?=^## |\Z)", text)}
    sections |= {one.stage.title: _section(one, facts) for one in outcomes if AS_SET in one.samples}
    path.write_text("\n".join([_HEAD, *(sections[peer].rstrip() + "\n" for peer in sorted(sections, key=str.lower))]))


def _section(outcome: StageOutcome, facts: Mapping[str, object]) -> str:
    present = outcome.samples[AS_SET]
    beside = {name: ratio(samples, present, PER_S) for name, samples in outcome.measured}
    faster = ", ".join(name for name, one in beside.items() if one.low > 1) or "none"
    told = {"rounds": len(present), "version": environment.versions()[outcome.stage.title.lower()], **facts}
    lines = [f"## {outcome.stage.title}", "", f"As set: {outcome.whats[AS_SET]}. Faster in every round: {faster}.", ""]
    lines += ["; ".join(f"{name} {value}" for name, value in told.items()) + ".", ""]
    lines += ["| changed | a second | × as set | CPU µs each |", "|---|--:|--:|--:|"]
    for name, samples in outcome.measured:
        cpu = in_words(spread_of(samples, f"{CPU_US}all"))
        lines.append(f"| {name} | {in_words(spread_of(samples, PER_S))} | {in_words(beside[name])} | {cpu} |")
    return "\n".join(lines) + "\n"
