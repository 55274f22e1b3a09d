"""Several delivery processes under one parent, the way a container runs them."""

import asyncio
import base64
import json
import os
import signal
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from infra.local.watchdog import descendants, is_alive
from shared.db import notifications
from shared.model import Priority
from tests.integration.delivery_consumer.parts import OK, SECRET, Desk, Receiver
from tests.integration.delivery_consumer.test_process import free_port, start

READY = {"process_1": "ok", "process_2": "ok"}


class Container:
    """Two processes and their parent, as seen from outside."""

    def __init__(self, desk: Desk, log: IO[str], **variables: str) -> None:
        self.port, self._log = free_port(), log
        self.parent = start(desk, stdout=log, DELIVERY_PROCESSES="2", DELIVERY_PORT=str(self.port), **variables)

    def ask(self, path: str) -> tuple[int, str]:
        """GET a path on the one port; 0 where nobody listens yet."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def checks(self) -> dict[str, str]:
        """What readiness says of each."""
        _, body = self.ask("/health/ready")
        return dict(json.loads(body)["checks"]) if body else {}

    def wait_ready(self) -> None:
        """Wait until both are ready, and have partitions."""
        eventually(lambda: self.checks() == READY)
        eventually(lambda: self.assigned() == {1, 2})

    def assigned(self) -> set[int]:
        """Which processes have been assigned partitions."""
        events = [one for one in self.events() if one["event"] == "partitions_assigned" and one["partitions"]]
        return {one["process_number"] for one in events}

    def series(self, name: str) -> list[float]:
        """The values of a series, whatever its labels."""
        lines = [line.rpartition(" ") for line in self.ask("/metrics")[1].splitlines()]
        return [float(value) for series, _, value in lines if series.partition("{")[0] == name]

    def children(self) -> list[int]:
        """The processes that deliver."""
        return descendants(self.parent.pid)

    def events(self) -> list[dict[str, Any]]:
        """What all of them have logged; a line that is being written is left out."""
        text = Path(self._log.name).read_text()
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def stop(self) -> int:
        """End it as an orchestrator does; return the exit code."""
        self.parent.send_signal(signal.SIGTERM)
        return self.parent.wait(40)

    def close(self) -> None:
        """End it, however it stands; nothing of it is left."""
        children = self.children()
        self.parent.kill()
        self.parent.wait()
        eventually(lambda: not any(map(is_alive, children)))


@contextmanager
def container(desk: Desk, **variables: str) -> Iterator[Container]:
    """Run two processes for the length of a block."""
    with tempfile.NamedTemporaryFile("w+") as log:
        running = Container(desk, log, **variables)
        try:
            yield running
        finally:
            running.close()


def eventually(holds: Callable[[], bool], timeout_s: float = 30) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def accept(desk: Desk, hook: Receiver, count: int) -> list[str]:
    """Accept notifications, half of them on the high lane: a process may have the partitions of one lane alone."""
    half = [hook.url] * (count // 2)
    news = desk.accept(half, priority=Priority.HIGH) + desk.accept(half)
    return [str(one.id) for one in news]


def sessions(desk: Desk) -> int:
    """How many connections the processes have to PostgreSQL, as docs/configuration.md counts them."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND application_name LIKE 'delivery_%%'"
    ((count,),) = desk.conn.execute(query, (desk.database.name,)).fetchall()
    return int(count)


async def slowly(_: dict[str, str]) -> bytes:
    """Answer after a moment."""
    await asyncio.sleep(0.2)
    return OK


def test_two_processes_share_the_partitions_and_answer_on_one_port(desk: Desk, hook: Receiver) -> None:
    """Each is a consumer of the group; readiness, counters and gauges are those of both; SIGTERM drains both."""
    with container(desk) as running:
        running.wait_ready()
        eventually(lambda: running.series("delivery_partitions") == [6.0])
        ids = accept(desk, hook, 300)
        desk.wait_for(sent=300)
        eventually(lambda: sum(running.series("deliveries_total")) == 300)
        eventually(lambda: sum(running.series("delivery_records_consumed_total")) == 300)
        eventually(lambda: sessions(desk) == 2 * 3)
        lag = running.series("kafka_consumer_lag")
        code = running.stop()
        events = running.events()

    assert code == 0
    assert sum(lag) == 0
    assert Counter(hook.ids()) == Counter(ids)
    stopped = [one.get("process_number", 0) for one in events if one["event"] == "stopped"]
    assert sorted(stopped) == [0, 1, 2]


