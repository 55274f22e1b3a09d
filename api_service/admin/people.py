"""Commands about people who sign in. A password is never an argument: those are seen by everybody on the machine."""

import sys
from pathlib import Path
from typing import Any, Final

import click
from psycopg import Connection

from api_service.actions import Action
from api_service.admin.session import Checked, NotDoneError, as_json, found, note, session, tell
from api_service.admin.tenants import TENANT
from api_service.faults import FaultyValueError
from api_service.identity_representations import user_shown
from api_service.identity_schemas import Role, checked_address
from api_service.passwords import Passwords, checked_password
from api_service.persons import checked_by
from shared.db import tenants, users
from shared.db.users import NewUser, SigningIn, User
from shared.model import uuid7

an_email: Final = click.argument("email", type=Checked("email", checked_address))
with_password: Final = click.option(
    "--password-file",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="A file with the password in its first line, - for stdin; without it, it is asked for.",
)


def _password(file: Path | None) -> str:
    """Return a password from a file, from stdin, or as typed twice. Raises NotDoneError for one that is not taken."""
    if file is None and not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask for a password at: use --password-file")
    if file is None:
        password = str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    elif str(file) == "-":
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = _first_line(file)
    try:
        return checked_password(password)
    except FaultyValueError as error:
        raise NotDoneError(str(error)) from None


def _first_line(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
    except UnicodeDecodeError:
        raise NotDoneError(f"{file} is not UTF-8") from None


def _created(tenant: str, email: str, name: str, role: Role, file: Path | None, *, in_json: bool) -> None:
    password_hash = Passwords().hashed(_password(file))
    with session() as conn:
        found(tenants.find(conn, tenant), f"tenant {tenant}: create-tenant makes one")
        user = users.add(conn, NewUser(uuid7(), tenant, email, name, role, password_hash))
        if user is None:
            raise NotDoneError(f"somebody has the address {email} already")
        note(conn, Action.USER_CREATED, str(user.id), tenant_id=tenant, after={"role": role})
    _tell(
        user, f"{name} <{email}> is {'an' if role is Role.ADMIN else 'a'} {role} of tenant {tenant}.", in_json=in_json
    )


def _tell(user: User, text: str, *, in_json: bool) -> None:
    tell(user_shown(user) | {"tenant_id": user.tenant_id}, text, in_json=in_json)


_OF: Final = click.option("--tenant", type=TENANT, required=True, help="Whom they belong to.")
_EMAIL: Final = click.option("--email", type=Checked("email", checked_address), required=True)
_NAME: Final = click.option("--name", type=Checked("name", checked_by), required=True, help="What others see.")


@click.command()
@_OF
@_EMAIL
@_NAME
@with_password
@as_json
def create_admin(tenant: str, email: str, name: str, password_file: Path | None, as_json: bool) -> None:
    """Make somebody an administrator of a tenant, with a password of theirs."""
    _created(tenant, email, name, Role.ADMIN, password_file, in_json=as_json)


@click.command()
@_OF
@_EMAIL
@_NAME
@with_password
@as_json
def create_user(tenant: str, email: str, name: str, password_file: Path | None, as_json: bool) -> None:
    """Make somebody a user of a tenant: they may send and read."""
    _created(tenant, email, name, Role.USER, password_file, in_json=as_json)


@click.command()
@an_email
@with_password
@as_json
def set_password(email: str, password_file: Path | None, as_json: bool) -> None:
    """Give somebody another password. Whoever had signed in by the old one has to do so again."""
    password_hash = Passwords().hashed(_password(password_file))
    with session() as conn:
        user = found(users.set_password(conn, email, password_hash=password_hash), f"user {email}")
        note(conn, Action.USER_PASSWORD_SET, str(user.id), tenant_id=user.tenant_id)
    _tell(user, f"{email} has another password.", in_json=as_json)


@click.command()
@an_email
@as_json
def disable_user(email: str, as_json: bool) -> None:
    """Let somebody in no more, within five seconds."""
    with session() as conn:
        user = _switched(conn, email, disabled=True)
    _tell(user, f"{email} is let in no more.", in_json=as_json)


@click.command()
@an_email
@as_json
def enable_user(email: str, as_json: bool) -> None:
    """Let somebody in again, once they sign in anew."""
    with session() as conn:
        user = _switched(conn, email, disabled=False)
    _tell(user, f"{email} is let in.", in_json=as_json)


def _switched(conn: Connection[Any], email: str, *, disabled: bool) -> User:
    known: SigningIn = found(users.signing_in(conn, email), f"user {email}")
    before = found(users.find_locked(conn, known.id, tenant_id=known.tenant_id), f"user {email}")
    user = found(users.disable(conn, known.id, tenant_id=known.tenant_id, disabled=disabled), f"user {email}")
    if (before.disabled_at is not None) != disabled:
        action = Action.USER_DISABLED if disabled else Action.USER_ENABLED
        was, becomes = {"disabled": not disabled}, {"disabled": disabled}
        note(conn, action, str(user.id), tenant_id=user.tenant_id, before=was, after=becomes)
    return user


COMMANDS: Final = (create_admin, create_user, set_password, disable_user, enable_user)
