"""`notify-admin rotate-secrets`: what is stored is sealed with the newest key, while everybody goes on using it."""

import base64
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result
from flask.testing import FlaskClient

from api_service.admin import rotating
from api_service.admin.__main__ import cli
from api_service.admin.rotating import reseal
from shared.db import sealed
from shared.endpoints import endpoint_id
from shared.key_rings import NamedKey, parse_named_key
from shared.secrets import Keyring
from tests.integration.api_service.conftest import SECRETS_KEYS
from tests.integration.api_service.tenants import body_of
from tests.integration.api_service.test_admin_command import in_a_process, told
from tests.servers import Database

PATH = "/api/v1/endpoints"
OLD = parse_named_key(SECRETS_KEYS, low=32, high=32)
NEW = NamedKey("k2", bytes(range(50, 82)))
BOTH = Keyring([NEW, OLD])
NEW_FIRST = f"k2:{base64.b64encode(NEW.key).decode()},{SECRETS_KEYS}"
Run = Callable[..., Result]
Opened = dict[tuple[str, str], bytes]


@pytest.fixture
def run(database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run the command as the owner of the database; it succeeds unless another exit code is expected."""
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str, exits: int = 0, keys: str = NEW_FIRST) -> Result:
        environ = {"DATABASE_URL": database.dsn, "SECRETS_KEYS": keys}
        result = CliRunner().invoke(cli, ["rotate-secrets", *arguments], env=environ)
        assert result.exit_code == exits, result.output
        return result

    return invoke


@pytest.fixture
def stored(client: FlaskClient, database: Database) -> Opened:
    """Seven endpoints, five of them with headers, the tenant's own secret, all sealed with the old key; opened."""
    for number in range(7):
        headers = {"Authorization": f"Bearer {number}"} if number < 5 else {}
        body_of(client.post(PATH, json={"url": "https://example.com/hook", "headers": headers}), 201)
    body_of(client.post("/api/v1/signing-secret/rotate"))
    return opened(database, Keyring([OLD]))


def values(database: Database) -> dict[tuple[str, str, str], bytes]:
    """What is stored, by table, row and tenant."""
    query = """
        SELECT 'endpoints', id::text, tenant_id, sealed_headers FROM endpoints WHERE sealed_headers IS NOT NULL
        UNION ALL SELECT 'signing_secrets', id::text, tenant_id, sealed FROM signing_secrets
    """
    with database.connect() as conn:
        return {(table, id_, tenant): bytes(value) for table, id_, tenant, value in conn.execute(query)}


def opened(database: Database, ring: Keyring) -> Opened:
    """What is stored, opened as delivery opens it. Raises SecretError where a ring does not do."""
    return {
        (table, id_): ring.open(value, table=table, row_id=id_, tenant_id=tenant)
        for (table, id_, tenant), value in values(database).items()
    }


def noted(database: Database) -> list[tuple[Any, ...]]:
    """What the audit log has of it."""
    query = """SELECT actor_kind, tenant_id, entity_id, after->>'key', (after->>'resealed')::int FROM audit_log
                WHERE action = 'secrets.resealed' ORDER BY seq"""
    with database.connect() as conn:
        return conn.execute(query).fetchall()


def test_everything_is_sealed_with_the_first_key_and_opens_to_what_it_was(
    run: Run, stored: Opened, database: Database
) -> None:
    """So that the old one can be dropped. In batches, each noted; a repeat finds nothing to do and notes nothing."""
    first = told(run("--batch", "3", "--json"))
    after = values(database)
    again = told(run("--json"))

    assert len(stored) == 13
    assert first == {"key": "k2", "resealed": {"endpoints": 5, "signing_secrets": 8}}
    assert opened(database, Keyring([NEW])) == stored
    assert again == {"key": "k2", "resealed": {"endpoints": 0, "signing_secrets": 0}}
    assert values(database) == after
    batches = [
        ("endpoints", 3),
        ("endpoints", 2),
        ("signing_secrets", 3),
        ("signing_secrets", 3),
        ("signing_secrets", 2),
    ]
    assert noted(database) == [("command", "", table, "k2", count) for table, count in batches]


def test_a_run_that_was_cut_short_is_finished_by_the_next(
    run: Run, stored: Opened, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it had done stays done and noted, the batch that was under way is as it was; both keys open all of it."""
    replace, batches = sealed.replace, []

    def cut(conn: Any, table: str, anew: Any) -> None:
        replace(conn, table, anew)
        batches.append(table)
        if len(batches) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(sealed, "replace", cut)
    run("--batch", "2", exits=1)
    monkeypatch.undo()
    half = opened(database, BOTH)
    done = sum(count for *_, count in noted(database))
    finished = told(run("--json"))["resealed"]

    assert (half, done) == (stored, 4)
    assert finished == {"endpoints": 1, "signing_secrets": 8}
    assert opened(database, Keyring([NEW])) == stored


def test_what_is_changed_meanwhile_is_taken_as_it_was_left(
    client: FlaskClient, stored: Opened, database: Database
) -> None:
    """A row in use is waited for, not waited on: the others are done at once, and a change is never undone."""
    one = next(id_ for table, id_ in stored if table == "endpoints")
    newer = Keyring([OLD]).seal(b'{"X-A":"newer"}', table="endpoints", row_id=one, tenant_id="default")
    with database.connect() as using, database.connect(autocommit=True) as conn:
        using.execute("UPDATE endpoints SET sealed_headers = %s WHERE id = %s", (newer, one))
        ends = threading.Timer(1.0, using.commit)
        ends.start()
        done = reseal(conn, BOTH, "endpoints", batch_rows=2, patience_s=30)
        ends.join()

    assert (done.count, done.unopened, done.left) == (5, {}, 0)
    assert opened(database, BOTH) == stored | {("endpoints", one): b'{"X-A":"newer"}'}
    assert client.get(f"{PATH}/ep_{one.replace('-', '')}").status_code == 200


def test_a_row_that_stays_in_use_is_said_to_be_left(
    run: Run, stored: Opened, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while, with exit 1; the old key is still needed."""
    monkeypatch.setattr(rotating, "PATIENCE_S", 0.5)
    with database.connect() as using:
        using.execute("SELECT FROM endpoints ORDER BY id LIMIT 1 FOR UPDATE")
        refused = run(exits=1)

    assert refused.stderr.startswith("notify-admin: left as they were: 1 of endpoints;")
    assert opened(database, BOTH) == stored


def test_what_does_not_open_is_named_and_left_and_all_else_is_done(
    run: Run, stored: Opened, database: Database
) -> None:
    """Sealed with a key that is gone, or for another row; nothing of a secret is told."""
    gone = Keyring([NamedKey("k0", bytes(range(90, 122)))])
    [lost, moved, *_] = [id_ for table, id_ in stored if table == "signing_secrets"]
    foreign = gone.seal(b"hush-7c1e", table="signing_secrets", row_id=lost, tenant_id="default")
    with database.connect(autocommit=True) as conn:
        conn.execute("UPDATE signing_secrets SET sealed = %s WHERE id = %s", (foreign, lost))
        conn.execute(
            """UPDATE signing_secrets SET sealed = (SELECT s.sealed FROM signing_secrets s
                WHERE s.id <> ALL(%(two)s::uuid[]) LIMIT 1) WHERE id = %(moved)s""",
            {"two": [lost, moved], "moved": moved},
        )

    refused = run(exits=1)

    assert "left as they were: 2 of signing_secrets" in refused.stderr
    assert f"signing_secrets {lost}: a secret of signing_secrets was sealed with the key 'k0'" in refused.stderr
    assert f"signing_secrets {moved}: a secret of signing_secrets does not open" in refused.stderr
    assert "hush" not in refused.output
    heads = [value.startswith(BOTH.head) for (_, id_, _), value in values(database).items() if id_ not in (lost, moved)]
    assert heads == [True] * 11


def test_two_at_once_share_the_work(stored: Opened, database: Database) -> None:
    """Neither waits for the other, and nothing is done twice."""
    counts: list[int] = []

    def one() -> None:
        with database.connect(autocommit=True) as conn:
            counts.extend(reseal(conn, BOTH, table, batch_rows=1, patience_s=30).count for table in sealed.TABLES)

    both = [threading.Thread(target=one) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()

    assert sum(counts) == 13 == sum(count for *_, count in noted(database))
    assert opened(database, Keyring([NEW])) == stored


def test_the_services_go_on_with_both_keys(client: FlaskClient, run: Run, database: Database) -> None:
    """What an API with the older ring seals afterwards is there for another run, and opens meanwhile."""
    run()
    later = body_of(client.post(PATH, json={"url": "https://example.com/later", "headers": {"X-A": "1"}}), 201)["id"]

    assert orjson.loads(opened(database, BOTH)["endpoints", str(endpoint_id(later))]) == {"X-A": "1"}
    assert told(run("--json"))["resealed"] == {"endpoints": 1, "signing_secrets": 1}


def test_without_a_key_or_the_owners_rights_nothing_is_done(
    run: Run, stored: Opened, database: Database, tmp_path: Path
) -> None:
    """A role that sees some tenants' rows, or none, must not say that nothing is left to do."""
    before = values(database)

    assert "SECRETS_KEYS is not set" in run(exits=1, keys="").stderr
    environ = {"DATABASE_URL": database.dsn_of("api_service"), "SECRETS_KEYS": NEW_FIRST}
    refused = in_a_process(tmp_path, "rotate-secrets", **environ)
    assert (refused.returncode, "use the owner's" in refused.stderr) == (2, True)
    assert values(database) == before
