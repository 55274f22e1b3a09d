"""What notifications, dead letters, suppressions and destinations look like to a client."""

import base64
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

import orjson

from api_service.look_alikes import warning_of
from shared.db.accepting import NewNotification
from shared.db.attempts import Attempt
from shared.db.audit import Noted
from shared.db.destinations import Seen, SeenByOne
from shared.db.dlq_actions import Action
from shared.db.dlq_messages import DeadLetter
from shared.db.dlq_retries import Retry
from shared.db.endpoints import Endpoint
from shared.db.notification_lists import Held, Notification, Summary
from shared.db.signing_secrets import SigningSecret
from shared.db.suppressions import Suppression

NOTIFICATIONS_PATH: Final = "/api/v1/notifications"
NOTIFICATION_PATHS: Final = (NOTIFICATIONS_PATH, "/api/notifications")
"""Where one is sent to; the second is the short form."""
DEAD_LETTERS_PATH: Final = "/api/v1/dead-letters"
SUPPRESSIONS_PATH: Final = "/api/v1/suppressions"
DESTINATIONS_PATH: Final = "/api/v1/destinations"
ENDPOINTS_PATH: Final = "/api/v1/endpoints"
SIGNING_SECRET_PATH: Final = "/api/v1/signing-secret"  # noqa: S105 - a path
SENDER_DOMAINS_PATH: Final = "/api/v1/sender-domains"
AUDIT_LOGS_PATH: Final = "/api/v1/audit-logs"
RETRIES_PATH: Final = f"{DEAD_LETTERS_PATH}/retries"
FILTER_FIELDS: Final = (
    *("failure_class", "channel", "fingerprint", "reason", "destination"),
    *("failed_from", "failed_to"),
)
_TELLING: Final = ("auth", "token", "secret", "key", "password", "signature", "cookie", "session")
HIDDEN: Final = "(hidden)"
_CONTENT: Final = ("sender", "subject", "message", "payload", "headers", "metadata")


def notification_path(notification_id: UUID) -> str:
    """Return where a notification is found."""
    return f"{NOTIFICATIONS_PATH}/{notification_id}"


def dead_letter_path(dead_letter_id: UUID) -> str:
    """Return where a dead letter is found."""
    return f"{DEAD_LETTERS_PATH}/{dead_letter_id}"


def suppression_path(suppression_id: UUID) -> str:
    """Return where a suppression is found."""
    return f"{SUPPRESSIONS_PATH}/{suppression_id}"


def accepted(new: NewNotification) -> dict[str, Any]:
    """Return what a client is told when its notification has been accepted."""
    told = {"id": new.id, "status": new.status, "channel": new.channel, "created_at": new.created_at}
    if warning := warning_of(new.recipient):
        told["recipient_warning"] = warning
    return told


def summary(notification: Summary) -> dict[str, Any]:
    """Return a notification as a list shows it: without its content."""
    return {
        "id": notification.id,
        "status": notification.status,
        "channel": notification.channel,
        "recipient": notification.recipient,
        "recipient_warning": warning_of(notification.recipient),
        "priority": notification.priority,
        "attempt": notification.attempt,
        "ordering_key": notification.ordering_key,
        "on_unknown": notification.on_unknown,
        "scheduled_for": notification.scheduled_for,
        "expires_at": notification.expires_at,
        "created_at": notification.created_at,
        "updated_at": notification.updated_at,
        "correlation_id": notification.correlation_id,
        "href": notification_path(notification.id),
    }


def detail(
    notification: Notification, attempts: Sequence[Attempt], dead_letter_id: UUID | None, held: Held | None = None
) -> dict[str, Any]:
    """Return a notification with its content and its timeline."""
    record = orjson.loads(notification.record)
    content = {name: record[name] for name in _CONTENT if name in record}
    if "headers" in content:
        content["headers"] = _without_credentials(content["headers"])
    link = {"id": dead_letter_id, "href": dead_letter_path(dead_letter_id)} if dead_letter_id else None
    suppression = asdict(held) | {"href": suppression_path(held.id)} if held else None
    timeline = {"attempts": [asdict(one) for one in attempts], "dead_letter": link, "suppression": suppression}
    return summary(notification) | content | timeline


def _without_credentials(headers: dict[str, Any]) -> dict[str, Any]:
    return {
        name: HIDDEN if any(word in name.lower() for word in _TELLING) else value for name, value in headers.items()
    }


def letter_summary(letter: DeadLetter) -> dict[str, Any]:
    """Return a dead letter as a list shows it: without its payload."""
    body = asdict(letter)
    del body["original_payload"]
    body["headers"] = _without_credentials(letter.headers)
    body["message_key"] = None if letter.message_key is None else letter.message_key.decode("utf-8", "replace")
    body["href"] = dead_letter_path(letter.id)
    body["notification_href"] = notification_path(letter.notification_id) if letter.notification_id else None
    return body


def letter_detail(letter: DeadLetter, attempts: Sequence[Attempt], actions: Sequence[Action]) -> dict[str, Any]:
    """Return a dead letter with the record as Kafka carried it, its credentials hidden, and its history."""
    return letter_with_actions(letter, actions) | {
        "original_payload": _payload(letter.original_payload),
        "attempts": [asdict(one) for one in attempts],
    }


