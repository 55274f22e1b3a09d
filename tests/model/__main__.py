"""`make model STEPS=50000 SEED=1`: many examples, and what they were made of.

Exit 0: every promise held, and every rule ran; 1: a promise did not hold; 3: some rule never ran, which proves nothing.
"""

import argparse
import secrets
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from infra.local import testbed
from tests.arguments import at_least
from tests.model.machine import Pipeline
from tests.model.run import STEPS, bench
from tests.servers import PostgresServer

CHUNK = 20  # examples per seed
ENOUGH_STEPS = 10_000  # three times what it took, with six first seeds, until every rule had run
EXIT_PROVES_NOTHING = 3


def say(line: str, *, file: Any = sys.stdout, flush: bool = False) -> None:
    """Write a line for a person."""
    file.write(f"{line}\n")
    if flush:
        file.flush()


def main() -> int:
    """Run until enough steps were made; see above for what is returned."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=at_least(1), default=50_000)
    parser.add_argument("--seed", type=int, default=1, help="the first; each chunk of examples has the next")
    parser.add_argument("--example-steps", type=at_least(1), default=STEPS)
    parser.add_argument("--shrink", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    name = f"model_{secrets.token_hex(4)}"
    with testbed.lease("postgres", Path(".local/model")) as at:
        server = PostgresServer(at["port"], at["password"], at["template"], at["version"])
        database = server.create_database(name)
        try:
            return _run(database.dsn, options)
        finally:
            server.drop_database(name)


def _run(dsn: str, options: argparse.Namespace) -> int:
    with bench(dsn) as ready:
        began_at, seed = time.monotonic(), options.seed
        while ready.counted.steps < options.steps:
            try:
                ready.run(examples=CHUNK, seed=seed, steps=options.example_steps, shrink=options.shrink)
            except Exception:
                say(f"broken at seed {seed}: repeat with --steps 1 --seed {seed}", file=sys.stderr)
                raise
            seed += 1
            say(f"{ready.counted.steps} steps", flush=True)
        took_s = time.monotonic() - began_at
    counted = ready.counted
    for title, counts in (("rules", counted.rules), ("what happened in them", counted.bites)):
        say(f"{title}:")
        for what, count in counts.most_common():
            say(f"  {count:8} {what}")
    say(f"{counted.steps} steps in {counted.examples} examples, {took_s:.0f} s, {counted.steps / took_s:.0f} steps/s")
    say(f"{counted.torn} chunks ended early, where the order of rows differed")
    say(f"seeds {options.seed} to {seed - 1}")
    if lacking := what_lacks(counted.rules.keys(), steps=counted.steps):
        say(lacking, file=sys.stderr)
        return EXIT_PROVES_NOTHING
    return 0


def what_lacks(ran: Collection[str], *, steps: int) -> str:
    """Say which rules never ran in so many steps, and how many steps would do; nothing if all did."""
    every = {name for name, part in vars(Pipeline).items() if hasattr(part, "hypothesis_stateful_rule")}
    if not (never := sorted(every - set(ran))):
        return ""
    what = f"this proves nothing: in {steps} steps these rules never ran: {', '.join(never)}"
    return f"{what}; STEPS={ENOUGH_STEPS} is enough for all of them" if steps < ENOUGH_STEPS else what


if __name__ == "__main__":
    sys.exit(main())
