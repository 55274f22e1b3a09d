"""What the OpenAPI document says about the operations on destinations."""

from typing import Any, Final

from api_service import queries
from api_service.documenting import ANY, AT, NOTIFICATION_ID, answer, problems

_DESTINATION: Final = {
    "destination": "https://example.com:443",
    "channel": "webhook",
    "breaker": "open",
    "slots_in_use": 0,
    "slots_allowed": 1,
    "waiting": 0,
    "calls": 12,
    "failures": 9,
    "last_reason": "http_503",
    "next_probe_at": AT,
    "reported_at": AT,
    "consumer_count": 1,
    "href": "/api/v1/destinations/https%3A%2F%2Fexample.com%3A443",
}
_CONSUMER: Final = {"consumer": NOTIFICATION_ID, "breaker": "open", "last_reason": "http_503", "next_probe_at": AT}
LIST_DESTINATIONS: Final[dict[str, Any]] = {
    "parameters": [{"in": "query", "schema": queries.DestinationsQuery}],
    "responses": {
        "200": answer("A page.", "DestinationPage", {"data": [_DESTINATION], "next_cursor": None, "has_more": False})
    }
    | problems(*ANY),
}
SHOW_DESTINATION: Final[dict[str, Any]] = {
    "responses": {
        "200": answer("The destination.", "DestinationDetail", _DESTINATION | {"consumers": [_CONSUMER]}),
    }
    | problems(*ANY, "not_found")
}
