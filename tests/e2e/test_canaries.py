"""Rows 56, 58 and 59: what was written into bodies, headers, recipients and secrets is found in its own place alone."""

import base64
import json
import re
import secrets
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pytest
from confluent_kafka import Producer

from infra.local.ports import free_port
from infra.local.postgres import program
from infra.local.stack import DATABASE, SERVICES, Ports, Stack
from shared.db import accepting
from shared.db.accepting import NewNotification
from shared.model import Channel
from shared.records import Record, encode_record
from tests.e2e.conftest import HURRIED, Client, until
from tests.integration.notifications import new_notification


def canary(place: str) -> str:
    """A word that nobody else writes; the log may hold its place, never its end."""
    return f"canary-{place}-{secrets.token_hex(8)}"


PLACES = ("subject", "message", "payload", "metadata", "header", "mailbox", "path", "query", "refused", "hostless",
          "idempotency", "authorization", "cookie", "agent", "referer", "malformed", "faulty", "poison", "key",
          "smtp-password")  # fmt: skip
CANARIES = {place: canary(place) for place in PLACES}
SECRETS: dict[str, str] = {}
"""What the run made or was given and nobody may see: by its place, without what it begins with."""

FORGED = 'x"}\n{"event": "forged", "level": "info"}\r\n\x1b[31mred\u2028'


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that logs all there is to log."""
    environ = HURRIED | {"LOG_LEVEL": "debug"}
    with Stack(tmp_path_factory.mktemp("stack"), Ports.choose({}), environ=environ, say=lambda _: None) as running:
        yield running


def service_logs(stack: Stack) -> dict[str, list[str]]:
    """The lines of each service, and of the servers they use."""
    names = [*SERVICES, "postgres", "kafka"]
    return {name: (stack.data_dir / "logs" / f"{name}.log").read_text(errors="replace").splitlines() for name in names}


def metrics(stack: Stack) -> dict[str, str]:
    """What each service shows to Prometheus."""
    names = {"api_service": "api", "outbox_relay": "relay", "delivery_consumer": "delivery", "dlq_consumer": "dlq"}
    urls = {service: f"{stack.urls[name]}/metrics" for service, name in names.items()}
    headers = {"Authorization": f"Bearer {stack.api_key}"}  # an operator's, as the API asks for
    with httpx.Client(trust_env=False, timeout=10, headers=headers) as http:
        return {service: http.get(url).raise_for_status().text for service, url in urls.items()}


def leaks(text: str) -> set[str]:
    """Which canaries a text holds."""
    words = {place: word.rpartition("-")[2] for place, word in CANARIES.items()} | SECRETS
    return {place for place, word in words.items() if word in text}


def accepted(client: Client) -> list[str]:
    """Send what carries canaries: a mail, webhooks that arrive, fail and lead nowhere; return the ids."""
    c = CANARIES
    content = {"message": c["message"], "metadata": {"m": c["metadata"]}}
    webhook = content | {"channel": "webhook", "payload": {"p": c["payload"]}, "headers": {"X-Secret": c["header"]}}
    hook = client.hook(c["path"]) + f"?token={c['query']}"
    down, refused = (
        client.hook("canaries-down") + f"?token={c['query']}",
        f"http://127.0.0.1:{free_port()}/{c['refused']}",
    )
    nowhere = f"http://nowhere.invalid/{c['hostless']}"
    client.behave(path="/hooks/canaries-down", status=503)
    headers = {"Idempotency-Key": c["idempotency"], "Cookie": f"s={c['cookie']}", "User-Agent": c["agent"],
               "Referer": c["referer"]}  # fmt: skip
    mail = content | {"channel": "email", "recipient": f"{c['mailbox']}@example.org", "subject": c["subject"]}
    first = client.http.post("/api/v1/notifications", json=mail, headers=headers)
    assert first.status_code == 202, first.text
    return [first.json()["id"], *(client.accept(**webhook, recipient=url) for url in (hook, down, refused, nowhere))]


def learn_secrets(client: Client) -> None:
    """Note what the stack's own secrets are, and have some made: an endpoint's, its header, and the tenant's."""
    kept = client.stack.data_dir
    SECRETS["webhook-secret"] = (kept / "webhook-secret").read_text().removeprefix("whsec_")
    SECRETS["secrets-key"] = (kept / "secrets-key").read_text().partition(":")[2]
    SECRETS["jwt-key"] = (kept / "jwt-key").read_text().partition(":")[2]
    SECRETS["api-key"] = client.stack.api_key.rpartition("_")[2]
    SECRETS["postgres-password"] = client.stack.postgres.password
    SECRETS["endpoint-header"] = secrets.token_hex(16)
    new = {"url": client.hook("endpoint"), "headers": {"Authorization": f"Bearer {SECRETS['endpoint-header']}"}}
    made = client.http.post("/api/v1/endpoints", json=new)
    assert made.status_code == 201, made.text
    SECRETS["endpoint-secret"] = made.json()["secret"].removeprefix("whsec_")
    rotated = client.http.post("/api/v1/signing-secret/rotate")
    assert rotated.status_code == 200, rotated.text
    SECRETS["tenant-secret"] = rotated.json()["secret"].removeprefix("whsec_")
    assert all(len(secret) >= 16 for secret in SECRETS.values())


