"""Asks of a run whether what was promised held: `python -m tests.chaos.checker RUN_DIR [RESULT]`.

It reads the directory alone: ledgers and the dump of the database. Exit 1 if anything was violated, 3 if the harness
broke and the run proves nothing.
"""

import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import orjson

from tests.chaos import deliveries, invariants
from tests.chaos.faults.catalogue import KINDS
from tests.chaos.history import History, load
from tests.chaos.topology import LADDER_S
from tests.chaos.violations import Violation

EXIT_VIOLATED, EXIT_BROKEN = 1, 3
_SHOWN = 5


def violations(history: History) -> list[Violation]:
    """Everything that did not hold."""
    return [found for ask in (*invariants.INVARIANTS, *deliveries.INVARIANTS) for found in ask(history)]


def result_of(history: History, found: list[Violation]) -> dict[str, Any]:
    """A run in numbers, for the report."""
    results = Counter(invoke.result for invoke in history.invokes.values())
    accepted = sum(len(invoke.ids) for invoke in history.invokes.values() if invoke.result == "ok")
    present = {row.token for row in history.rows.values()}
    unknown = [invoke for invoke in history.invokes.values() if invoke.result == "unknown" and invoke.items]
    receipts = [receipt for receipts in history.receipts.values() for receipt in receipts]
    return {
        "meta": history.meta,
        "load_s": history.plan["load_s"],
        "requests": dict(results),
        "accepted": accepted,
        "recovered": sum(item["tok"] in present for invoke in unknown for item in invoke.items),
        "unknown_requests": len(unknown),
        "rows": len(history.rows),
        "status": dict(Counter(row.status for row in history.rows.values())),
        "rest": dict(Counter(str(one.rest_reason) for one in history.letters.values() if one.status == "failed")),
        "attempts": sum(map(len, history.attempts.values())),
        "outcomes": dict(Counter(one.outcome for rows in history.attempts.values() for one in rows)),
        "reasons": dict(Counter(str(one.reason) for rows in history.attempts.values() for one in rows).most_common(25)),
        "deliveries": len(receipts),
        "taken": sum(receipt.accepted for receipt in receipts),
        "duplicates_explained": deliveries.explained_duplicates(history),
        "cancels": dict(Counter(str(one.status) for cancels in history.cancels.values() for one in cancels)),
        "faults": faults_of(history),
        "deaths": len(history.faults("died")),
        "peaks": history.peaks,
        "violations": dict(Counter(one.invariant for one in found)),
    }


def faults_of(history: History) -> dict[str, dict[str, int]]:
    """Per kind: how often planned, how often it happened, how many of those bit, and how often altogether."""
    kinds: dict[str, dict[str, int]] = defaultdict(lambda: {"planned": 0, "happened": 0, "bit": 0, "bites": 0})
    for fault in history.plan["faults"]:
        kinds[fault["kind"]]["planned"] += 1
    for event in history.faults("injected"):
        kinds[event["kind"]]["happened"] += 1
    for event in history.faults("bites"):
        kinds[event["kind"]]["bit"] += event["count"] > 0
        kinds[event["kind"]]["bites"] += event["count"]
    return dict(sorted(kinds.items()))


def said(result: dict[str, Any], found: list[Violation]) -> str:
    """The outcome for a person, each violated invariant with the first pieces of its evidence."""
    lines = [
        f"accepted {result['accepted']} (and {result['recovered']} whose producer was not told), "
        f"ended {result['status']}, deliveries {result['deliveries']}, "
        f"explained duplicates {result['duplicates_explained']}, outcomes {result['outcomes']}",
        f"reasons {result['reasons']}",
        f"peaks {result['peaks']}",
    ]
    for kind, counts in result["faults"].items():
        lines.append(f"  {kind:<32} happened {counts['happened']:3}, bit {counts['bit']:3} ({counts['bites']})")
    by_invariant: dict[str, list[Violation]] = defaultdict(list)
    for one in found:
        by_invariant[one.invariant].append(one)
    for name, ones in sorted(by_invariant.items()):
        lines.append(f"VIOLATED {name}: {len(ones)}")
        lines += [f"    {one.about}: {orjson.dumps(one.evidence).decode()}" for one in ones[:_SHOWN]]
    dull = [kind for kind, counts in result["faults"].items() if not counts["bit"]]
    if dull:
        lines.append(f"never bit in this run: {', '.join(dull)}")
    lines += [f"HARNESS: {error}" for error in result["meta"]["harness_errors"]]
    lines.append("violated" if found else "everything that was promised held")
    return "\n".join(lines)


def main() -> None:
    """Check one run."""
    run_dir = Path(sys.argv[1])
    forgetful = frozenset(kind.name for kind in KINDS.values() if kind.loses_records)
    history = load(run_dir, ladder=len(LADDER_S), loses_records=forgetful)
    found = violations(history)
    result = result_of(history, found)
    content = orjson.dumps(result, option=orjson.OPT_INDENT_2)
    for path in (run_dir / "result.json", *map(Path, sys.argv[2:3])):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    with (run_dir / "violations.jsonl").open("wb") as file:
        file.writelines(
            orjson.dumps({"invariant": one.invariant, "about": one.about, **one.evidence}) + b"\n" for one in found
        )
    print(said(result, found))  # noqa: T201 - its purpose
    if result["meta"]["harness_errors"]:
        sys.exit(EXIT_BROKEN)
    sys.exit(EXIT_VIOLATED if found else 0)


if __name__ == "__main__":
    main()
