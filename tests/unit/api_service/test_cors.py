"""Pages of other origins read what the list lets them, by both ways into the application."""

from pathlib import Path

import pytest
from flask.testing import FlaskClient
from psycopg_pool import ConnectionPool
from werkzeug.test import TestResponse

from api_service import cors, wsgi
from api_service.app import create_app
from api_service.door_settings import read_door
from api_service.settings import read_settings
from shared.settings import Environment
from tests.unit.api_service.test_app import GOOD, PATH

ALLOWED = "https://app.example.com"
OPEN = {"AUTH_MODE": "open", "BIND_HOST": "127.0.0.1"}


def answers(directory: Path, origin: str | None, **settings: str) -> list[TestResponse]:
    """What a page of an origin gets, if any is named: the answer to a plain notification, and to a preflight."""
    app = create_app(read_settings(Environment(OPEN | settings)), ConnectionPool("", open=False), directory)
    client, headers = app.test_client(), {"Origin": origin} if origin else {}
    asking = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,x-other"}
    found = [client.post(PATH, json=GOOD, headers=headers), client.options(PATH, headers=headers | asking)]
    wsgi.close(app)
    return found


def said(answer: TestResponse) -> dict[str, str]:
    """What an answer says about origins."""
    return {name: value for name, value in answer.headers.items() if name.startswith("Access-Control-")}


def test_by_default_no_origin_is_allowed(tmp_path: Path) -> None:
    """Nothing is said, whoever asks."""
    assert [said(answer) for answer in answers(tmp_path, ALLOWED)] == [{}, {}]


def test_an_origin_on_the_list_may_read(tmp_path: Path) -> None:
    """It learns what it may send and read; no cookies."""
    answer, preflight = answers(tmp_path, ALLOWED, CORS_ORIGINS=f"http://localhost:3000,{ALLOWED}")

    assert answer.status_code == 503
    for one in (answer, preflight):
        assert one.headers["Access-Control-Allow-Origin"] == ALLOWED
        assert one.headers["Vary"] == "Origin"
        assert "RateLimit" in one.headers["Access-Control-Expose-Headers"]
        assert "Access-Control-Allow-Credentials" not in one.headers
    assert preflight.status_code == 200
    assert preflight.headers["Access-Control-Allow-Headers"] == "authorization"
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example.com.evil.example",
        "https://app.example.com:8443",
        "http://app.example.com",
        "https://appxexample.com",
        "https://evil.example",
        "https://sub.app.example.com",
        "null",
        f"{ALLOWED}/",
        None,
    ],
)
def test_no_other_origin_may(tmp_path: Path, origin: str | None) -> None:
    """However alike it looks, nor who does not say where it comes from."""
    assert [said(answer) for answer in answers(tmp_path, origin, CORS_ORIGIN=ALLOWED)] == [{}, {}]


def test_an_address_in_brackets_is_no_pattern(tmp_path: Path) -> None:
    """flask-cors takes what has brackets for a regular expression."""
    [one, _] = answers(tmp_path, "http://[::1]:3000", CORS_ORIGINS="http://[::1]:3000")
    [other, _] = answers(tmp_path, "http://1:3000", CORS_ORIGINS="http://[::1]:3000")

    assert (said(one) != {}, said(other)) == (True, {})


def test_any_origin_may_where_the_list_says_so(tmp_path: Path) -> None:
    """But never with cookies."""
    [answer, _] = answers(tmp_path, "https://anybody.example", CORS_ORIGINS="*")

    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    env = Environment({"CORS_ORIGINS": "*", "CORS_CREDENTIALS": "on"})
    read_door(env)
    assert [fault.variable for fault in env.faults] == ["CORS_CREDENTIALS"]


def test_cookies_may_be_sent_by_named_origins(tmp_path: Path) -> None:
    """For a proxy that signs people in."""
    [answer, _] = answers(tmp_path, ALLOWED, CORS_ORIGINS=ALLOWED, CORS_CREDENTIALS="on")

    assert answer.headers["Access-Control-Allow-Credentials"] == "true"


def test_errors_say_it_too(client: FlaskClient, tmp_path: Path) -> None:
    """A page that is refused something has to be able to read why."""
    app = create_app(
        read_settings(Environment(OPEN | {"CORS_ORIGINS": ALLOWED})), ConnectionPool("", open=False), tmp_path
    )

    for answer in (
        app.test_client().post(PATH, json={}, headers={"Origin": ALLOWED}),
        app.test_client().get("/nope", headers={"Origin": ALLOWED}),
    ):
        assert answer.headers["Access-Control-Allow-Origin"] == ALLOWED
    wsgi.close(app)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "app.example.com",
            "https://",
            "https://app.example.com/",
            "https://*.example.com",
            "ftp://a.example",
            "null",
        ),
        *(
            "https://a.example:0",
            "https://a.example:99999",
            "https://user@a.example",
            "https://a.example?x",
            "//a.example",
        ),
    ],
)
def test_what_is_no_origin_is_refused_at_the_start(text: str) -> None:
    """It would match nothing, and somebody would wonder why."""
    with pytest.raises(ValueError, match="origin"):
        cors.checked_origin(text)


def test_a_network_of_everybody_is_no_network_of_proxies() -> None:
    """Any client could choose its address."""
    for network in ("0.0.0.0/0", "10.0.0.0/8,::/0"):
        env = Environment({"TRUSTED_PROXIES": network})
        read_door(env)
        assert [fault.variable for fault in env.faults] == ["TRUSTED_PROXIES"]
