"""kill -9 of every service, Kafka away, PostgreSQL away: nothing lost, nothing doubled without an explanation."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import uuid4

import httpx
import pytest

from infra.local.processes import ManagedProcess
from infra.local.stack import SERVICES, Ports, Stack
from infra.local.watchdog import descendants
from tests.e2e.conftest import HURRIED, Client, until


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with two delivery processes: whoever kills the service kills both, and their parent."""
    environ = {**HURRIED, "DELIVERY_PROCESSES": "2"}
    with Stack(tmp_path_factory.mktemp("stack"), Ports.choose({}), environ=environ, say=lambda _: None) as running:
        yield running


class Producer(threading.Thread):
    """Posts batches as a careful client does: each under its key, again until it is answered."""

    def __init__(self, client: Client, path: str, *, batches: int, size: int, pause_s: float) -> None:
        super().__init__(daemon=True)
        self._api, self._hook = client.stack.urls["api"], client.hook(path)
        self._credential = {"Authorization": f"Bearer {client.stack.api_key}"}
        self._batches, self._size, self._pause_s = batches, size, pause_s
        self.ids: list[str] = []
        self.refused = 0

    def run(self) -> None:
        """Post all batches."""
        for _ in range(self._batches):
            self.ids += self._post()
            time.sleep(self._pause_s)

    def _post(self) -> list[str]:
        items = [{"channel": "webhook", "recipient": self._hook, "message": f"number {n}"} for n in range(self._size)]
        key = {"Idempotency-Key": uuid4().hex, **self._credential}
        while True:
            try:
                answer = httpx.post(
                    self._api + "/api/v1/notifications/batch", json=items, headers=key, timeout=10, trust_env=False
                )
            except httpx.TransportError:
                pass
            else:
                if answer.status_code == 202:
                    return [one["id"] for one in answer.json()["notifications"]]
                assert answer.status_code in (409, 503), answer.text
                assert "Retry-After" in answer.headers
            self.refused += 1
            time.sleep(0.2)


@contextmanager
def producing(client: Client, path: str, *, batches: int, size: int, pause_s: float) -> Iterator[Producer]:
    """Produce beside the block; on leaving, everything has been accepted."""
    producer = Producer(client, path, batches=batches, size=size, pause_s=pause_s)
    producer.start()
    yield producer
    producer.join(timeout=120)
    assert not producer.is_alive(), "not everything was accepted in time"


def check(client: Client, producer: Producer, path: str, *, timeout_s: float) -> int:
    """All end sent; each id was received, more than once only after an attempt that ended unknown; return how often."""
    total = len(producer.ids)
    assert len(set(producer.ids)) == total
    until(
        lambda: client.counts(producer.ids) == {"sent": total},
        timeout_s=timeout_s,
        what=f"{total} sent, but {client.counts(producer.ids)}",
    )
    query = (
        "SELECT notification_id FROM delivery_attempts WHERE outcome = 'unknown' AND notification_id = ANY(%s::uuid[])"
    )
    unknown = {str(row[0]) for row in client.rows(query, producer.ids)}
    stats = client.receiver("/stats", path=f"/hooks/{path}")
    assert client.received_ids(f"/hooks/{path}") == set(producer.ids)  # none lost, none invented
    assert set(stats["duplicates"]) <= unknown
    assert stats["duplicate_count"] <= len(unknown)
    return int(stats["duplicate_count"])


def in_turn(processes: dict[str, ManagedProcess], *, pause_s: float) -> Callable[[], None]:
    """Kill and restart each."""

    def run() -> None:
        for process in processes.values():
            time.sleep(pause_s)
            process.kill()
            time.sleep(0.3)
            process.start()

    return run


@pytest.mark.timeout(180)
def test_each_service_killed_in_turn_under_load(client: Client) -> None:
    """I1, I5, I6, I7: 5,000 under way while API, relay, delivery and DLQ consumer are killed with -9 one by one."""
    client.behave(path="/hooks/killed", status=200, delay_s=0.02)

    with producing(client, "killed", batches=20, size=250, pause_s=0.4) as producer:
        in_turn({name: client.stack.services[name] for name in SERVICES}, pause_s=1.5)()

    check(client, producer, "killed", timeout_s=90)
    assert len(producer.ids) == 5000


@pytest.mark.timeout(180)
def test_one_of_several_delivery_processes_killed_under_load(client: Client) -> None:
    """I5, I7: each of the two in turn, twice; the other goes on, and a successor joins it."""
    client.behave(path="/hooks/halved", status=200, delay_s=0.02)
    parent = client.stack.services["delivery_consumer"]
    seen = set(descendants(parent.pid))

    with producing(client, "halved", batches=20, size=150, pause_s=0.5) as producer:
        for _ in range(4):
            time.sleep(2)
            before = descendants(parent.pid)
            os.kill(before[0], signal.SIGKILL)
            until(lambda: len(set(descendants(parent.pid)) - set(before)) == 1, timeout_s=5, what="a successor")  # noqa: B023
            seen |= set(descendants(parent.pid))

    check(client, producer, "halved", timeout_s=90)
    assert len(producer.ids) == 3000
    assert len(seen) == 2 + 4
    parent.wait_healthy(f"{client.stack.urls['delivery']}/health/ready", timeout_s=20)


@pytest.mark.timeout(240)
def test_kafka_away_for_30_s_and_postgres_for_15_s(client: Client) -> None:
    """Accepting goes on without Kafka; without PostgreSQL it it is refused with a Retry-After; nothing restarts."""
    stack = client.stack
    pids = {name: process.pid for name, process in stack.services.items()}
    assert stack.kafka is not None

    with producing(client, "outage", batches=240, size=4, pause_s=0.2) as producer:
        time.sleep(2)
        stack.kafka.stop()
        before = (len(producer.ids), producer.refused)
        time.sleep(30)
        accepted_without_kafka = len(producer.ids) - before[0]
        refused_without_kafka = producer.refused - before[1]
        stack.kafka.start()
        time.sleep(5)
        stack.postgres.stop(immediate=True)
        time.sleep(15)
        stack.postgres.start()

    check(client, producer, "outage", timeout_s=90)
    assert accepted_without_kafka > 200
    assert refused_without_kafka == 0
    assert producer.refused > 0
    assert {name: process.pid for name, process in stack.services.items()} == pids
    assert all(process.is_running for process in stack.services.values())


@pytest.mark.timeout(120)
@pytest.mark.parametrize("service", sorted(SERVICES))
def test_sigterm_drains_and_exits_0(client: Client, service: str) -> None:
    """A service asked to stop finishes what it holds within 20 s, leaves no unknown attempt, and exits 0."""
    process = client.stack.services[service]
    path = f"term-{service}"
    client.behave(path=f"/hooks/{path}", status=200, delay_s=0.05)

    with producing(client, path, batches=8, size=100, pause_s=0.3) as producer:
        time.sleep(1)
        began = time.monotonic()
        code = process.terminate(timeout_s=30)
        took_s = time.monotonic() - began
        process.start()

    doubled = check(client, producer, path, timeout_s=60)
    assert code == 0
    assert took_s <= 20
    assert doubled == 0
