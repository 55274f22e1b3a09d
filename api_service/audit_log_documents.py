"""What the OpenAPI document says about the audit log."""

from typing import Any, Final

from api_service import queries
from api_service.documenting import ANY, AT, DEAD_LETTER_ID, answer, problems

_ROW: Final = {
    "seq": 4711,
    "at": AT,
    "actor": {"kind": "key", "id": "0f3a", "name": "operations"},
    "action": "dead_letter.discarded",
    "entity_type": "dead_letter",
    "entity_id": DEAD_LETTER_ID,
    "before": {"status": "failed"},
    "after": {"status": "resolved", "retry_count": 6, "by": "ann"},
    "address": "198.51.100.7",
    "user_agent": "curl/8.5.0",
    "request_id": "0f8fad5bd9cb469fa165708867289511",
    "tenant_id": "acme",
    "hash": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
}
LIST_AUDIT_LOGS: Final[dict[str, Any]] = {
    "parameters": [{"in": "query", "schema": queries.AuditLogsQuery}],
    "responses": {"200": answer("A page.", "AuditLogPage", {"data": [_ROW], "next_cursor": None, "has_more": False})}
    | problems(*ANY),
}
