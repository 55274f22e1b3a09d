"""The shape of answers about endpoints and signing secrets, for the OpenAPI document."""

from typing import Final

from marshmallow import Schema, fields

from api_service.answer_fields import PageSchema, instant, maybe, maybe_instant, text, word
from api_service.answer_schemas import LinkSchema
from api_service.queries import SuppressionReason


class DisabledSchema(Schema):
    """Why nothing is sent to an endpoint."""

    reason = word(SuppressionReason, "gone: it answered 410. manual: a person's word.")
    detail = maybe("The failure's reason, such as http_410, or a person's note.")
    at = instant()
    by = text()
    suppression = fields.Nested(LinkSchema)


class EndpointSchema(Schema):
    """A webhook receiver with a name of its own."""

    id = text("What a notification gives as `endpoint`, and is listed by as its recipient.")
    url = text(format="uri")
    description = maybe()
    headers = fields.Dict(metadata={"description": "The names of its headers; values are hidden."})
    rate_per_s = fields.Float(allow_none=True, metadata={"description": "Deliveries a second at most."})
    timeout_s = fields.Float(allow_none=True)
    status = word(("enabled", "disabled"))
    disabled = fields.Nested(DisabledSchema, allow_none=True)
    created_at = instant()
    updated_at = instant()
    href = text(format="uri-reference")


class SigningSecretSchema(Schema):
    """A secret that signs, without the secret."""

    id = text(format="uuid")
    created_at = instant()
    expires_at = maybe_instant("When it stops to sign; null for the current one.")


class SigningSecretsSchema(Schema):
    """Which secrets sign, the newest first; a delivery has a signature by each of them."""

    signing_secrets = fields.List(fields.Nested(SigningSecretSchema))


class RotatedSecretSchema(SigningSecretsSchema):
    """Which secrets sign now, and the new one itself."""

    secret = text("Shown this once.")


class EndpointDetailSchema(EndpointSchema, SigningSecretsSchema):
    """An endpoint with what signs for it and what is held for it."""

    held = fields.Integer(metadata={"description": "Notifications held while it is disabled; counting ends at 10,000."})


class NewEndpointDetailSchema(EndpointDetailSchema):
    """An endpoint that has just been made."""

    secret = text("What its deliveries are signed with. Shown this once.")


class EndpointPageSchema(PageSchema):
    """A page of endpoints, newest first."""

    data = fields.List(fields.Nested(EndpointSchema))


ALL: Final = (
    *(EndpointDetailSchema, NewEndpointDetailSchema, EndpointPageSchema),
    *(SigningSecretsSchema, RotatedSecretSchema),
)
"""As answer_schemas.ALL."""
