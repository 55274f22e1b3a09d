"""What may be said about people who sign in and about API keys."""

from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final

import marshmallow as ma

from api_service import fields
from api_service.addresses import checked_email
from api_service.callers import Scope
from api_service.faults import FaultyValueError
from api_service.passwords import MAX_CHARS, MIN_CHARS, checked_password
from api_service.persons import MAX_BY_CHARS, checked_by
from api_service.schemas import StrictSchema

EXPIRES_WITHIN: Final = timedelta(days=3650)
MAX_OVERLAP_S: Final = 7 * 86_400
OVERLAP_S: Final = 3600.0
_NAME: Final = {"minLength": 1, "maxLength": MAX_BY_CHARS, "pattern": fields.NOT_BLANK}


class Role(StrEnum):
    """What somebody may do who has signed in: user is send and read, admin everything of the tenant."""

    USER = "user"
    ADMIN = "admin"


def checked_address(text: str) -> str:
    """Return an e-mail address as somebody is known by it: in lower case throughout. Raises FaultyValueError."""
    return checked_email(text).lower()


def _at_most(chars: int) -> Callable[[str], str]:
    def check(text: str) -> str:
        if not 1 <= len(text) <= chars:
            raise FaultyValueError("invalid", f"1 to {chars} characters")
        return text

    return check


class Scopes(ma.fields.List[str]):
    """One scope or more, each once, as it is asked for."""

    def __init__(self, **options: Any) -> None:
        super().__init__(fields.Word(Scope), error_messages={"required": fields.REQUIRED}, **options)

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> Any:
        known = {scope.value: scope for scope in Scope}
        if type(value) is not list or not value or len(value) > len(known):
            raise fields.refuse("invalid_scopes", "a list of one scope or more")
        if any(type(one) is not str or one not in known for one in value) or len(set(value)) < len(value):
            raise fields.refuse("invalid_scopes", "each of " + ", ".join(known) + " at most once")
        return [scope for scope in Scope if scope.value in value]


class RegisterSchema(StrictSchema):
    """Somebody who joins."""

    email = fields.Text(checked_address, required=True, metadata={"format": "email", "maxLength": 254})
    password = fields.Text(
        checked_password,
        required=True,
        metadata={
            "format": "password",
            "minLength": MIN_CHARS,
            "maxLength": MAX_CHARS,
            "description": "Not one of the commonest; of any characters.",
        },
    )
    name = fields.Text(checked_by, required=True, metadata=_NAME | {"description": "What others see."})


class LoginSchema(StrictSchema):
    """Somebody who signs in."""

    email = fields.Text(_at_most(254), required=True, metadata={"minLength": 1, "maxLength": 254})
    password = fields.Text(
        _at_most(MAX_CHARS), required=True, metadata={"format": "password", "minLength": 1, "maxLength": MAX_CHARS}
    )


class RoleSchema(StrictSchema):
    """What somebody may do from now on."""

    role = fields.Word(Role, required=True)


class NewKeySchema(StrictSchema):
    """A key to be."""

    name = fields.Text(
        checked_by, required=True, metadata=_NAME | {"description": "What it is for; what it does is noted under this."}
    )
    scopes = Scopes(required=True, metadata={"minItems": 1, "maxItems": len(Scope), "uniqueItems": True})
    expires_at = fields.FutureInstant(
        within=EXPIRES_WITHIN,
        grace=timedelta(0),
        metadata={"description": "From when on it is refused; without one, never. At most ten years from now."},
    )


class RotateKeySchema(StrictSchema):
    """How a key changes its secret."""

    overlap_s = fields.Number(
        low=0,
        high=MAX_OVERLAP_S,
        of="seconds",
        load_default=OVERLAP_S,
        metadata={
            "default": OVERLAP_S,
            "description": "For so many seconds the secret it had is accepted too; 0: no more from now on.",
        },
    )


REGISTER: Final = RegisterSchema()
LOGIN: Final = LoginSchema()
ROLE: Final = RoleSchema()
NEW_KEY: Final = NewKeySchema()
ROTATE_KEY: Final = RotateKeySchema()
ALL: Final = (RegisterSchema, LoginSchema, RoleSchema, NewKeySchema, RotateKeySchema)
