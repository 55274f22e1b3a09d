"""What is noted in the audit log: the words for what is done, and to what."""

from enum import StrEnum


class EntityType(StrEnum):
    """What kinds of things are changed."""

    DEAD_LETTER = "dead_letter"
    BULK_RETRY = "bulk_retry"
    SUPPRESSION = "suppression"
    ENDPOINT = "endpoint"
    SIGNING_SECRET = "signing_secret"  # noqa: S105 - what it is, not one
    SENDER_DOMAIN = "sender_domain"
    API_KEY = "api_key"
    USER = "user"
    TENANT = "tenant"
    SECRETS = "secrets"


class Action(StrEnum):
    """What is done to them; docs/operations.md says what each row holds."""

    DEAD_LETTER_RETRIED = "dead_letter.retried"
    DEAD_LETTER_DISCARDED = "dead_letter.discarded"
    BULK_RETRY_CREATED = "bulk_retry.created"
    BULK_RETRY_CANCELLED = "bulk_retry.cancelled"
    SUPPRESSION_ADDED = "suppression.added"
    SUPPRESSION_LIFTED = "suppression.lifted"
    ENDPOINT_CREATED = "endpoint.created"
    ENDPOINT_CHANGED = "endpoint.changed"
    ENDPOINT_DISABLED = "endpoint.disabled"
    ENDPOINT_RESUMED = "endpoint.resumed"
    ENDPOINT_DELETED = "endpoint.deleted"
    SIGNING_SECRET_ROTATED = "signing_secret.rotated"  # noqa: S105 - what is done, not one
    SENDER_DOMAIN_ADDED = "sender_domain.added"
    SENDER_DOMAIN_VERIFIED = "sender_domain.verified"
    SENDER_DOMAIN_DELETED = "sender_domain.deleted"
    API_KEY_CREATED = "api_key.created"
    API_KEY_ROTATED = "api_key.rotated"
    API_KEY_REVOKED = "api_key.revoked"
    USER_CREATED = "user.created"
    USER_IMPORTED = "user.imported"
    USER_ROLE_SET = "user.role_set"
    USER_PASSWORD_SET = "user.password_set"  # noqa: S105 - the name of an action
    USER_DISABLED = "user.disabled"
    USER_ENABLED = "user.enabled"
    TENANT_CREATED = "tenant.created"
    TENANT_SUSPENDED = "tenant.suspended"
    TENANT_RESUMED = "tenant.resumed"
    TENANT_QUOTA_SET = "tenant.quota_set"
    SECRETS_RESEALED = "secrets.resealed"

    @property
    def entity_type(self) -> EntityType:
        """Return what it is done to."""
        return EntityType(self.value.partition(".")[0])
