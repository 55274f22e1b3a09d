"""Options that several commands have; a value that makes no sense is refused before anything is done."""

import math
from pathlib import Path
from typing import Any, Final

import click

from loadtest.reading import MOST
from loadtest.results import REPORTS


class Rate(click.FloatRange):
    """Notifications a second: from 1 to 1,000,000,000; nan, which is not below 1 either, is none."""

    def __init__(self) -> None:
        super().__init__(min=1, max=MOST)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read one."""
        rate = super().convert(value, param, ctx)
        if math.isnan(rate):
            self.fail(f"{value!r} is no number from 1 on.", param, ctx)
        return rate


def _where_runs_are(_context: click.Context, _option: click.Parameter, value: Path | None) -> Path:
    """Only what somebody named has to exist: before the first run the usual place does not."""
    return value or REPORTS


seed_option: Final = click.option(
    "--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Of everything that is drawn."
)
reports_option: Final = click.option(
    "--reports",
    type=click.Path(path_type=Path, file_okay=False),
    default=REPORTS,
    show_default=".local/reports",
    help="Where the report goes.",
)
directory_option: Final = click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    callback=_where_runs_are,
    help="Of all runs; .local/reports unless given.",
)
