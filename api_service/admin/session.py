"""What every command works with: a connection, options, and how a result or a refusal is told."""

import os
import pwd
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import click
import psycopg

from api_service.actions import Action
from api_service.faults import FaultyValueError
from api_service.responses import dumps
from shared.conninfo import read_conninfo
from shared.db import connect, readiness_fault
from shared.db.audit import OF_NO_TENANT, ActorKind, Entry, append
from shared.secrets import Keyring
from shared.settings import Environment, read_secrets_keys, settings_or_exit

NAME: Final = "notify-admin"
EXIT_NOT_DONE, EXIT_MISUSED, EXIT_OUT_OF_REACH, EXIT_BUG = 1, 2, 3, 4
_AGE: Final = re.compile(r"(\d{1,6})([smhdw])")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


class NotDoneError(click.ClickException):
    """A command did nothing; the message says why, to whoever typed it."""

    exit_code = EXIT_NOT_DONE

    def show(self, file: Any = None) -> None:  # noqa: ARG002
        """Write it to stderr."""
        click.echo(f"{NAME}: {self.message}", err=True)


@contextmanager
def session() -> Iterator[psycopg.Connection[Any]]:
    """Open a transaction as the environment says. Raises what `shared.db.connect` raises."""
    with connected() as conn, conn.transaction():
        yield conn


@contextmanager
def connected() -> Iterator[psycopg.Connection[Any]]:
    """Open a connection as the environment says, for a command of several transactions. Raises as session does."""
    conninfo = settings_or_exit(NAME, _read)
    with connect(conninfo, application_name=NAME, settings=("SET lock_timeout = '10s'",)) as conn:
        if fault := readiness_fault(conn):
            raise NotDoneError(fault)
        yield conn


def _read(env: Environment) -> str:
    return read_conninfo(env)


def keyring() -> Keyring:
    """Return the keys that secrets are sealed with, as SECRETS_KEYS names them; none where it is not set."""
    return Keyring(settings_or_exit(NAME, read_secrets_keys))


def note(
    conn: psycopg.Connection[Any],
    action: Action,
    entity_id: str,
    *,
    tenant_id: str = OF_NO_TENANT,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Note in the audit log what the command has done, as the last statement of its transaction."""
    entry = Entry(
        tenant_id,
        ActorKind.COMMAND,
        _whoever_typed(),
        NAME,
        action,
        action.entity_type,
        entity_id,
        before=before,
        after=after,
    )
    append(conn, entry)


def _whoever_typed() -> str:
    """Return the name of the operating system's user; in a container there may be none for its number."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


as_json: Final = click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")


def tell(record: Mapping[str, Any], text: str, *, in_json: bool) -> None:
    """Write a result: the record as JSON, or a text for a person."""
    click.echo(dumps(dict(record)).decode() if in_json else text)


def found(value: T | None, what: str) -> T:
    """Return what was found. Raises NotDoneError where it was not."""
    if value is None:
        raise NotDoneError(f"there is no {what}")
    return value


class Checked(click.ParamType[str]):
    """A value that passes one of the API's checks."""

    def __init__(self, name: str, check: Callable[[str], str]) -> None:
        self.name, self._check = name, check

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value as it is stored."""
        try:
            return self._check(value)
        except FaultyValueError as error:
            self.fail(str(error), param, ctx)


class Age(click.ParamType[float]):
    """A length of time such as 90d, in seconds."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the seconds."""
        if isinstance(value, int | float):
            return float(value)
        age = _AGE.fullmatch(value)
        if age is None:
            self.fail(f"{value!r} is no length of time, such as 90m, 12h, 30d or 52w", param, ctx)
        return float(age[1]) * _UNITS[age[2]]
