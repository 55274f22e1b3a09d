"""The whole stack in the background: started, found again, hurt, ended, and nothing left."""

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.local import watchdog
from infra.local.background import Background
from infra.local.clients import Mailbox, Producer
from infra.local.ports import free_port
from infra.local.readiness import verdicts
from infra.local.stack import PORT_VARIABLES


@pytest.fixture
def background(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Background]:
    """A background stack on free ports, in no clone's .local; ended with the test."""
    for variable, _ in PORT_VARIABLES.values():
        monkeypatch.setenv(variable, str(free_port()))
    background = Background(tmp_path / "local")
    yield background
    background.down()


@pytest.mark.timeout(300)
def test_a_stack_in_the_background_from_up_to_down(background: Background) -> None:
    """One long test: each start costs ten seconds."""
    said: list[str] = []
    first, started = background.up(fresh=False, say=said.append)
    second, started_again = background.up(fresh=False, say=said.append)
    with Producer(first.urls["api"], api_key=first.api_key) as producer:
        accepted = producer.post(channel="email", recipient="ada@example.org", subject="Hello", message="It works.")
        producer.wait_for_status(accepted, "sent")
    with Mailbox(first.urls["mail"]) as mailbox:
        mails = len(mailbox.about(accepted))
    pids = [first.pid, *watchdog.descendants(first.pid)]

    assert (first.phase, started, started_again, second.pid) == ("ready", True, False, first.pid)
    assert len([line for line in said if "ready after" in line]) == 7
    assert mails == 1

    os.kill(first.pid, signal.SIGKILL)
    _wait_for(lambda: not any(watchdog.is_alive(pid) for pid in pids))
    assert background.state() is None

    third, _ = background.up(fresh=False, say=said.append)
    with Producer(third.urls["api"], api_key=third.api_key) as producer:
        kept = producer.status(accepted)
        key_id = producer.http.get("/auth/me").json()["id"]
        producer.http.post(f"/api/v1/api-keys/{key_id}/revoke").raise_for_status()
    pids = [third.pid, *watchdog.descendants(third.pid)]
    ended = [background.down(), background.down()]

    assert (kept, ended) == ("sent", [True, False])
    _wait_for(lambda: not any(watchdog.is_alive(pid) for pid in pids))

    fourth, _ = background.up(fresh=False, say=said.append)
    with Producer(fourth.urls["api"], api_key=fourth.api_key) as producer:
        still = producer.status(accepted)

    assert fourth.api_key != third.api_key == first.api_key
    assert still == "sent"


@pytest.mark.timeout(300)
def test_servers_that_die_are_started_again_and_the_stack_ends_when_its_files_are_removed(
    background: Background,
) -> None:
    """PostgreSQL and Kafka like everything else; and `rm -r .local` leaves nothing that cannot be stopped any more."""
    state, _ = background.up(fresh=False, say=lambda _: None)
    before = {verdict.part: verdict.fault for verdict in verdicts(state.urls)}
    pids = [state.pid, *watchdog.descendants(state.pid)]

    for server in (b"bin/postgres", b"kafka.Kafka"):
        os.kill(next(pid for pid in pids if server in Path(f"/proc/{pid}/cmdline").read_bytes()), signal.SIGKILL)
    faulty = {verdict.part for verdict in verdicts(state.urls) if verdict.fault}

    assert len(before) == 8
    assert not any(before.values())
    assert faulty & {"PostgreSQL", "Apache Kafka"}
    _wait_until_ready(state.urls)

    pids = [state.pid, *watchdog.descendants(state.pid)]
    shutil.rmtree(background.local_dir)

    _wait_for(lambda: not any(watchdog.is_alive(pid) for pid in pids), seconds=60)


def _wait_until_ready(urls: dict[str, str]) -> None:
    deadline = time.monotonic() + 90
    while faults := {verdict.part: verdict.fault for verdict in verdicts(urls) if verdict.fault}:
        assert time.monotonic() < deadline, faults
        time.sleep(0.2)


def _wait_for(condition: Callable[[], bool], *, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
