"""The shape of answers about the audit log, for the OpenAPI document."""

from typing import Final

from marshmallow import Schema, fields

from api_service.actions import Action, EntityType
from api_service.answer_fields import PageSchema, instant, maybe, text, word
from shared.db.audit import ActorKind


class ActorSchema(Schema):
    """Who did it."""

    kind = word(ActorKind, "command: a person at a prompt of the installation. open: nobody has to say who they are.")
    id = text("The id of the key or the user.")
    name = text()


class AuditLogSchema(Schema):
    """Something that was done."""

    seq = fields.Integer(metadata={"description": "Its number; rows of all tenants are counted together."})
    at = instant()
    actor = fields.Nested(ActorSchema)
    action = word(Action)
    entity_type = word(EntityType)
    entity_id = text()
    before = fields.Dict(allow_none=True, metadata={"description": "States before; of secrets their names alone."})
    after = fields.Dict(allow_none=True, metadata={"description": "States afterwards."})
    address = maybe("The client's.")
    user_agent = maybe("As the client gives it, cut at 200 characters.")
    request_id = maybe()
    tenant_id = maybe("Null for what concerns the installation; only its operators see that.")
    hash = text("SHA-256 over the row and the hash of the row before it, in hexadecimal.")


class AuditLogPageSchema(PageSchema):
    """A page of the audit log, newest first."""

    data = fields.List(fields.Nested(AuditLogSchema))


ALL: Final = (AuditLogPageSchema,)
"""As answer_schemas.ALL."""
