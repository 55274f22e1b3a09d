"""Takes away what holds each row of hostile input, one at a time: `python -m tests.hostile [--write] [name or row]`.

Each mutant is made in a copy of the repository, and the tests of its rows have to fail there: all of the rows, each by
itself. Rows 42 to 46 need what `make test-hostile` needs. `--write` puts what was seen into the table of
docs/security.md. Exit 0: all were noticed. 1: some were not.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from tests.chaos.rewriting import REPOSITORY, edited, source_of
from tests.hostile.mutants import BY_NAME, MUTANTS, Mutant

PAGE = REPOSITORY / "docs/security.md"
_TIMEOUT_S = 900.0
_NAMESPACE = ("unshare", "--net", "--mount")
_LINE = re.compile(r"(?m)^\| (\d+) \|(.*)\|([^|]*)\|$")
_TABLE = "\n## Row by row\n"
_PYTEST_FAILED = 1


def copied(directory: Path) -> Path:
    """Copy what git knows, and what it does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (REPOSITORY / name).is_file():
            target = directory / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, target)
    return directory


def changed(directory: Path, mutant: Mutant) -> None:
    """Make a mutant's edits in a copy. Raises NotFoundInProductError."""
    for module in {edit.module for edit in mutant.edits}:
        path = source_of(module)
        text = edited(path.read_text(encoding="utf-8"), [edit for edit in mutant.edits if edit.module == module])
        (directory / path.relative_to(REPOSITORY)).write_text(text, encoding="utf-8")


def failed(directory: Path, mutant: Mutant, row: int) -> set[str]:
    """Run the tests of a row, and return the names of those that failed."""
    pytest = [sys.executable, "-m", "pytest", "-q", "-x", "-rfE", "-p", "no:cacheprovider", mutant.tests]
    pytest += ["-k", f"row_{row:02}_ or row_{row}_"]
    environ = dict(os.environ)
    if mutant.tests.startswith("tests/hostile"):
        pytest, environ["TESTS_IN_NAMESPACE"] = [*_NAMESPACE, *pytest], "1"
    done = subprocess.run(
        pytest, cwd=directory, env=environ, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
    )
    if done.returncode != _PYTEST_FAILED:
        click.echo(f"  row {row}: exit {done.returncode}: {done.stdout.strip()[-300:]}")
        return set()
    return set(re.findall(r"(?m)^FAILED \S+::(test_\w+)", done.stdout))


def told(seen: dict[int, list[str]]) -> None:
    """Write into the page's table under which mutants each row's tests failed."""

    def line(found: re.Match[str]) -> str:
        row, names = int(found[1]), found[3]
        known = [name for name in re.findall(r"`(\w+)`", names) if name not in BY_NAME]
        named = [*known, *[name for name in BY_NAME if name in seen.get(row, ()) or f"`{name}`" in names]]
        return f"| {row} |{found[2]}| {', '.join(f'`{name}`' for name in named)} |"

    before, heading, after = PAGE.read_text().partition(_TABLE)
    table, end, rest = after.partition("\n## ")  # other tables of the page begin with numbers as well
    PAGE.write_text(before + heading + _LINE.sub(line, table) + end + rest)


def main(arguments: list[str]) -> int:
    """Try all mutants, or those that are named, by name or by row."""
    wanted = [one for one in arguments if one != "--write"]
    chosen = [one for one in MUTANTS if not wanted or {one.name, *map(str, one.rows)} & set(wanted)]
    seen: dict[int, list[str]] = {}
    unnoticed = []
    for mutant in chosen:
        click.echo(mutant.name)
        with tempfile.TemporaryDirectory(prefix="hostile-") as directory:
            copy = copied(Path(directory))
            changed(copy, mutant)
            for row in mutant.rows:
                tests = failed(copy, mutant, row)
                click.echo(f"  row {row}: {', '.join(sorted(tests)) or 'NOT NOTICED'}")
                if tests:
                    seen.setdefault(row, []).append(mutant.name)
                else:
                    unnoticed.append((mutant.name, row))
    if wanted != arguments:
        told(seen)
    click.echo(f"{len(chosen)} mutants, {len(unnoticed)} not noticed {unnoticed or ''}")
    return 1 if unnoticed or not chosen else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
