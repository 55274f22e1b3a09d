"""The commands of the README, and of the page about endpoints, do what is said there, as they are printed."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import Client, until

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
COMMANDS: list[str] = re.findall(r"(?ms)^```bash\n(.+?)^```", README)


def run(client: Client, command: str) -> str:
    """Run a command line against the stack; an answer of 4xx or 5xx fails it."""
    at_port = command.replace("http://localhost:8080", client.stack.urls["api"])
    at_port = re.sub(r"http://(?:localhost|127\.0\.0\.1):9000", client.stack.urls["receiver"], at_port)
    script = f"set -e; curl() {{ command curl --silent --show-error --fail --noproxy '*' \"$@\"; }}\n{at_port}"
    environ = {**os.environ, "KEY": client.stack.api_key}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=30, check=False, env=environ)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_every_command_of_the_readme_works(client: Client) -> None:
    """Mails arrive, the webhook arrives signed, a repeat is answered as before, the lists list."""
    answers = [run(client, command) for command in COMMANDS]
    again = run(client, COMMANDS[2])

    mail, status, webhook, batch, lists = answers
    assert all("202" in answer.splitlines()[0] for answer in (mail, webhook, batch))
    assert "Idempotent-Replayed: true" in again
    assert re.search(r'"id":"([0-9a-f-]{36})"', status)[1] in mail  # type: ignore[index]
    assert lists.count('"has_more":false') == 2
    sent = re.findall(r'"id":"([0-9a-f-]{36})"', mail + webhook + batch)
    assert len(sent) == 4
    for notification_id in sent:
        client.wait_for(notification_id, "sent")
    (received,) = client.receiver("/received", path="/hooks/default")["data"]
    assert (received["id"], received["signature"]) == (sent[1], "ok")


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_the_commands_about_endpoints_lead_to_signed_deliveries(client: Client) -> None:
    """Pasted one after another into one shell: both notifications reach a receiver that verifies them."""
    page = (ROOT / "docs" / "endpoints.md").read_text()
    said = run(client, "".join(re.findall(r"(?ms)^```bash\n(.+?)^```", page)))

    until(
        lambda: len(client.receiver("/received", path="/hooks/orders")["data"]) == 2,
        timeout_s=20, what="the deliveries",
    )  # fmt: skip
    received = client.receiver("/received", path="/hooks/orders")["data"]
    assert {(one["signature"], one["outcome"]) for one in received} == {("ok", "200")}
    assert len(re.findall(r"HTTP/1.1 202 ", said)) == 2
    assert '"secrets": 3' in said


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_without_the_key_the_answer_says_what_is_missing(client: Client) -> None:
    """401, in words that a stranger can act on."""
    command = COMMANDS[0].replace("http://localhost:8080", client.stack.urls["api"])
    environ = {name: value for name, value in os.environ.items() if name != "KEY"}
    done = subprocess.run(
        ["bash", "-c", f"curl() {{ command curl --silent --noproxy '*' \"$@\"; }}\n{command}"],
        capture_output=True, text=True, timeout=30, check=False, env=environ,
    )  # fmt: skip

    assert "401" in done.stdout.splitlines()[0]
    assert "send an API key, as in Authorization: Bearer nk_live_" in done.stdout


def test_the_readme_names_only_targets_and_pages_there_are(client: Client) -> None:
    """`make` targets, and what is served at the paths of the table."""
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"(?m)^([a-z0-9_-]+):", makefile))

    assert set(re.findall(r"make ([a-z-]+)", README)) - targets == set()
    for path in ("/docs", "/openapi.json", "/health/live", "/health/ready", "/health", "/metrics"):
        assert f"`{path}`" in README or f"GET {path}`" in README
        client.http.get(path).raise_for_status()
    documented = set(re.findall(r"`(?:POST|GET|DELETE)? ?(/(?:api|webhook)/[a-z0-9/{}-]+)`", README))
    served = set(client.http.get("/openapi.json").json()["paths"])
    named = {re.sub(r"\{\w+\}", "{}", path) for path in served}
    assert {re.sub(r"\{\w+\}", "{}", path) for path in documented} - named == set()
