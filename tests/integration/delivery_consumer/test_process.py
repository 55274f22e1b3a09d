"""The consumer as a process of its own."""

import asyncio
import base64
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from typing import IO

from tests.integration.delivery_consumer.parts import OK, SECRET, Desk, Receiver, running, settings_for


def free_port() -> int:
    """A port nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def start(desk: Desk, *, stdout: int | IO[str] = subprocess.PIPE, **variables: str) -> subprocess.Popen[str]:
    """Start the consumer the way a container does. A pipe that nobody reads takes the lines of a hundred deliveries."""
    environ = {
        "PATH": os.environ["PATH"],
        **desk.database.environ_of("delivery_consumer"),
        **desk.topics.environ,
        "DELIVERY_PORT": str(free_port()),
        "DELIVERY_CHANNELS": "webhook",
        "WEBHOOK_SECRETS": "whsec_" + base64.b64encode(SECRET).decode(),
        "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
        **variables,
    }
    return subprocess.Popen([sys.executable, "-m", "delivery_consumer"], env=environ, stdout=stdout, text=True)


def test_sigterm_ends_what_is_under_way_and_gives_back_the_rest(desk: Desk, hook: Receiver) -> None:
    """SIGTERM waits for calls under way, gives unbegun attempts back, commits and exits 0: no attempt is unknown."""

    async def slowly(_: dict[str, str]) -> bytes:
        await asyncio.sleep(0.5)
        return OK

    hook.answer = slowly
    process = start(desk, DELIVERY_CONCURRENCY="10")
    desk.accept([hook.url] * 200)
    hook.wait_for(5)

    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=25)

    events = [json.loads(line) for line in output.splitlines()]
    assert process.returncode == 0
    assert events[-1]["event"] == "stopped"
    sent = len(set(hook.ids()))
    assert len(hook.ids()) == sent < 200
    assert desk.statuses() == {"sent": sent, "pending": 200 - sent}
    assert desk.attempts() == [("accepted", "accepted", sent)]


def test_bad_settings_are_all_named_at_once(desk: Desk) -> None:
    """A start that cannot work lists each faulty variable and exits 2."""
    result = subprocess.run(
        [sys.executable, "-m", "delivery_consumer"],
        env={
            "PATH": os.environ["PATH"],
            "WEBHOOK_SECRETS": "secret",
            "DELIVERY_LEASE_S": "1",
            "SMTP_TLS": "maybe",
            "DELIVERY_PROCESSES": "65",
        },
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )

    assert result.returncode == 2
    for variable in ("WEBHOOK_SECRETS", "DELIVERY_LEASE_S", "DELIVERY_PROCESSES", "SMTP_TLS", "SMTP_HOST", "SMTP_FROM"):
        assert variable in result.stderr
    assert "secret;" not in result.stderr.replace("(hidden)", "")


def test_health_and_metrics_are_served(desk: Desk, hook: Receiver) -> None:
    """Ready once PostgreSQL and Kafka are connected; the series of a delivery are on /metrics."""
    port = free_port()
    process = start(desk, DELIVERY_PORT=str(port))
    desk.accept([hook.url])
    desk.wait_for(sent=1)

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=5) as answer:
        health = json.load(answer)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        metrics = answer.read().decode()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=25)

    assert health["checks"] == {"postgres": "ok", "kafka": "ok"}
    assert 'deliveries_total{channel="webhook",outcome="accepted",reason="accepted"} 1.0' in metrics


def test_a_row_that_somebody_holds_delays_nobody_else(desk: Desk, hook: Receiver) -> None:
    """While a transaction holds one row, all others are delivered, and SIGTERM ends the process in time."""
    process = start(desk)
    (held,) = desk.accept([hook.url], publish=False)
    try:
        with desk.database.connect() as holder:
            holder.execute("SELECT FROM notifications WHERE id = %s FOR UPDATE", (held.id,))
            desk.publish([held])
            desk.accept([hook.url] * 20)
            desk.wait_for(sent=20, pending=1, timeout_s=20)

            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=20)
    finally:
        process.kill()

    assert process.returncode == 0
    with running(settings_for(desk.database, desk.topics)):
        desk.wait_for(sent=21)
    assert hook.ids().count(str(held.id)) == 1
