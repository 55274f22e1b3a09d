"""What the descriptions of operations are written with: references, answers, problems, ids for examples."""

from typing import Any, Final

from api_service.problems import CONTENT_TYPE, PROBLEMS, TYPE_PREFIX

NOTIFICATION_ID: Final = "01930e2a-7c1e-7000-8f3a-5b6c7d8e9f00"
DEAD_LETTER_ID: Final = "5f0c1d9e-2b7a-4c55-9d0e-6a1b2c3d4e5f"
AT: Final = "2030-01-31T09:00:00.000Z"
RECORD: Final = {
    "type": "TXT",
    "name": "_notification-pipeline.example.com",
    "value": "notification-pipeline=4f1c2b9e0d8a47c6b5e3f2a1908d7c6b",
}
_WAIT: Final = ("database_unavailable", "busy", "request_in_progress", "rate_limited", "quota_used_up")
_DETAILS: Final[dict[str, dict[str, Any]]] = {
    "validation_failed": {
        "errors": [{"pointer": "/recipient", "code": "required", "detail": "this field is required"}]
    },
    "wrong_state": {"state": "sent"},
    "rate_limited": {"violated-policies": ["key-1s"], "retry_after_s": 1},
    "not_verified": {"record": RECORD},
    "quota_used_up": {"violated-policies": ["quota"], "retry_after_s": 3600},
}


def ref(name: str) -> dict[str, str]:
    """Return a reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def answer(description: str, schema: str, example: Any = None, headers: Any = None) -> dict[str, Any]:
    """Return an answer that is a success."""
    content: dict[str, Any] = {"schema": ref(schema)}
    if example is not None:
        content["example"] = example
    return {"description": description, "content": {"application/json": content}} | (
        {"headers": headers} if headers else {}
    )


def problems(*codes: str) -> dict[str, Any]:
    """Return the answers of these problems, one per status, with an example each."""
    answers: dict[str, Any] = {}
    for code in codes:
        status, title = PROBLEMS[code]
        shown = answers.setdefault(str(status), {"description": title, "content": {CONTENT_TYPE: {
            "schema": ref("Problem"), "examples": {}}}})  # fmt: skip
        shown["content"][CONTENT_TYPE]["examples"][code] = {"value": example_problem(code)}
        if code in _WAIT:
            shown["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
        if code == "unauthorized":
            shown["headers"] = {"WWW-Authenticate": {"description": "Bearer.", "schema": {"type": "string"}}}
    return answers


def common() -> dict[str, str]:
    """Return what any operation may be answered with, in front of the application or by it: status and component."""
    return {str(PROBLEMS[code][0]): _component(PROBLEMS[code][0]) for code in _ANYWHERE}


def common_components() -> dict[str, dict[str, Any]]:
    """Return the answers that `common` names."""
    return {_component(status): shown for status, shown in problems(*_ANYWHERE).items()}


def _component(status: int | str) -> str:
    return f"Status{status}"


def example_problem(code: str) -> dict[str, Any]:
    """Return what a problem looks like."""
    status, title = PROBLEMS[code]
    return {
        "type": TYPE_PREFIX + code,
        "title": title,
        "status": status,
        "detail": "what is wrong in this case",
        "code": code,
        "request_id": "0f8fad5bd9cb469fa165708867289511",
    } | _DETAILS.get(code, {})


_ANYWHERE: Final = (
    "bad_request",
    "request_timeout",
    "uri_too_long",
    "expectation_failed",
    "headers_too_large",
    "internal_error",
    "transfer_coding_unsupported",
    "service_unavailable",
)
ANY: Final = ("validation_failed", "internal_error", "database_unavailable")
BODY: Final = (
    *ANY,
    "malformed_body",
    "request_timeout",
    "body_too_large",
    "unsupported_media_type",
)
