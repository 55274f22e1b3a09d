"""The OpenAPI document is complete: each route, each schema it refers to, each problem."""

import re
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from flask import Flask

from api_service import documents, schemas
from api_service.problems import PROBLEMS


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


def test_path_parameters_are_declared(document: dict[str, Any]) -> None:
    """Each name in braces has a parameter."""
    for path, item in document["paths"].items():
        declared = {one["name"] for one in item.get("parameters", []) if one["in"] == "path"}
        assert declared == set(re.findall(r"\{(\w+)\}", path))


def test_the_examples_are_accepted() -> None:
    """What the page invites to send works."""
    assert schemas.load(documents.EMAIL_EXAMPLE).recipient == "ada@example.com"
    assert schemas.load(documents.WEBHOOK_EXAMPLE).ordering_key == "order-4711"


def test_a_retry_filter_names_at_least_one_condition(document: dict[str, Any]) -> None:
    """As the route has it: an empty one is refused."""
    assert document["components"]["schemas"]["RetryFilter"]["minProperties"] == 1