def refusals(client: Client) -> list[httpx.Response]:
    """Ask for what is refused, with canaries in it."""
    http, path, word = client.http, "/api/v1/notifications", CANARIES["faulty"]
    mail = {"channel": "email", "recipient": "a@example.org", "message": "m"}
    cases: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", path, {"content": f'{{"message": "{CANARIES["malformed"]}'.encode()}),
        ("POST", path, {"json": mail | {"recipient": f"{word} <x@example.org>"}}),
        ("POST", path, {"json": mail | {"channel": word}}),
        ("POST", path, {"json": mail | {"channel": "webhook", "recipient": f"http://u:{word}@h/"}}),
        ("POST", path, {"json": mail | {"scheduled_for": word}}),
        ("POST", path, {"json": mail | {"metadata": word}}),
        ("POST", path, {"json": mail, "headers": {"Content-Type": f"text/{word}"}}),
        ("POST", path, {"json": mail, "headers": {"Content-Encoding": word}}),
        ("POST", path, {"json": mail, "headers": {"Idempotency-Key": f"{word}\x7f"}}),
        ("POST", path + "/batch", {"json": [mail, mail | {"recipient": word}]}),
        ("GET", f"{path}?status={word}", {}),
        ("GET", f"{path}?cursor={word}", {}),
        ("GET", f"{path}?tenant_id={word}", {}),
        ("GET", f"{path}/{word}", {}),
        ("GET", f"/{word}/..%2f{word}?access_token={word}", {}),
        ("PUT", f"{path}?{word}={word}", {}),
        ("GET", "/auth/me", {"headers": {"Authorization": f"Bearer {CANARIES['authorization']}"}}),
        ("GET", "/auth/me", {"headers": {"Authorization": f"Basic {CANARIES['authorization']}"}}),
        ("POST", "/auth/login", {"json": {"email": f"{word}@example.org", "password": CANARIES["authorization"]}}),
        ("POST", "/api/v1/dead-letters/retry", {"json": {"filter": {"destination": word, "status": word}}}),
    ]
    answers = [http.request(method, url, **how) for method, url, how in cases]
    assert {answer.status_code // 100 for answer in answers} == {4}
    return answers


def poison(client: Client) -> None:
    """Produce records that nobody can decode, with canaries in all parts; wait until they are set aside."""
    producer = Producer({"bootstrap.servers": client.stack.bootstrap_servers})
    word = CANARIES["poison"].encode()
    headers: list[tuple[str, str | bytes | None]] = [
        ("correlation-id", FORGED.encode() + word), ("attempt", b"1"), ("error-message", word),
    ]  # fmt: skip
    record = Record("no-uuid".ljust(36, "-"), "default", Channel.EMAIL, CANARIES["poison"], "m", "now")
    for value in (word, b"\xff" + word, encode_record(record)):
        for topic in (*client.stack.topics.lanes(Channel.EMAIL), client.stack.topics.dlq):
            producer.produce(topic, value, key=CANARIES["key"].encode(), headers=headers)
    producer.flush(10)
    query = "SELECT count(*) FROM dlq_messages WHERE notification_id IS NULL"
    until(lambda: client.rows(query)[0][0] >= 9, timeout_s=30, what="nine records set aside")


@pytest.fixture(scope="module")
def ran(stack: Stack) -> Iterator[list[httpx.Response]]:
    """A whole run with canaries everywhere, and an outage in it; the answers that refused something."""
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    with httpx.Client(base_url=stack.urls["api"], timeout=10, trust_env=False, headers=headers) as http:
        client = Client(stack, http)
        ids = accepted(client)
        client.wait_for(ids[0], "sent")
        client.wait_for(ids[1], "sent")  # before there is a secret that the local receiver does not know
        learn_secrets(client)
        answers = refusals(client)
        poison(client)
        stack.postgres.kill()
        with pytest.raises(httpx.HTTPError):
            client.http.post("/api/v1/notifications", json={"message": CANARIES["faulty"]}).raise_for_status()
        stack.postgres.start()
        until(lambda: http.get("/health/ready").status_code == 200, timeout_s=30, what="the API to be ready again")
        query = "SELECT count(*) FROM dlq_messages WHERE notification_id = ANY(%s::uuid[]) AND retry_count > 0"
        until(lambda: client.rows(query, ids[2:])[0][0] == 3, timeout_s=60, what="three dead letters, retried")
        yield answers


def test_row_56_no_canary_is_in_any_log(stack: Stack, ran: list[httpx.Response]) -> None:
    """Of the four services at their most talkative, and of PostgreSQL and Kafka."""
    assert ran
    found = {name: leaks("\n".join(lines)) for name, lines in service_logs(stack).items()}

    assert {name: places for name, places in found.items() if places} == {}
    assert all(service_logs(stack)[name] for name in SERVICES)


def test_row_56_no_canary_is_in_any_metric(stack: Stack, ran: list[httpx.Response]) -> None:
    """Labels are words of ours."""
    assert ran
    assert {name: leaks(text) for name, text in metrics(stack).items() if leaks(text)} == {}


def test_row_56_no_problem_repeats_what_was_sent(ran: list[httpx.Response]) -> None:
    """Neither in its body nor in its headers."""
    said = {str(answer.url.path)[:40]: leaks(answer.text + str(answer.headers)) for answer in ran}

    assert {path: places for path, places in said.items() if places} == {}


def test_row_56_no_error_of_a_dead_letter_repeats_what_was_sent(client: Client, ran: list[httpx.Response]) -> None:
    """What is kept of a failure is a reason, a destination and a place; the record itself is in its own column."""
    assert ran
    columns = "reason, destination, fingerprint, first_error, error_message, rest_reason, failure_class"
    letters = client.rows(f"SELECT {columns} FROM dlq_messages")
    attempts = client.rows("SELECT reason, destination, receipt FROM delivery_attempts")
    reports = client.rows("SELECT destination, last_reason FROM destination_reports")

    assert len(letters) >= 12
    assert leaks(str([letters, attempts, reports])) <= {"poison"}  # error-message of a foreign record is its own text
    assert leaks(str([letter[:3] + letter[5:] for letter in letters] + attempts + reports)) == set()


def test_row_57_a_dump_of_the_database_holds_no_secret(stack: Stack, client: Client, ran: list[httpx.Response]) -> None:
    """Neither as text nor as bytes, in hexadecimal or base64; what is sealed is there."""
    assert ran
    command = [str(program("pg_dump")), "--dbname", stack.postgres.dsn(DATABASE), "--no-owner"]
    dump = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    forms = {place: {secret, secret.encode().hex(), *as_key(secret)} for place, secret in SECRETS.items()}
    assert {place for place, spelled in forms.items() if any(one in dump for one in spelled)} == set()
    assert client.rows("SELECT count(*) FROM endpoints WHERE sealed_headers IS NOT NULL") == [(1,)]
    assert client.rows("SELECT count(*) FROM signing_secrets") == [(2,)]


def as_key(secret: str) -> set[str]:
    """What a key's bytes look like in a dump."""
    try:
        return {base64.b64decode(secret, validate=True).hex()}
    except ValueError:
        return set()


def test_row_58_each_line_of_a_log_is_one_json_object_whatever_was_sent(
    stack: Stack, client: Client, ran: list[httpx.Response]
) -> None:
    """Line breaks, escape sequences and quotes in paths, ids, headers and records forge no line."""
    assert ran
    for name in ("X-Request-ID", "X-Correlation-ID", "traceparent", "User-Agent", "Idempotency-Key"):
        forged = 'x"}{"event": "forged"}\x1b[31m'
        client.http.post("/api/v1/notifications", json={"channel": FORGED}, headers={name: forged})
    client.http.get('/%0d%0a{"event":"forged"}%1b[31m')
    client.accept(channel="email", recipient="a@example.org", message=FORGED.replace("\x1b", ""), subject="s")
    time.sleep(1)

    for name in SERVICES:
        lines = [json.loads(line) for line in service_logs(stack)[name]]
        assert all(isinstance(line, dict) and isinstance(line["event"], str) for line in lines)
        assert not [line for line in lines if line["event"] == "forged"]
        raw = (stack.data_dir / "logs" / f"{name}.log").read_bytes()
        assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", raw)


def series(text: str) -> set[str]:
    """The names of an exposition's series, labels included."""
    return {line.rpartition(" ")[0] for line in text.splitlines() if line and not line.startswith("#")}


ODD_CODES = range(430, 450)
"""Statuses that no specification has; receivers choose them."""


SENT = re.compile(r'tenant-\d|nothing-|TRY\d|10\.\d|http_4[34]\d|"4[34]\d"')
"""What a series would have in a label if it were of one tenant, URL, path, method or status alone."""


def to_nowhere(stack: Stack, client: Client, number: int) -> NewNotification:
    """A webhook of a tenant and with a URL of its own: most lead where nothing may be sent, some to a receiver."""
    tenant_id, url = f"tenant-{number}", f"http://10.{number // 200}.{number % 200}.1/{number}"
    if number % 10 == 0:
        url = client.hook(f"nobody-{ODD_CODES[number // 500 % len(ODD_CODES)]}") + f"?{number}"
    new = new_notification(
        tenant_id=tenant_id, channel=Channel.WEBHOOK, topic=stack.topics.lanes(Channel.WEBHOOK)[0], recipient=url
    )
    record = Record(str(new.id), tenant_id, Channel.WEBHOOK, url, "m", "2026-01-01T00:00:00Z")
    return new._replace(record=encode_record(record))


def seen_through(stack: Stack, client: Client, numbers: range) -> None:
    """Send so many and wait until all have failed; ask the API for paths and by methods that it does not know."""
    with psycopg.connect(stack.postgres.dsn(DATABASE), autocommit=True) as conn:
        for first in range(0, len(numbers), 500):
            with conn.transaction():
                for number in numbers[first : first + 500]:
                    accepting.insert(conn, to_nowhere(stack, client, number))
    for number in numbers[::10]:
        client.http.get(f"/nothing-{number}?tenant_id={number}")
        client.http.request(f"TRY{number}", "/api/v1/notifications")
    query = "SELECT count(*) FROM notifications WHERE tenant_id LIKE 'tenant-%' AND status <> 'failed'"
    until(lambda: client.rows(query)[0][0] == 0, timeout_s=200, what=f"{len(numbers)} have failed")
    tracked = "SELECT count(*) FROM dlq_messages WHERE tenant_id LIKE 'tenant-%'"
    until(lambda: client.rows(tracked)[0][0] == numbers.stop, timeout_s=60, what="all dead letters are tracked")


@pytest.mark.timeout(500)
def test_row_59_ten_thousand_tenants_and_urls_make_no_new_series(stack: Stack, client: Client) -> None:
    """After two hundred, each series that there will be is there: 10,000 more add none."""
    for code in ODD_CODES:
        client.behave(path=f"/hooks/nobody-{code}", status=code)
    seen_through(stack, client, range(200))
    topic, partitions = stack.topics.lanes(Channel.WEBHOOK)[0], int(HURRIED["KAFKA_TOPIC_PARTITIONS"])
    gauges = [f'delivery_in_flight{{topic="{topic}"}}']
    gauges += [f'kafka_consumer_lag{{partition="{number}",topic="{topic}"}}' for number in range(partitions)]
    until(lambda: series(metrics(stack)["delivery_consumer"]) >= {*gauges}, timeout_s=30, what="gauges set at times")
    before = {name: series(text) for name, text in metrics(stack).items()}

    seen_through(stack, client, range(200, 10_200))

    added = [line for name, text in metrics(stack).items() for line in series(text) - before[name]]
    # One of a closed set may come late, as when a breaker opens; none is of what was sent, none comes by thousands.
    assert [line for line in added if SENT.search(line)][:10] == []
    assert len(added) < 20


def test_the_words_are_where_they_belong(client: Client, ran: list[httpx.Response]) -> None:
    """Or none of this would prove anything: the rows, the mail and the receiver have them."""
    assert ran
    rows = str(client.rows("SELECT recipient, convert_from(record, 'UTF8') FROM notifications"))
    mail = httpx.get(client.stack.urls["mail"] + "/messages", trust_env=False).text
    received = client.receiver("/received", path=f"/hooks/{CANARIES['path']}")

    assert leaks(rows) >= {"subject", "message", "payload", "metadata", "header", "mailbox", "path", "query"}
    assert leaks(mail) >= {"mailbox", "subject"}
    assert leaks(str(received)) >= {"message", "payload", "path"}
