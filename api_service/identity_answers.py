"""The shape of answers about people who sign in and about API keys, for the OpenAPI document."""

from typing import Final

from marshmallow import Schema, fields

from api_service.answer_fields import PageSchema, instant, maybe, maybe_instant, text, word
from api_service.callers import CallerKind, Scope
from api_service.identity_schemas import Role


class UserSchema(Schema):
    """Somebody who signs in."""

    id = text(format="uuid")
    email = text(format="email")
    name = text()
    role = word(Role)
    created_at = instant()
    updated_at = instant("When they, their role or their password last changed.")
    disabled_at = maybe_instant("Null while they are let in.")
    last_login_at = maybe_instant()
    href = text(format="uri-reference")


class UserPageSchema(PageSchema):
    """A page of users, newest first."""

    data = fields.List(fields.Nested(UserSchema))


class TokenSchema(Schema):
    """What somebody has who has signed in. Send it as Authorization: Bearer."""

    access_token = text()
    token_type = text(enum=["Bearer"])
    expires_in = fields.Integer(metadata={"description": "Seconds."})


class CallerSchema(Schema):
    """Who a request is from."""

    kind = word(CallerKind)
    id = text("Of the key or of the user.")
    name = text("What decisions are noted under.")
    tenant_id = text()
    scopes = fields.List(word(Scope))
    user = fields.Nested(UserSchema, allow_none=True, metadata={"description": "Null for a key."})


class ApiKeySchema(Schema):
    """A key, without its secret."""

    id = text()
    starts_with = text("How the key itself begins, to know it again by.")
    name = text()
    scopes = fields.List(word(Scope))
    limits = maybe("Request limits of its own.")
    created_at = instant()
    created_by = maybe()
    expires_at = maybe_instant("Null: it does not expire.")
    previous_expires_at = maybe_instant("Until when the secret before the last rotation is accepted too.")
    revoked_at = maybe_instant()
    revoked_by = maybe()
    last_used_at = maybe_instant("To the minute.")
    href = text(format="uri-reference")


class ApiKeyPageSchema(PageSchema):
    """A page of keys, newest first."""

    data = fields.List(fields.Nested(ApiKeySchema))


class MadeApiKeySchema(ApiKeySchema):
    """A key with its secret, which is shown this once."""

    key = text("The key itself. It cannot be shown again: keep it where secrets are kept.")


ALL: Final = (UserSchema, UserPageSchema, TokenSchema, CallerSchema, ApiKeySchema, ApiKeyPageSchema, MadeApiKeySchema)
"""As answer_schemas.ALL."""
