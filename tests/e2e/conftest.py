"""The whole stack as processes, and a client that speaks to it as a producer would."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import psycopg
import pytest

from infra.local.stack import DATABASE, Ports, Stack

# What an operator would set to see in seconds what takes minutes in production.
HURRIED = {
    "RETRY_LADDER_S": "1,2,2,4,4,4,4,4",
    "DLQ_POLL_S": "0.2",
    "DELIVERY_LEASE_S": "6",
    "SWEEP_AFTER_S": "20",
    "KAFKA_TOPIC_PARTITIONS": "4",
    "API_WORKERS": "2",
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of this module's own, on free ports."""
    with Stack(tmp_path_factory.mktemp("stack"), Ports.choose({}), environ=HURRIED, say=lambda _: None) as running:
        yield running


@pytest.fixture
def client(stack: Stack) -> Iterator["Client"]:
    """A client of the stack."""
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    with httpx.Client(base_url=stack.urls["api"], timeout=10, trust_env=False, headers=headers) as http:
        yield Client(stack, http)


def until(condition: Callable[[], bool], *, timeout_s: float, what: str) -> None:
    """Wait for a condition; fail with `what` when time is up."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not seen within {timeout_s:.0f} s: {what}"
        time.sleep(0.1)


class Client:
    """What a producer, a receiver and an operator see."""

    def __init__(self, stack: Stack, http: httpx.Client) -> None:
        self.stack, self.http = stack, http

    def hook(self, name: str) -> str:
        """A receiver's URL."""
        return f"{self.stack.urls['receiver']}/hooks/{name}"

    def post(self, **body: Any) -> httpx.Response:
        """Ask for one notification."""
        return self.http.post("/api/v1/notifications", json=body)

    def accept(self, **body: Any) -> str:
        """Ask for one notification and return its id."""
        response = self.post(**body)
        assert response.status_code == 202, response.text
        return str(response.json()["id"])

    def accept_many(self, items: list[dict[str, Any]]) -> list[str]:
        """Ask for up to 1,000 notifications and return their ids."""
        response = self.http.post("/api/v1/notifications/batch", json=items)
        assert response.status_code == 202, response.text
        return [str(one["id"]) for one in response.json()["notifications"]]

    def show(self, id_: str) -> dict[str, Any]:
        """Look one notification up."""
        return dict(self.http.get(f"/api/v1/notifications/{id_}").raise_for_status().json())

    def wait_for(self, id_: str, status: str, *, timeout_s: float = 20) -> dict[str, Any]:
        """Wait until a notification stands so, and return it."""
        until(lambda: self.show(id_)["status"] == status, timeout_s=timeout_s, what=f"{id_} {status}")
        return self.show(id_)

    def receiver(self, page: str, **parameters: Any) -> dict[str, Any]:
        """Ask the webhook receiver for /received or /stats."""
        return dict(httpx.get(self.stack.urls["receiver"] + page, params=parameters, trust_env=False).json())

    def received_ids(self, path: str) -> set[str]:
        """Which notifications a receiver has accepted, at least once."""
        answer = httpx.get(self.stack.urls["receiver"] + "/ids", params={"path": path}, trust_env=False)
        return set(answer.text.split())

    def behave(self, **behaviour: Any) -> None:
        """Tell the webhook receiver how to answer."""
        url = self.stack.urls["receiver"] + "/behaviour"
        httpx.post(url, json=behaviour, trust_env=False).raise_for_status()

    def counts(self, ids: list[str]) -> dict[str, int]:
        """How many of these notifications stand where."""
        query = "SELECT status, count(*) FROM notifications WHERE id = ANY(%s::uuid[]) GROUP BY status"
        return dict(self.rows(query, ids))

    def rows(self, query: Any, *parameters: Any) -> list[tuple[Any, ...]]:
        """Rows of a query."""
        with psycopg.connect(self.stack.postgres.dsn(DATABASE), autocommit=True) as conn:
            return conn.execute(query, parameters or None).fetchall()
