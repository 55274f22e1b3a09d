"""Adds up the results of runs into a page: what was done, on what, what held, and what the numbers allow to say."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from tests.chaos.faults.catalogue import KINDS

Result = dict[str, Any]
_MIB = 1024 * 1024


def page(results: Sequence[Result]) -> tuple[str, bool]:
    """The page, and whether the set proves something and nothing was violated."""
    results = sorted(results, key=lambda result: int(result["meta"]["seed"]))
    faults = added_faults(results)
    dull = sorted(set(KINDS) - {kind for kind, counts in faults.items() if counts["bit"]})
    broken = sorted({error for result in results for error in result["meta"]["harness_errors"]})
    violated: Counter[str] = Counter()
    for result in results:
        violated.update(result["violations"])
    parts = [
        _head(results, violated, dull, broken),
        _runs(results),
        _totals(results),
        _faults(faults),
        _violations(violated),
        _gaps(dull, broken),
        _peaks(results),
    ]
    return "\n\n".join(part for part in parts if part) + "\n", not (violated or dull or broken)


def added_faults(results: Iterable[Result]) -> dict[str, dict[str, int]]:
    """Per kind, over all runs."""
    total: dict[str, dict[str, int]] = defaultdict(lambda: {"planned": 0, "happened": 0, "bit": 0, "bites": 0})
    for result in results:
        for kind, counts in result["faults"].items():
            for name, count in counts.items():
                total[kind][name] += count
    return dict(sorted(total.items()))


def total(results: Iterable[Result], name: str) -> int:
    """A number of all runs together."""
    return sum(int(result[name]) for result in results)


def counted(results: Iterable[Result], name: str) -> Counter[str]:
    """Counts by name of all runs together."""
    added: Counter[str] = Counter()
    for result in results:
        added.update(result[name])
    return added


def _head(results: Sequence[Result], violated: Counter[str], dull: list[str], broken: list[str]) -> str:
    accepted = total(results, "accepted")
    happened = sum(counts["happened"] for counts in added_faults(results).values())
    lost = sum(violated[name] for name in ("lost", "sent_but_never_seen", "not_ended"))
    verdict = "Nothing that was promised was violated" if not violated else f"**Violated: {dict(violated)}**"
    if dull or broken:
        verdict += "; but the set is not complete, see below"
    lines = [
        "# Chaos test",
        "",
        "Real PostgreSQL and Apache Kafka, two of each service, hostile receivers, and faults drawn from a seed. "
        f"This page adds up {len(results)} runs; each is a stack of its own, checked by itself. "
        "A seed fixes the plan of faults and what the clients ask for, not the scheduling of threads: running it again "
        "repeats the plan, not the instant.",
        "",
        f"**{verdict}.** {accepted:,} notifications accepted, {happened:,} faults, {lost} lost.",
    ]
    if accepted and not lost:
        lines.append(
            f"With none lost among {accepted:,}, the share lost under such faults is below 3/N = "
            f"{3 / accepted:.1e} with 95 % confidence, if losses were independent, which they are not: one fault "
            "can lose many."
        )
    return "\n".join(lines)


def _runs(results: Sequence[Result]) -> str:
    metas = [result["meta"] for result in results]
    versions = {f"{name} {number}" for meta in metas for name, number in meta["versions"].items()}
    lines = [
        "## Runs",
        "",
        f"Machine: {'; '.join(sorted({meta['machine'] for meta in metas}))}. Versions: {', '.join(sorted(versions))}.",
        "",
        "| seed | command | commit | accepted | ended | deliveries | repeats, each explained | faults, of them bit "
        "| quiet after | violations |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        meta, faults = result["meta"], result["faults"].values()
        ended = ", ".join(f"{count:,} {status}" for status, count in sorted(result["status"].items()))
        happened, bit = sum(one["happened"] for one in faults), sum(one["bit"] for one in faults)
        lines.append(
            f"| {meta['seed']} | `{meta['command']}` | {meta['commit']} | {result['accepted']:,} | {ended} "
            f"| {result['deliveries']:,} | {result['duplicates_explained']:,} | {happened}, {bit} "
            f"| {meta['quiet']['took_s']:.0f} s | {sum(result['violations'].values())} |"
        )
    return "\n".join(lines)


def _totals(results: Sequence[Result]) -> str:
    taken, again = total(results, "taken"), total(results, "duplicates_explained")
    outcomes, cancels = counted(results, "outcomes"), counted(results, "cancels")
    otherwise = taken - again - outcomes["accepted"]
    rows = {
        "accepted, the client was told": total(results, "accepted"),
        "accepted, the client was not told": total(results, "recovered"),
        "requests whose client knows nothing": total(results, "unknown_requests"),
        **{f"ended {status}": count for status, count in sorted(counted(results, "status").items())},
        **{f"at rest in the DLQ, {why}": count for why, count in sorted(counted(results, "rest").items())},
        **{f"attempts that ended {outcome}": count for outcome, count in sorted(outcomes.items())},
        "attempts ended by the rescuer (lease over)": counted(results, "reasons")["lease_over"],
        "deliveries seen by receivers": total(results, "deliveries"),
        "deliveries receivers said yes to": taken,
        "of these repeats, each after an attempt that ended unknown": again,
        "of these of notifications that ended otherwise, each after such an attempt": otherwise,
        "services that died and were started again": total(results, "deaths"),
        **{f"cancels answered {status if status != '0' else 'by nothing'}": n for status, n in sorted(cancels.items())},
    }
    lines = ["## All runs together", "", "| | |", "|---|---|", *(f"| {what} | {n:,} |" for what, n in rows.items())]
    if taken:
        lines += ["", f"Repeats are {100 * again / taken:.3f} % of what receivers said yes to."]
    return "\n".join(lines)


def _faults(faults: dict[str, dict[str, int]]) -> str:
    lines = [
        "## Faults",
        "",
        "Bit: it was seen to hurt, such as a process killed while rows were under way. What is counted last is said by "
        "each kind in `tests/chaos/faults/`.",
        "",
        "| kind | planned | happened | bit | counted |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {kind} | {one['planned']} | {one['happened']} | {one['bit']} | {one['bites']} |"
        for kind, one in faults.items()
    ]
    return "\n".join(lines)


def _violations(violated: Counter[str]) -> str:
    lines = ["## Violations", ""]
    if not violated:
        return "\n".join(
            [*lines, "None, of all invariants in `tests/chaos/invariants.py` and `tests/chaos/deliveries.py`."]
        )
    return "\n".join(
        [*lines, "| invariant | times |", "|---|---|", *(f"| {k} | {n} |" for k, n in sorted(violated.items()))]
    )


def _gaps(dull: list[str], broken: list[str]) -> str:
    if not dull and not broken:
        return ""
    lines = ["## Not proven", ""]
    if dull:
        lines.append(f"Never seen to bite, so that nothing is said about them: {', '.join(dull)}.")
    lines += [f"- The harness failed: {error}" for error in broken]
    return "\n".join(lines)


def _peaks(results: Sequence[Result]) -> str:
    peaks: dict[str, dict[str, int]] = defaultdict(lambda: {"rss": 0, "fds": 0})
    for result in results:
        for service, peak in result["peaks"].items():
            for name, value in peak.items():
                peaks[service][name] = max(peaks[service][name], value)
    lines = ["## Most that one process held", "", "| service | memory (RSS) | descriptors |", "|---|---|---|"]
    lines += [f"| {name} | {peak['rss'] // _MIB} MiB | {peak['fds']} |" for name, peak in sorted(peaks.items())]
    return "\n".join(lines)
