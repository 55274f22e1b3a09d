"""`python -m loadtest report`: write the pages of runs that were measured before."""

import sys
from pathlib import Path

import click

from loadtest.options import directory_option
from loadtest.report.index_page import write_index
from loadtest.report.run_page import write
from loadtest.results import ResultError, load


@click.command("report")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@directory_option
def command(files: tuple[Path, ...], directory: Path) -> None:
    """Write the page of each run in FILES (without any: of all runs), and the index that compares two.

    A page is written beside its JSON file. Exit 2 if one of the files is no result of a run.
    """
    faults = 0
    for path in files or sorted(directory.glob("*.json")):
        try:
            click.echo(write(load(path), path.with_suffix(".html")))
        except ResultError as error:
            faults += 1
            click.echo(f"{path} is no result of a run:", err=True)
            for fault in error.faults:
                click.echo(f"  {fault}", err=True)
    click.echo(write_index(directory))
    sys.exit(2 if faults else 0)
