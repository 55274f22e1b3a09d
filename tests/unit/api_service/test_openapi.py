"""The OpenAPI document is complete: each route, each schema it refers to, each problem."""

import re
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from flask import Flask

from api_service import documents, schemas
from api_service.documenting import example_problem
from api_service.problems import PROBLEMS
from api_service.server import STALLED_AFTER_S
from api_service.worker import READ_WITHIN_S


@pytest.fixture
def document(app: Flask) -> dict[str, Any]:
    """The document as a client gets it."""
    found: dict[str, Any] = orjson.loads(app.test_client().get("/openapi.json").data)
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                yield path, method.upper(), operation


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "$ref":
                yield inner
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_every_route_is_documented(app: Flask, document: dict[str, Any]) -> None:
    """With each of its methods; the document itself and its viewer aside."""
    routes = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if not rule.rule.startswith(("/docs", "/openapi.json"))
    }

    assert {(path, method) for path, method, _ in operations(document)} == routes


def test_the_document_is_openapi_3_1_and_all_references_lead_somewhere(document: dict[str, Any]) -> None:
    """A reference to nothing breaks every generator of clients."""
    assert document["openapi"] == "3.1.0"
    for reference in references(document):
        target: Any = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]


def test_no_schema_is_described_that_nothing_refers_to(document: dict[str, Any]) -> None:
    """A reader takes each for something the API does."""
    text = orjson.dumps(document).decode()

    unused = [name for name in document["components"]["schemas"] if f'"#/components/schemas/{name}"' not in text]

    assert unused == []


def test_every_operation_says_what_it_does_and_what_may_go_wrong(document: dict[str, Any]) -> None:
    """A summary, a success, and for each error the form of a problem with an example."""
    for path, method, operation in operations(document):
        assert operation["summary"], (method, path)
        assert any(status.startswith("2") for status in operation["responses"]), (method, path)
        for status, described in operation["responses"].items():
            reference = described.get("$ref", "").rpartition("/")[2]
            answer = document["components"]["responses"][reference] if reference else described
            assert answer["description"]
            if status[0] in "45" and not path.startswith("/health"):
                examples = answer["content"]["application/problem+json"]["examples"]
                assert all(PROBLEMS[code][0] == int(status) for code in examples)


def test_every_operation_says_how_it_is_refused_in_front_of_the_application(document: dict[str, Any]) -> None:
    """By gunicorn, or by the gateway; and where there has to be a caller, what one hears who is none, or too fast."""
    for path, method, operation in operations(document):
        wanted = {"400", "408", "414", "417", "431", "500", "501", "503"}
        if operation.get("security"):
            wanted |= {"401", "403", "429"}
        assert wanted <= operation["responses"].keys(), (method, path)


def test_the_deadlines_of_a_request_are_those_it_has(document: dict[str, Any]) -> None:
    """A client that is told of fifteen seconds does not understand a 408 after ten."""
    said = re.findall(r"(\d+) seconds", document["info"]["description"].replace("\n", " "))

    assert [float(seconds) for seconds in said] == [READ_WITHIN_S, STALLED_AFTER_S]


def test_the_examples_of_problems_are_problems(document: dict[str, Any]) -> None:
    """With what some of them say besides; generated clients take no member that the schema does not have."""
    problem = document["components"]["schemas"]["Problem"]
    said = {name for code in PROBLEMS for name in example_problem(code)}

    assert problem["additionalProperties"] is False
    assert said <= problem["properties"].keys()
    assert {"record", "state", "violated-policies", "retry_after_s"} <= said


def test_path_parameters_are_declared(document: dict[str, Any]) -> None:
    """Each name in braces has a parameter."""
    for path, item in document["paths"].items():
        declared = {one["name"] for one in item.get("parameters", []) if one["in"] == "path"}
        assert declared == set(re.findall(r"\{(\w+)\}", path))


def test_the_examples_are_accepted() -> None:
    """What the page invites to send works."""
    assert schemas.load(documents.EMAIL_EXAMPLE).recipient == "ada@example.com"
    assert schemas.load(documents.WEBHOOK_EXAMPLE).ordering_key == "order-4711"


@pytest.mark.parametrize("name", ["RetryFilter", "EndpointChange"])
def test_what_needs_at_least_one_field_says_so(document: dict[str, Any], name: str) -> None:
    """As the routes have it: an empty one is refused."""
    assert document["components"]["schemas"][name]["minProperties"] == 1


@pytest.mark.parametrize(
    ("schema", "field"),
    [
        ("EmailNotification", "message"),
        ("WebhookNotification", "message"),
        ("NewEndpoint", "description"),
        ("EndpointChange", "description"),
        ("Discard", "reason"),
        ("Discard", "by"),
        ("Decision", "note"),
        ("BulkRetry", "note"),
        ("Suppress", "reason_note"),
        ("Lift", "by"),
        ("NewKey", "name"),
        ("Register", "name"),
    ],
)
def test_what_must_not_be_blank_says_so(document: dict[str, Any], schema: str, field: str) -> None:
    """Text of blanks alone is refused."""
    pattern = document["components"]["schemas"][schema]["properties"][field]["pattern"]
    assert re.search(pattern, " a ")
    assert not any(re.search(pattern, blank) for blank in (" ", "\t\n", "\u3000"))


def test_an_idempotency_key_is_described_as_it_is_read(document: dict[str, Any]) -> None:
    """Blanks at an end and what is no printable ASCII are refused."""
    for _, _, operation in operations(document):
        for one in operation.get("parameters", ()):
            if one.get("name") == "Idempotency-Key":
                assert re.fullmatch(one["schema"]["pattern"], "order 4711")
                assert not any(re.match(one["schema"]["pattern"], key) for key in (" a", "a ", "é", "a\x7f"))
