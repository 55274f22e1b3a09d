"""Every operation asks who calls; whoever is shut out is shut out of every process within five seconds."""

import random
import re
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from api_service import api_keys
from api_service.callers import Scope
from api_service.routing import scope_of
from infra.local.ports import free_port
from infra.local.processes import Supervisor
from shared.db import api_keys as keys_table
from shared.db import tenants
from tests.integration.api_service.conftest import CLOSED, METRICS_TOKEN, make_key
from tests.integration.api_service.test_server import PATH, Server, environ
from tests.integration.api_service.test_signing_in import bearer, joined
from tests.servers import Database

EMAIL = {"channel": "email", "recipient": "ada@example.com", "message": "hello"}
FOR_ANYBODY = {
    *(("GET", path) for path in ("/health", "/health/live", "/health/liveness", "/health/ready", "/health/readiness")),
    *(("POST", f"{prefix}/auth/{what}") for prefix in ("", "/api/v1") for what in ("register", "login")),
}


def operations(client: FlaskClient) -> Iterator[tuple[str, str, Any]]:
    """Each operation: method, a path it is served at, and what it needs."""
    for rule in client.application.url_map.iter_rules():
        if not rule.rule.startswith(("/docs", "/openapi.json", "/static")):
            path = re.sub(r"<uuid:\w+>", "01930e2a-7c1e-7000-8f3a-5b6c7d8e9f00", rule.rule)
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
                yield method, re.sub(r"<[^>]+>", "0123456789abcdef", path), scope_of(method, rule.rule)


def test_whoever_does_not_say_who_they_are_gets_401_everywhere(closed: FlaskClient) -> None:
    """But at the few places that are for anybody, and are named here."""
    open_to_all = set()
    for method, path, _ in operations(closed):
        response = closed.open(path, method=method)
        if response.status_code == 401:
            assert response.headers["WWW-Authenticate"] == "Bearer"
            assert "nk_live_" in response.text
        else:
            open_to_all.add((method, path))

    assert open_to_all == FOR_ANYBODY


def test_row_33_a_user_is_refused_what_is_for_administrators(closed: FlaskClient, database: Database) -> None:
    """403 on dead letters, suppressions, keys, users, destinations and metrics, each of their operations."""
    joined(closed)
    headers = bearer(closed)
    refused = set()
    for method, path, need in operations(closed):
        response = closed.open(path, method=method, headers=headers)
        assert (response.status_code == 403) == (need is Scope.ADMIN or path == "/metrics"), (method, path)
        refused |= {path.removeprefix("/api/v1").split("/")[1]} if response.status_code == 403 else set()

    assert refused >= {"dead-letters", "suppressions", "destinations", "api-keys", "users", "metrics"}


def test_metrics_are_for_the_token_and_for_those_who_run_it(closed: FlaskClient, database: Database) -> None:
    """They are of all tenants: an administrator of one of them is refused as well."""
    _, ours = make_key(database, "admin", tenant_id="ours")
    _, customers = make_key(database, "admin")
    _, reading = make_key(database, "read", tenant_id="ours")

    def status(said: str) -> int:
        return closed.get("/metrics", headers={"Authorization": said}).status_code

    assert status(f"Bearer {METRICS_TOKEN}") == 200
    assert status(ours["Authorization"]) == 200
    assert [status(headers["Authorization"]) for headers in (customers, reading)] == [403, 403]
    assert [status(said) for said in (f"Bearer {METRICS_TOKEN[:-1]}", METRICS_TOKEN, "Bearer ")] == [401] * 3
    assert closed.get(f"/metrics?token={METRICS_TOKEN}").status_code == 401


def test_in_open_mode_everybody_may_do_everything(client: FlaskClient) -> None:
    """Whatever they say of themselves."""
    assert client.get("/metrics").status_code == 200
    assert client.get("/api/v1/dead-letters", headers={"Authorization": "Bearer nonsense"}).status_code == 200
    me = client.get("/auth/me").json
    assert (me["kind"], me["tenant_id"], me["scopes"]) == ("open", "default", list(Scope))  # type: ignore[index]


def test_the_document_says_what_each_operation_needs(closed: FlaskClient) -> None:
    """And that 401 and 403 may be the answer."""
    document = closed.get("/openapi.json").json
    assert document is not None
    assert document["components"]["securitySchemes"].keys() == {"bearer", "apiKey"}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method == "parameters":
                continue
            open_to_all = (method.upper(), path) in FOR_ANYBODY
            assert (operation["security"] == []) == open_to_all, (method, path)
            assert open_to_all or operation["responses"].keys() >= {"401", "403"}, (method, path)


