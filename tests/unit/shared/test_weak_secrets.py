"""Row 25: a service does not start with a secret that everybody knows, or that is easily guessed."""

import base64
import importlib
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from shared.conninfo import read_conninfo
from shared.settings import Environment
from shared.weak_secrets import is_guessable, is_public
from tests.dockerfiles import EXTRAS, REPOSITORY

COMPOSE = (REPOSITORY / "docker-compose.yml").read_text()
PAGES = [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md"), REPOSITORY / ".env.example"]
KEY = bytes(range(32))


def shown_secrets() -> set[str]:
    """What .env.example calls a secret and gives a value, there or as the default of docker-compose.yml."""
    example = (REPOSITORY / ".env.example").read_text()
    variables = re.findall(r"(?m)^# \[[a-z, ]+; secret\](?:.*\n)(?:# .*\n)*#(\w+)=(.*)$", example)
    defaults = dict(re.findall(r"\$\{([A-Z_]+):-([^}]+)\}", COMPOSE))
    assert {"DB_PASS", "WEBHOOK_SECRETS", "SECRETS_KEYS"} <= {name for name, _ in variables} & defaults.keys()
    values = {value for _, value in variables} | {defaults.get(name, "") for name, _ in variables}
    return values - {""}


def test_every_secret_in_the_example_compose_and_the_pages_is_known_as_public() -> None:
    """Whatever is added there and could be copied has to be refused."""
    form = r"whsec_[A-Za-z0-9+/]{32,}={0,2}|\b[\w.-]+:[A-Za-z0-9+/]{43}=(?!=)"
    in_text = {found for path in PAGES for found in re.findall(form, path.read_text())}

    assert {
        secret for secret in shown_secrets() | in_text | set(re.findall(form, COMPOSE)) if not is_public(secret)
    } == set()


def faults(service: str, **values: str) -> list[str]:
    """What a service says against these settings, beside what it lacks."""
    env = Environment(values)
    importlib.import_module(f"{service}.settings").read_settings(env)
    return [str(fault) for fault in env.faults if fault.value is not None]


@pytest.mark.parametrize("service", EXTRAS)
@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DB_PASS", "notify"),
        ("DB_PASS", "Postgres"),
        ("DATABASE_URL", "postgresql://shop:changeme@db/notifications"),
        ("DATABASE_URL", "postgresql://shop@db/notifications?password=secret"),
        ("DATABASE_URL", "postgresql://shop:shop@db/notifications"),
        ("DATABASE_URL", "host=db user=shop password=changeme"),
        ("DATABASE_URL", "host=db password = 'change\\me'"),
    ],
)
def test_row_25_a_password_that_everybody_knows_is_one_fault(service: str, variable: str, value: str) -> None:
    """In either form of a connection string; and it is not repeated."""
    (fault,) = faults(service, **{variable: value})

    assert fault.startswith(f"{variable}: '(hidden)'; expected a secret of your own")
    assert faults(service, **{variable: value, "ALLOW_EXAMPLE_SECRETS": "on"}) == []


@pytest.mark.parametrize(
    ("service", "variable", "value"),
    [
        ("delivery_consumer", "WEBHOOK_SECRETS", "whsec_a25vd24gdG8gYWxsOiBmb3IgdGhpcyBtYWNoaW5lLi4="),
        ("delivery_consumer", "SECRETS_KEYS", "any-name:ZXZlcnlib2R5IGtub3dzIHRoaXMgc2VhbGluZyBrZXk="),
        ("api_service", "SECRETS_KEYS", "example:ZXZlcnlib2R5IGtub3dzIHRoaXMgc2VhbGluZyBrZXk="),
        ("delivery_consumer", "SMTP_PASS", "password"),
        ("outbox_relay", "KAFKA_SASL_PASS", "kafka"),
    ],
)
def test_row_25_the_examples_of_each_kind_are_refused(service: str, variable: str, value: str) -> None:
    """One line each, and permitted by the one switch."""
    (fault,) = faults(service, **{variable: value})

    assert "everybody knows this one; ALLOW_EXAMPLE_SECRETS=on permits it" in fault
    assert value not in fault
    assert faults(service, **{variable: value, "ALLOW_EXAMPLE_SECRETS": "on"}) == []


