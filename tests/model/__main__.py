"""`make model STEPS=50000 SEED=1`: many examples, and what they were made of. A rule that never ran fails the run."""

import argparse
import secrets
import sys
import time
from pathlib import Path
from typing import Any

from infra.local import testbed
from tests.model.machine import Pipeline
from tests.model.run import STEPS, bench
from tests.servers import PostgresServer

CHUNK = 20  # examples per seed


def say(line: str, *, file: Any = sys.stdout, flush: bool = False) -> None:
    """Write a line for a person."""
    file.write(f"{line}\n")
    if flush:
        file.flush()


def main() -> int:
    """Run until enough steps were made; 0 if every promise held and every rule ran."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=1, help="the first; each chunk of examples has the next")
    parser.add_argument("--example-steps", type=int, default=STEPS)
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
    never = {
        name for name, part in vars(Pipeline).items() if hasattr(part, "hypothesis_stateful_rule")
    } - counted.rules.keys()
    if never:
        say(f"rules that never ran: {sorted(never)}", file=sys.stderr)
    return 1 if never else 0


if __name__ == "__main__":
    sys.exit(main())
