"""`notify-admin`: tenants, keys and people, set up and shut out from the command line; secrets sealed anew.

It works on the database itself, as its owner: DATABASE_URL, or DB_HOST and the others.

Exit 0: done. 1: not done, and why. 2: bad usage, configuration or rights. 3: PostgreSQL is out of reach. 4: a bug.
"""

import sys
import traceback
from typing import Any, Final

import click
import psycopg

from api_service.admin import importing, keys, listing, people, rotating, tenants
from api_service.admin.session import EXIT_BUG, EXIT_MISUSED, EXIT_OUT_OF_REACH, NAME
from shared.db import OUTAGE, tenancy
from shared.db.outages import outage_reason

_TO_MEND: Final = {
    *("connection_string_refused", "password_refused", "login_refused"),
    *("no_such_database", "no_such_database_or_role"),
}
_OTHER_SCHEMA: Final = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedFunction,
)


class _Group(click.Group):
    """Commands in the order in which they are needed first."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_Group, help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Group the commands."""


for command in (
    *(*tenants.COMMANDS, *keys.COMMANDS, *people.COMMANDS),
    *(importing.import_users, listing.list_, rotating.rotate_secrets),
):
    cli.add_command(command)


def main(argv: list[str] | None = None) -> None:
    """Run a command and exit as the module says."""
    try:
        cli.main(argv, prog_name=NAME)
    except OUTAGE as error:
        reason = outage_reason(error)
        code = EXIT_MISUSED if reason in _TO_MEND else EXIT_OUT_OF_REACH
        _leave(code, f"PostgreSQL cannot be used: {reason}")
    except psycopg.errors.InsufficientPrivilege as error:
        _leave(EXIT_MISUSED, f"its role lacks a right, use the owner's: {error.diag.message_primary}")
    except tenancy.HiddenRowsError as error:
        _leave(EXIT_MISUSED, f"row-level security hides rows of {error.table} from its role, use the owner's")
    except _OTHER_SCHEMA as error:
        _leave(EXIT_MISUSED, f"the schema is older than this command, run init.sql: {error.diag.message_primary}")
    except Exception as error:  # noqa: BLE001 - its words may quote a password, so Python must not print them
        _leave(EXIT_BUG, f"a bug: {type(error).__name__} {_places(error)}")


def _places(error: Exception) -> str:
    """Where it came from, through this project's modules."""
    frames = [(frame.f_globals["__name__"], line) for frame, line in traceback.walk_tb(error.__traceback__)]
    return " > ".join(f"{name}:{line}" for name, line in frames if name.startswith(("api_service.", "shared.")))


def _leave(code: int, why: str) -> Any:
    click.echo(f"{NAME}: {why}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
