"""What every answer has, whoever gives it."""

import pytest
from flask.testing import FlaskClient

from api_service import finishing, security_headers
from api_service.clients import Client
from api_service.finishing import Begun
from api_service.tracing import RequestIds
from tests.unit.api_service.test_app import GOOD, PATH

EXPECTED = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-XSS-Protection": "0",
}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health/live", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/nope", 404),
        ("PUT", PATH, 405),
        ("POST", PATH, 503),
        ("OPTIONS", PATH, 200),
    ],
)
def test_every_answer_has_them_once(client: FlaskClient, method: str, path: str, status: int) -> None:
    """Errors too, and what is served in front of Flask."""
    answer = client.open(path, method=method, json=GOOD if method == "POST" else None)

    assert answer.status_code == status
    assert {name: answer.headers.getlist(name) for name in EXPECTED} == {
        name: [value] for name, value in EXPECTED.items()
    }
    assert "Strict-Transport-Security" not in answer.headers


def test_the_page_has_a_policy_of_its_own(client: FlaskClient) -> None:
    """It runs what is served with it: no inline script or style, nothing from elsewhere. It too is in no frame."""
    page = client.get("/docs")

    assert page.headers.getlist("Content-Security-Policy") == [security_headers.PAGE_POLICY]
    assert "unsafe" not in security_headers.PAGE_POLICY
    assert "frame-ancestors 'none'" in security_headers.PAGE_POLICY
    assert page.headers["X-Frame-Options"] == "DENY"
    assert client.get("/docs/swagger-ui.css").headers.getlist("Cache-Control") == ["public, max-age=3600"]


def test_tls_is_told_to_last(client: FlaskClient) -> None:
    """A year, for all names below; only where it was TLS. Where no proxy is trusted nobody can say so."""
    assert dict(security_headers.TLS) == EXPECTED | {"Strict-Transport-Security": "max-age=31536000; includeSubDomains"}
    forged = client.get("/health/live", headers={"X-Forwarded-Proto": "https"})
    assert "Strict-Transport-Security" not in forged.headers


@pytest.mark.parametrize("is_tls", [False, True])
def test_lines_are_the_same_headers(is_tls: bool) -> None:
    """Those that are put into a head as they are."""
    begun = Begun(0.0, RequestIds("r", "c", None), Client("192.0.2.1", is_tls=is_tls))
    begun.limits = [("RateLimit", '"key-1s";r=2;t=1'), ("X-RateLimit-Limit", "3")]

    lines = finishing.lines_of(begun).decode()

    assert lines.endswith("\r\n")
    assert [tuple(line.split(": ", 1)) for line in lines.split("\r\n")[:-1]] == finishing.headers_of(begun)
