"""The whole stack in the background: started, found again, hurt, ended, and nothing left."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from infra.local import watchdog
from infra.local.background import Background, State
from infra.local.ports import free_port
from infra.local.stack import PORT_VARIABLES

NOTIFICATIONS = "/api/v1/notifications"


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
    accepted = _post_mail(first)
    pids = [first.pid, *watchdog.descendants(first.pid)]

    assert (first.phase, started, started_again, second.pid) == ("ready", True, False, first.pid)
    assert len([line for line in said if "ready after" in line]) == 7
    _wait_for(lambda: _mail_about(first, accepted) == 1)

    os.kill(first.pid, signal.SIGKILL)
    _wait_for(lambda: not any(watchdog.is_alive(pid) for pid in pids))
    assert background.state() is None

    third, _ = background.up(fresh=False, say=said.append)
    kept = httpx.get(f"{third.urls['api']}{NOTIFICATIONS}/{accepted}", trust_env=False).json()["status"]
    pids = [third.pid, *watchdog.descendants(third.pid)]
    ended = [background.down(), background.down()]

    assert (kept, ended) == ("sent", [True, False])
    assert not any(watchdog.is_alive(pid) for pid in pids)


def _post_mail(state: State) -> str:
    mail = {"channel": "email", "recipient": "ada@example.org", "subject": "Hello", "message": "It works."}
    answer = httpx.post(state.urls["api"] + NOTIFICATIONS, json=mail, trust_env=False)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def _mail_about(state: State, notification_id: str) -> int:
    found = httpx.get(f"{state.urls['mail']}/messages?notification_id={notification_id}", trust_env=False)
    return len(found.json()["data"])


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
