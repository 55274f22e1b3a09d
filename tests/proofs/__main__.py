"""`python -m tests.proofs NAME [options]`: measure one promise; exit 1 if it did not hold. Without NAME: list them.

`page FILES` turns what several wrote with --json into docs/reports/figures.md.
"""

import ast
import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import click

from tests.proofs import page

_HERE = Path(__file__).parent
NAMES = ("recovery", "cancels", "bulkhead", "fairness", "herd", "loss", "ledger")
"""Each is a module of this package with `main(argv) -> int`."""


def listing() -> str:
    """One line per proof: its name, and the first line of what its module says."""
    lines = ["python -m tests.proofs NAME [options]   (NAME --help lists the options)", ""]
    for name in NAMES:
        if (path := _HERE / f"{name}.py").exists():
            said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            lines.append(f"  {name:<10} {said.partition(chr(10))[0]}")
    return "\n".join(lines)


def find(name: str) -> Callable[[list[str]], int]:
    """The `main` of a proof. Raises KeyError for a name that is none."""
    if name not in NAMES or not (_HERE / f"{name}.py").exists():
        raise KeyError(name)
    main: Callable[[list[str]], int] = importlib.import_module(f"tests.proofs.{name}").main
    return main


def main(argv: list[str]) -> int:
    """Run one proof; 2 for a name that is none."""
    if not argv or argv[0] in {"-h", "--help"}:
        click.echo(listing())
        return 0
    if argv[0] == "page":
        return page.main(argv[1:])
    try:
        proof = find(argv[0])
    except KeyError:
        click.echo(f"There is no proof {argv[0]!r}.\n\n{listing()}", err=True)
        return 2
    return proof(argv[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