@pytest.mark.parametrize(
    "key",
    [KEY[:31], b"", b"k" * 32, b"abcd" * 8, b"this-is-an-example-of-32-bytes!!", b"my-very-secret-key-for-signing.."],
)
def test_row_25_a_short_or_guessable_key_is_refused_even_where_examples_are_permitted(key: bytes) -> None:
    """Less than 32 bytes, hardly two that differ, or a placeholder's words."""
    value = f"k1:{base64.b64encode(key).decode()}"

    assert faults("api_service", SECRETS_KEYS=value, ALLOW_EXAMPLE_SECRETS="on") == [
        "SECRETS_KEYS: '(hidden)'; expected <kid>:<base64 of 32 random bytes>, several separated by commas, "
        "each kid once"
    ]


@pytest.mark.parametrize("token", ["short", "x" * 40, "change-me-change-me-change-me-change-me-please"])
def test_row_25_a_token_of_our_own_is_long_and_random(token: str) -> None:
    """As METRICS_TOKEN would be."""
    env = Environment({"TOKEN": token})
    env.secret("TOKEN", at_least=32)

    assert [str(fault) for fault in env.faults] == ["TOKEN: '(hidden)'; expected at least 32 random characters"]


def test_random_keys_and_passwords_pass() -> None:
    """10,000 keys of the least size, in bytes, hexadecimal and base64; and what a person chose."""
    seeded = random.Random(25)
    keys = [seeded.randbytes(24) for _ in range(10_000)]

    assert not any(is_guessable(one) or is_guessable(base64.b64encode(one)) for one in keys)
    assert not any(is_guessable(one.hex().encode()) for one in (seeded.randbytes(32) for _ in range(10_000)))
    assert not is_public("correct horse")
    assert read_conninfo(Environment({"DATABASE_URL": "postgresql://[bad:x@y"}))  # libpq's to refuse


def test_row_25_a_service_with_the_examples_exits_with_2_and_a_line_for_each(tmp_path: Path) -> None:
    """The whole of docker-compose.yml's defaults, without its switch; with it the permitted ones are named."""
    given = yaml.safe_load(COMPOSE)["services"]["delivery_consumer"]["environment"]
    values = {name: re.sub(r"\$\{\w+:?-([^}]*)\}", r"\1", value) for name, value in given.items()}
    command = [sys.executable, "-c", "from delivery_consumer.__main__ import main; main()"]
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), **values}

    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=environ | {"ALLOW_EXAMPLE_SECRETS": "off"},
        capture_output=True,
        text=True,
        check=False,
    )

    head, *lines = done.stderr.splitlines()
    assert (done.returncode, head) == (2, "delivery_consumer cannot start, 3 setting(s) to mend:")
    assert sorted(line.split(":")[0].strip() for line in lines) == ["DB_PASS", "SECRETS_KEYS", "WEBHOOK_SECRETS"]
    assert not [value for name, value in values.items() if len(value) > 20 and value in done.stderr]


def test_permitted_examples_are_named_at_the_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Whoever forgets the switch is told at each start."""
    from dlq_consumer.settings import read_settings  # noqa: PLC0415
    from shared.settings import settings_or_exit  # noqa: PLC0415

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DB_PASS", "notify")
    monkeypatch.setenv("ALLOW_EXAMPLE_SECRETS", "on")

    settings_or_exit("dlq_consumer", read_settings)

    said = "dlq_consumer: everybody knows the secrets in DB_PASS; ALLOW_EXAMPLE_SECRETS permits them\n"
    assert capsys.readouterr().err == said
