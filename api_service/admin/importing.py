"""People of another system, with the hashes of their passwords."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import orjson

from api_service.actions import Action
from api_service.admin.session import NotDoneError, as_json, found, note, session, tell
from api_service.admin.tenants import TENANT
from api_service.faults import FaultyValueError
from api_service.identity_schemas import Role, checked_address
from api_service.passwords import is_accepted_hash
from api_service.persons import checked_by
from shared.db import tenants, users
from shared.db.users import NewUser
from shared.model import uuid7

_AT_ONCE: Final = 1_000
_SHOWN: Final = 20
_FIELDS: Final = {"email", "name", "password_hash", "role"}


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--tenant", type=TENANT, required=True, help="Whom they belong to.")
@as_json
def import_users(file: Path, tenant: str, as_json: bool) -> None:
    """Import people with their bcrypt hashes, which are renewed when they sign in.

    FILE has a JSON object a line, or is CSV with a header: email, name, password_hash and, if it is not user, role.
    All or nothing: a line with a fault is named, and nothing is imported. Who is known already is left as they are.
    """
    news, faults = _read(file, tenant)
    if faults:
        more = f"\n  and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        count = "1 fault" if len(faults) == 1 else f"{len(faults):,} faults"
        raise NotDoneError(f"nothing is imported, {count}:\n  " + "\n  ".join(faults[:_SHOWN]) + more)
    with session() as conn:
        found(tenants.find(conn, tenant), f"tenant {tenant}: create-tenant makes one")
        imported = 0
        for first in range(0, len(news), _AT_ONCE):
            imported += len(users.add_many(conn, news[first : first + _AT_ONCE]))
        if imported:
            note(conn, Action.USER_IMPORTED, tenant, tenant_id=tenant, after={"imported": imported})
    known = len(news) - imported
    tell(
        {"imported": imported, "known_already": known},
        f"{imported:,} imported, {known:,} were known already.",
        in_json=as_json,
    )


def _read(file: Path, tenant: str) -> tuple[list[NewUser], list[str]]:
    """Return who is in a file, and what is wrong in which line; a fault quotes nothing of its line."""
    news: dict[str, NewUser] = {}
    faults: list[str] = []
    for number, row in _rows(file):
        try:
            new = _user(row, tenant)
            if new.email in news:
                raise FaultyValueError("repeated", "its address was in a line before")
        except FaultyValueError as error:
            faults.append(f"line {number}: {error}")
        else:
            news[new.email] = new
    return list(news.values()), faults


def _rows(file: Path) -> Iterator[tuple[int, Any]]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise NotDoneError(f"{file} is not UTF-8") from None
    if not text.lstrip().startswith("{"):
        reader = csv.DictReader(text.splitlines())
        try:
            for row in reader:
                yield reader.line_num, {name: value for name, value in row.items() if value}
        except csv.Error:
            yield reader.line_num, None
        return
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                yield number, orjson.loads(line)
            except orjson.JSONDecodeError:
                yield number, None


def _user(row: Any, tenant: str) -> NewUser:
    """Return somebody as a line has them. Raises FaultyValueError."""
    if not isinstance(row, dict) or not row.keys() <= _FIELDS or not all(type(one) is str for one in row.values()):
        raise FaultyValueError("unreadable", "not email, name, password_hash and role")
    for name in ("email", "name", "password_hash"):
        if name not in row:
            raise FaultyValueError("required", f"there is no {name}")
    if not is_accepted_hash(row["password_hash"]):
        raise FaultyValueError("invalid_hash", "its password_hash is no bcrypt hash of a cost from 4 to 14")
    role = row.get("role", Role.USER).lower()
    if role not in list(Role):
        raise FaultyValueError("invalid_role", "its role is neither user nor admin")
    return NewUser(uuid7(), tenant, checked_address(row["email"]), checked_by(row["name"]), role, row["password_hash"])
