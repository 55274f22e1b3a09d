"""The shape of answers about suppressions, for the OpenAPI document."""

from typing import Final

from marshmallow import Schema, fields

from api_service.answer_fields import PageSchema, instant, maybe, maybe_instant, text, word
from api_service.queries import SuppressionReason
from shared.model import Channel


class SuppressionSchema(Schema):
    """A recipient nothing is sent to while this is active."""

    id = text(format="uuid")
    channel = word(Channel)
    recipient = text()
    reason = word(SuppressionReason, "gone: it answered 410. address_refused: the mail server refused it for good.")
    detail = maybe("The failure's reason, such as http_410, or a person's note.")
    notification_id = maybe("The notification whose failure led to it.", format="uuid")
    notification_href = maybe(format="uri-reference")
    active = fields.Boolean()
    created_by = text()
    created_at = instant()
    lifted_at = maybe_instant("Null while active.")
    lifted_by = maybe()
    href = text(format="uri-reference")


class SuppressionDetailSchema(SuppressionSchema):
    """A suppression with what is held for it."""

    held = fields.Integer(metadata={"description": "Notifications held for it; counting ends at 10,000."})


class SuppressionPageSchema(PageSchema):
    """A page of suppressions, newest first."""

    data = fields.List(fields.Nested(SuppressionSchema))


ALL: Final = (SuppressionDetailSchema, SuppressionPageSchema)
"""As answer_schemas.ALL."""