def test_one_that_is_killed_is_replaced_and_costs_what_it_had_under_way(desk: Desk, hook: Receiver) -> None:
    """kill -9: the other and its successor deliver the rest; what it had claimed ends unknown, nothing comes twice."""
    hook.answer = slowly
    with container(desk, DELIVERY_CONCURRENCY="10", DELIVERY_LEASE_S="5") as running:
        running.wait_ready()
        ids = accept(desk, hook, 600)
        hook.wait_for(60)
        victim = running.children()[0]
        before = sum(running.series("deliveries_total"))

        os.kill(victim, signal.SIGKILL)
        held = 0
        while desk.statuses().keys() != {"sent", "failed"}:
            held += notifications.end_overdue_leases(desk.conn, dlq_topic="dlq", limit=1000)
            time.sleep(0.1)

        running.wait_ready()
        assert victim not in running.children()
        assert len(running.children()) == 2
        assert before <= sum(running.series("deliveries_total")) <= 600
        assert running.series("delivery_processes_replaced_total") == [1.0]
        assert running.series("delivery_calls_under_way") == [0.0]
        code = running.stop()
        ends = [one for one in running.events() if one["event"] == "process_ended"]

    assert code == 0
    assert 0 < held < 100  # what was at work, claimed ahead, or not written back yet
    assert desk.attempts() == [("accepted", "accepted", 600 - held), ("unknown", "lease_over", held)]
    assert set(Counter(hook.ids()).values()) == {1}
    assert set(hook.ids()) <= set(ids)
    assert [(one["exit_code"], one["started_again_in_s"]) for one in ends] == [(-signal.SIGKILL, 0.0)]


def test_processes_whose_parent_is_killed_drain_and_end(desk: Desk, hook: Receiver) -> None:
    """Nobody delivers for ever unseen: they end what is under way, give the rest back, and are gone."""
    hook.answer = slowly
    with container(desk, DELIVERY_CONCURRENCY="5") as running:
        running.wait_ready()
        accept(desk, hook, 400)
        hook.wait_for(20)
        children = running.children()

        running.parent.kill()
        eventually(lambda: not any(map(is_alive, children)), timeout_s=20)
        events = [one["event"] for one in running.events()]

    sent = len(hook.ids())
    assert len(children) == 2
    assert desk.statuses() == {"sent": sent, "pending": 400 - sent}
    assert desk.attempts() == [("accepted", "accepted", sent)]
    assert (events.count("parent_gone"), events.count("stopped")) == (2, 2)


def test_sigterm_drains_all(desk: Desk, hook: Receiver) -> None:
    """What is under way ends, the rest is pending again, no attempt is unknown, exit 0."""
    hook.answer = slowly
    with container(desk, DELIVERY_CONCURRENCY="5") as running:
        running.wait_ready()
        accept(desk, hook, 400)
        hook.wait_for(20)
        began_at = time.monotonic()
        code = running.stop()
        took_s = time.monotonic() - began_at

    sent = len(hook.ids())
    assert code == 0
    assert took_s < 20
    assert 0 < sent < 400
    assert desk.statuses() == {"sent": sent, "pending": 400 - sent}
    assert desk.attempts() == [("accepted", "accepted", sent)]


def test_a_configuration_that_broke_meanwhile_ends_all_with_2(desk: Desk, hook: Receiver, tmp_path: Path) -> None:
    """A successor that cannot read its settings says so; the other one drains."""
    secret = tmp_path / "secret"
    secret.write_text("whsec_" + base64.b64encode(SECRET).decode())
    with container(desk, WEBHOOK_SECRETS="", WEBHOOK_SECRETS_FILE=str(secret)) as running:
        running.wait_ready()
        secret.write_text("secret")
        os.kill(running.children()[0], signal.SIGKILL)
        code = running.parent.wait(40)
        events = running.events()

    assert code == 2
    assert [one["exit_code"] for one in events if one["event"] == "process_given_up"] == [2]
    assert len([one for one in events if one["event"] == "stopped"]) == 2  # the other process, and the parent


def test_one_process_has_no_parent(desk: Desk, hook: Receiver) -> None:
    """By default nothing is in between."""
    process = start(desk)
    desk.accept([hook.url])
    desk.wait_for(sent=1)
    below = descendants(process.pid)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=25)

    assert (below, process.returncode) == ([], 0)


def test_a_port_that_is_taken_ends_the_parent_before_anything_is_started(desk: Desk, hook: Receiver) -> None:
    """Exit code 2, and nothing in the log."""
    process = start(desk, DELIVERY_PROCESSES="2", DELIVERY_PORT=str(hook.port))
    output, _ = process.communicate(timeout=20)

    assert (process.returncode, output) == (2, "")
