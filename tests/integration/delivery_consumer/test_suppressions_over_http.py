"""An endpoint that is gone, as a client of the API meets it: from the 410 to the lift, through a running consumer."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from flask.testing import FlaskClient

from api_service import wsgi
from api_service.settings import read_settings
from shared.db import suppressions
from shared.settings import Environment
from tests.integration.delivery_consumer.parts import Desk, Receiver, running, settings_for
from tests.integration.delivery_consumer.test_order_and_suppression import GONE, relaying


@pytest.fixture
def client(desk: Desk, tmp_path: Path) -> Iterator[FlaskClient]:
    """A client of the API on the consumer's database and topics."""
    environ = desk.database.environ_of("api_service") | desk.topics.environ
    environ |= {"AUTH_MODE": "open", "BIND_HOST": "127.0.0.1"}
    app = wsgi.build(read_settings(Environment(environ)), tmp_path)
    yield app.test_client()
    wsgi.close(app)


def answer_to(client: FlaskClient, method: str, path: str, body: Any = None) -> dict[str, Any]:
    response = client.open(path, method=method, json=body)
    assert response.status_code < 300, response.data
    found: dict[str, Any] = orjson.loads(response.data)
    return found


def test_a_410_is_seen_lifted_and_made_up_for(client: FlaskClient, desk: Desk, hook: Receiver) -> None:
    """The first ends failed, the next is held and says why; after the lift it is sent, once."""

    async def gone(_: dict[str, str]) -> bytes:
        return GONE

    wanted = {"channel": "webhook", "recipient": hook.url, "message": "hello"}
    hook.answer = gone
    with relaying(desk), running(settings_for(desk.database, desk.topics)):
        first = answer_to(client, "POST", "/api/v1/notifications", wanted)["id"]
        desk.wait_for(failed=1)
        second = answer_to(client, "POST", "/api/v1/notifications", wanted)["id"]
        desk.wait_for(failed=1, suppressed=1)

        held = answer_to(client, "GET", f"/api/v1/notifications/{second}")
        [listed] = answer_to(client, "GET", "/api/v1/suppressions?reason=gone&active=true")["data"]
        shown = answer_to(client, "GET", held["suppression"]["href"])
        hook.answer = None
        lifted = answer_to(client, "POST", f"{listed['href']}/lift", {"by": "ann"})
        suppressions.resume_held(desk.conn, limit=9)
        desk.wait_for(failed=1, sent=1)

    assert held["suppression"] == {"id": listed["id"], "reason": "gone", "href": listed["href"]}
    assert (shown["recipient"], shown["notification_id"], shown["held"]) == (hook.url, first, 1)
    assert (lifted["active"], lifted["lifted_by"]) == (False, "ann")
    assert answer_to(client, "GET", f"/api/v1/notifications/{second}")["status"] == "sent"
    assert hook.ids() == [first, second]