def letter_with_actions(letter: DeadLetter, actions: Sequence[Action]) -> dict[str, Any]:
    """Return a dead letter with what persons did about it."""
    return letter_summary(letter) | {"actions": [asdict(one) for one in actions]}


def retry_path(retry_id: UUID) -> str:
    """Return where a bulk retry is found."""
    return f"{RETRIES_PATH}/{retry_id}"


def retry_filter(selected: Any) -> dict[str, Any]:
    """Return the conditions of a bulk retry that are given."""
    return {name: value for name in FILTER_FIELDS if (value := getattr(selected, name)) is not None}


def retry_summary(retry: Retry) -> dict[str, Any]:
    """Return a bulk retry as it stands."""
    body = {name: value for name, value in asdict(retry).items() if name not in FILTER_FIELDS}
    return body | {"filter": retry_filter(retry), "under_way": retry.under_way, "href": retry_path(retry.id)}


def _payload(value: bytes | None) -> dict[str, str] | None:
    """Return bytes as text where they are UTF-8, else in base64: but for credentials, nothing is lost either way."""
    if value is None:
        return None
    try:
        return {"encoding": "text", "data": _hide_credentials(value).decode()}
    except UnicodeDecodeError:
        return {"encoding": "base64", "data": base64.b64encode(value).decode()}


def _hide_credentials(value: bytes) -> bytes:
    """Return a record without what its notification would not show either, other bytes as they are."""
    try:
        record = orjson.loads(value)
    except orjson.JSONDecodeError:
        return value
    headers = record.get("headers") if isinstance(record, dict) else None
    if not isinstance(headers, dict) or (shown := _without_credentials(headers)) == headers:
        return value
    try:
        return orjson.dumps(record | {"headers": shown})
    except orjson.JSONEncodeError:  # nested deeper than it can be written again: no record of ours
        return HIDDEN.encode()


def endpoint_path(endpoint: str) -> str:
    """Return where an endpoint is found."""
    return f"{ENDPOINTS_PATH}/{endpoint}"


def endpoint_summary(one: Endpoint) -> dict[str, Any]:
    """Return an endpoint as a list shows it: of its headers their names, and nothing of its secrets."""
    disabled = None
    if one.suppression_id is not None:
        disabled = {
            "reason": one.disabled_reason,
            "detail": one.disabled_detail,
            "at": one.disabled_at,
            "by": one.disabled_by,
            "suppression": {"id": one.suppression_id, "href": suppression_path(one.suppression_id)},
        }
    return {
        "id": one.name,
        "url": one.url,
        "description": one.description,
        "headers": dict.fromkeys(one.header_names, HIDDEN),
        "rate_per_s": one.rate_per_s,
        "timeout_s": one.timeout_s,
        "status": "enabled" if one.enabled else "disabled",
        "disabled": disabled,
        "created_at": one.created_at,
        "updated_at": one.updated_at,
        "href": endpoint_path(one.name),
    }


def endpoint_detail(one: Endpoint, signing: Sequence[SigningSecret], held: int) -> dict[str, Any]:
    """Return an endpoint with what signs for it, and how many notifications are held for it."""
    return endpoint_summary(one) | signing_now(signing) | {"held": held}


def signing_now(signing: Sequence[SigningSecret]) -> dict[str, Any]:
    """Return which secrets sign."""
    return {"signing_secrets": [asdict(one) for one in signing]}


def noted(row: Noted) -> dict[str, Any]:
    """Return a row of the audit log."""
    return {
        "seq": row.seq,
        "at": row.at,
        "actor": {"kind": row.actor_kind, "id": row.actor_id, "name": row.actor_name},
        "action": row.action,
        "entity_type": row.entity_type,
        "entity_id": row.entity_id,
        "before": row.before,
        "after": row.after,
        "address": row.address,
        "user_agent": row.user_agent,
        "request_id": row.request_id,
        "tenant_id": row.tenant_id or None,
        "hash": row.hash.hex(),
    }


def destination_summary(seen: Seen) -> dict[str, Any]:
    """Return a destination over all consumers."""
    return asdict(seen) | {"href": f"{DESTINATIONS_PATH}/{quote(seen.destination, safe='')}"}


def destination_detail(seen: Seen, consumers: Sequence[SeenByOne]) -> dict[str, Any]:
    """Return a destination over all consumers, and what each of them holds against it."""
    return destination_summary(seen) | {"consumers": [asdict(one) for one in consumers]}


def suppression_summary(one: Suppression) -> dict[str, Any]:
    """Return a suppression as a list shows it."""
    body = asdict(one) | {"active": one.active, "href": suppression_path(one.id)}
    del body["tenant_id"], body["changed"]
    body["notification_href"] = notification_path(one.notification_id) if one.notification_id else None
    return body


def suppression_detail(one: Suppression, held: int) -> dict[str, Any]:
    """Return a suppression with how many notifications are held for it."""
    return suppression_summary(one) | {"held": held}