def test_row_27_a_known_and_an_unknown_key_take_as_long(closed: FlaskClient, database: Database) -> None:
    """Each guess is a look into the table and two comparisons, whatever is found."""
    key_id, _ = make_key(database)
    took: dict[str, list[float]] = {"known": [], "unknown": []}
    for _ in range(300):
        secret = api_keys.make().text.rpartition("_")[2]
        guesses = [("known", key_id), ("unknown", api_keys.make().id)]
        for name, guessed in random.sample(guesses, 2):
            began = time.perf_counter()
            assert closed.get(PATH, headers={"X-API-Key": f"nk_live_{guessed}_{secret}"}).status_code == 401
            took[name].append(time.perf_counter() - began)

    # What the machine does besides takes time away from either; least of all from the quickest.
    known, unknown = (statistics.quantiles(seconds, n=10)[0] for seconds in took.values())
    assert 0.8 < known / unknown < 1.25


@pytest.fixture
def server(database: Database, tmp_path: Path) -> Iterator[Server]:
    """Two workers of two threads each, which ask who calls."""
    port = free_port()
    env = environ(
        **database.environ_of("api_service"),
        **CLOSED,
        API_PORT=str(port),
        API_WORKERS="2",
        API_THREADS="2",
        TMPDIR=str(tmp_path),
    )
    with database.connect(autocommit=True) as conn:
        tenants.add(conn, "shop", name="Shop")
    with Supervisor(tmp_path / "logs") as supervisor:
        process = supervisor.process("api", [sys.executable, "-m", "api_service"], env=env, cwd=tmp_path)
        process.start().wait_healthy(f"http://127.0.0.1:{port}/health/ready")
        yield Server(process, port, tmp_path)


def test_row_26_a_revoked_key_is_refused_by_every_worker_within_five_seconds(
    server: Server, database: Database
) -> None:
    """Both have used it up to the last moment; and it stays refused."""
    key_id, headers = make_key(database)

    def status() -> int:
        return server.request("GET", PATH, **headers)[0]

    def workers_asked() -> int:
        page = server.request("GET", "/metrics", Authorization=f"Bearer {METRICS_TOKEN}")[1].decode()
        return int(
            float(re.findall(r'http_requests_total\{method="GET",route="/api/v1/notifications".*\} (\S+)', page)[0])
        )

    assert [status() for _ in range(60)] == [200] * 60  # each on a connection of its own: both workers know it
    assert workers_asked() == 60
    with database.connect(autocommit=True) as conn:
        assert keys_table.revoke(conn, key_id, tenant_id="shop", by="test")
    revoked_at = time.monotonic()
    last_let_in = 0.0
    while (passed := time.monotonic() - revoked_at) < 7.0:
        if status() == 200:
            last_let_in = passed
    assert last_let_in <= 5.0
    assert [status() for _ in range(30)] == [401] * 30


def test_no_secret_reaches_the_log(server: Server, database: Database) -> None:
    """Neither keys, nor tokens, nor passwords, in the header, the query or the body; and the uses are written down."""
    key_id, headers = make_key(database)
    secret = headers["Authorization"].rpartition("_")[2]
    canary = "three canaries over the lake"
    answers = [
        server.request("POST", PATH, EMAIL, **headers)[0],
        server.request("GET", f"{PATH}?api_key={headers['Authorization'][7:]}")[0],
        server.request("GET", PATH, Authorization=f"Bearer nk_live_{key_id}_{secret[::-1]}")[0],
        server.request("POST", "/auth/register", {"email": "ada@example.com", "password": canary, "name": "Ada"})[0],
        server.request("POST", "/auth/login", {"email": "ada@example.com", "password": canary})[0],
        server.request("POST", "/auth/login", {"email": "ada@example.com", "password": canary[::-1]})[0],
    ]
    token = server.request("POST", "/auth/login", {"email": "ada@example.com", "password": canary})[1].decode()
    assert server.process.terminate(timeout_s=15) == 0

    log = server.process.log_path.read_text()
    assert answers == [202, 401, 401, 201, 200, 401]
    for one in (secret, secret[::-1], canary, canary[::-1], token.split(".")[1]):
        assert one not in log
    with database.connect() as conn:
        assert conn.execute("SELECT last_used_at IS NOT NULL FROM api_keys").fetchall() == [(True,)]
