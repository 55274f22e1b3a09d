"""Load tests from the command line: `python -m loadtest run smoke|load|stress|spike|soak`, `dlq`, `report`, ...

Exit 0: every limit held. 1: some did not. 2: bad usage or configuration. 3: the run broke, and nothing is proven.
"""

import importlib
from typing import Final

import click

COMMANDS: Final = {
    "run": "loadtest.command",
    "dlq": "loadtest.dlq",
    "report": "loadtest.report.command",
    "bench": "loadtest.bench.command",
    "capacity": "loadtest.capacity.command",
    "performance": "loadtest.performance",
}
"""Each is a module with a `click.Command` called `command`, imported when it is asked for: a report needs no Kafka."""


class _OnDemand(click.Group):
    """A group whose commands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Name the commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import one; None for a name that is none."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name]).command
        return command


@click.group(cls=_OnDemand, help=__doc__)
def main() -> None:
    """Group the commands."""


if __name__ == "__main__":
    main()
