"""`notify-admin`: tenants, keys and people from the command line, by the owner of the database."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from click.testing import CliRunner, Result
from flask.testing import FlaskClient

from api_service.admin.__main__ import cli
from infra.local.ports import free_port
from shared.key_rings import parse_named_key
from shared.secrets import Keyring
from tests.integration.api_service.conftest import METRICS_TOKEN, SECRETS_KEYS
from tests.integration.api_service.test_signing_in import PASSWORD, bearer, sign_in
from tests.servers import Database

ROOT = Path(__file__).resolve().parents[3]
PATH = "/api/v1/notifications"
Run = Callable[..., Result]


@pytest.fixture
def run(database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run the command as the owner of the database; it succeeds unless another exit code is expected."""
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str, exits: int = 0, stdin: str | None = None) -> Result:
        result = CliRunner().invoke(cli, arguments, input=stdin, env={"DATABASE_URL": database.dsn})
        assert result.exit_code == exits, result.output
        return result

    return invoke


def told(result: Result) -> Any:
    """What it says in JSON."""
    return json.loads(result.stdout)


def test_a_tenant_and_a_key_of_its_own_in_one_command(run: Run, closed: FlaskClient) -> None:
    """The key is the first line of what is printed, or a member of the JSON; it opens what its scopes say."""
    text = run("create-tenant", "acme", "--name", "Acme", "--key", "first").stdout
    key = text.splitlines()[2]
    assert "whsec_" not in text  # without SECRETS_KEYS
    operator = told(run("create-tenant", "us", "--operator", "--key", "first", "--json"))

    assert text.startswith("Tenant acme created.\n\nnk_live_")
    me = closed.get("/auth/me", headers={"Authorization": f"Bearer {key}"}).json
    assert (me["tenant_id"], me["scopes"], me["name"]) == ("acme", ["send", "read", "admin"], "first")  # type: ignore[index]
    assert closed.get("/metrics", headers={"X-API-Key": operator["api_key"]["key"]}).status_code == 200
    assert (operator["id"], operator["is_operator"]) == ("us", True)


def test_a_tenant_has_a_signing_secret_of_its_own(
    run: Run, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shown once, sealed in the table; a second time nothing is made, and it can be done without."""
    monkeypatch.setenv("SECRETS_KEYS", SECRETS_KEYS)
    ring = Keyring([parse_named_key(SECRETS_KEYS, low=32, high=32)])

    shown = told(run("create-tenant", "acme", "--json"))["signing_secret"]
    again = told(run("create-tenant", "acme", "--if-missing", "--json"))
    without = told(run("create-tenant", "other", "--no-signing-secret", "--json"))

    assert "whsec_" in run("create-tenant", "third").stdout
    assert "signing_secret" not in again | without
    with database.connect() as conn:
        query = "SELECT id::text, sealed FROM signing_secrets WHERE tenant_id = 'acme' AND endpoint_id IS NULL"
        [(id_, sealed)] = conn.execute(query).fetchall()
    opened = ring.open(bytes(sealed), table="signing_secrets", row_id=id_, tenant_id="acme")
    assert shown == "whsec_" + base64.b64encode(opened).decode()


def test_what_there_is_already_is_an_error_unless_that_is_asked_for(run: Run) -> None:
    """So that scripts can be run twice."""
    first = told(run("create-tenant", "acme", "--json"))
    refused = run("create-tenant", "acme", exits=1)
    again = told(run("create-tenant", "acme", "--if-missing", "--name", "another", "--json"))

    assert refused.stderr == "notify-admin: there is a tenant acme already\n"
    assert again == first


def test_keys_are_made_rotated_revoked_and_listed(run: Run, closed: FlaskClient) -> None:
    """With the scopes, the expiry and the limits that are given; send and read by default."""
    default = told(run("create-key", "--tenant", "shop", "--name", "till", "--json"))
    chosen = told(
        run(
            *("create-key", "--tenant", "shop", "--name", "ops", "--scope", "admin", "--scope", "read"),
            *("--expires-in", "90d", "--limits", "500/second;1000000/day", "--json"),
        )
    )
    assert (default["scopes"], default["expires_at"]) == (["send", "read"], None)
    assert (chosen["scopes"], chosen["limits"]) == (["read", "admin"], "500/second;1000000/day")
    assert chosen["expires_at"] is not None

    rotated = told(run("rotate-key", default["id"], "--overlap", "1m", "--json"))
    for one in (default, rotated):
        assert closed.get(PATH, headers={"X-API-Key": one["key"]}).status_code == 200
    revoked = told(run("revoke-key", chosen["starts_with"], "--json"))
    assert revoked["revoked_by"] == "notify-admin"
    assert closed.get(PATH, headers={"X-API-Key": chosen["key"]}).status_code == 401
    run("rotate-key", chosen["id"], exits=1)
    listed = told(run("list", "keys", "--json"))["data"]
    assert [(one["tenant_id"], one["name"]) for one in listed] == [("shop", "ops"), ("shop", "till")]
    assert default["key"].rpartition("_")[2] not in run("list", "keys").stdout + json.dumps(listed)


def test_a_tenant_is_suspended_and_resumed(run: Run, closed: FlaskClient) -> None:
    """And has a quota."""
    key = told(run("create-key", "--tenant", "shop", "--name", "till", "--json"))["key"]
    run("suspend", "shop")
    assert closed.get(PATH, headers={"X-API-Key": key}).status_code == 403
    assert told(run("list", "tenants", "--tenant", "shop", "--json"))["data"][0]["suspended_at"] is not None

    assert told(run("resume", "shop", "--json"))["suspended_at"] is None
    assert told(run("set-quota", "shop", "5000", "--json"))["daily_quota"] == 5000
    assert told(run("set-quota", "shop", "none", "--json"))["daily_quota"] is None
    assert run("set-quota", "shop", "5000").stdout == "Tenant shop may send at most 5,000 notifications a day.\n"
    assert run("set-quota", "shop", "none").stdout == "Tenant shop may send any number of notifications a day.\n"
    for bad in ("0", "-1", "many", "1e9", "99999999999"):
        run("set-quota", "shop", "--", bad, exits=2)


def test_the_first_administrator_signs_in(run: Run, closed: FlaskClient, tmp_path: Path) -> None:
    """With a password from stdin or from a file, never from an argument; another one ends what was signed in before."""
    admin = ("create-admin", "--tenant", "shop", "--email", "Ada@Example.com", "--name", "Ada")
    run(*admin, "--password-file", "-", stdin=f"{PASSWORD}\n")
    headers = bearer(closed)
    assert closed.get("/api/v1/users", headers=headers).status_code == 200

    refused = run(*admin, "--password-file", "-", stdin=f"{PASSWORD}\n", exits=1)
    assert "somebody has the address ada@example.com already" in refused.stderr
    run(*admin, exits=2)  # there is no terminal
    weak = run("set-password", "ada@example.com", "--password-file", "-", stdin="password1234\n", exits=1)
    assert "password1234" not in weak.output
    (tmp_path / "secret").write_text("seven herons on the pier\nand more\n")
    run("set-password", "ada@example.com", "--password-file", str(tmp_path / "secret"))
    assert sign_in(closed).status_code == 401
    assert closed.get("/auth/me", headers=bearer(closed, password="seven herons on the pier")).status_code == 200


def test_people_are_shut_out_and_let_in(run: Run, closed: FlaskClient) -> None:
    """By their address."""
    user = ("create-user", "--tenant", "shop", "--email", "bob@example.com", "--name", "Bob", "--password-file", "-")
    assert told(run(*user, "--json", stdin=PASSWORD))["role"] == "user"
    assert sign_in(closed, "bob@example.com").status_code == 200
    run("disable-user", "bob@example.com")
    assert sign_in(closed, "bob@example.com").status_code == 403
    run("enable-user", "BOB@example.com")
    assert sign_in(closed, "bob@example.com").status_code == 200
    assert "bob@example.com" in run("list", "users").stdout
    run("disable-user", "nobody@example.com", exits=1)


def test_what_a_command_changes_is_noted(run: Run, database: Database) -> None:
    """Under the name of the system's user, with what it was before; a repeat changes nothing, and is not noted."""
    key = told(run("create-tenant", "acme", "--key", "first", "--json"))["api_key"]["id"]
    user = ("create-user", "--tenant", "acme", "--email", "bob@example.com", "--name", "Bob", "--password-file", "-")
    run(*user, stdin=PASSWORD)
    run("rotate-key", key)
    for _ in range(2):
        run("set-quota", "acme", "5000")
        run("suspend", "acme")
        run("resume", "acme")
        run("disable-user", "bob@example.com")
        run("revoke-key", key)

    with database.connect() as conn:
        query = "SELECT action, tenant_id, before, after FROM audit_log ORDER BY seq"
        noted = [(action, tenant_id, before, after) for action, tenant_id, before, after in conn.execute(query)]
        whose = conn.execute("SELECT DISTINCT actor_kind, actor_name FROM audit_log").fetchall()
    suspensions = [
        ("tenant.suspended", "", {"suspended": False}, {"suspended": True}),
        ("tenant.resumed", "", {"suspended": True}, {"suspended": False}),
    ]
    assert [(action, tenant_id) for action, tenant_id, *_ in noted[:4]] == [
        ("tenant.created", ""), ("api_key.created", "acme"), ("user.created", "acme"), ("api_key.rotated", "acme"),
    ]  # fmt: skip
    assert noted[4:] == [
        ("tenant.quota_set", "", {"daily_quota": None}, {"daily_quota": 5000}),
        *suspensions,
        ("user.disabled", "acme", {"disabled": False}, {"disabled": True}),
        ("api_key.revoked", "acme", {"revoked": False}, {"revoked": True}),
        *suspensions,
    ]
    assert whose == [("command", "notify-admin")]


def hashed(password: str) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


@pytest.mark.parametrize("form", ["lines", "csv"])
def test_people_are_imported_with_their_hashes(run: Run, closed: FlaskClient, tmp_path: Path, form: str) -> None:
    """From JSON lines or CSV; who is known already stays as they are; they sign in with the password they had."""
    people = [
        {"email": "Ada@example.com", "name": "Ada", "password_hash": hashed(PASSWORD), "role": "admin"},
        {"email": "bob@example.com", "name": "Bob", "password_hash": hashed("short")},
    ]
    file = tmp_path / "people"
    if form == "lines":
        file.write_text("".join(json.dumps(one) + "\n" for one in people))
    else:
        rows = [[one["email"], one["name"], one["password_hash"], one.get("role", "")] for one in people]
        file.write_text("email,name,password_hash,role\n" + "".join(",".join(row) + "\n" for row in rows))

    first = told(run("import-users", str(file), "--tenant", "shop", "--json"))
    again = told(run("import-users", str(file), "--tenant", "bank", "--json"))

    assert (first, again) == ({"imported": 2, "known_already": 0}, {"imported": 0, "known_already": 2})
    assert closed.get("/api/v1/users", headers=bearer(closed)).status_code == 200
    assert sign_in(closed, "bob@example.com", "short").status_code == 200  # it was theirs, short as it is


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ({"password_hash": "plain text"}, "line 2: its password_hash is no bcrypt hash"),
        ({"password_hash": "$2b$31$" + "a" * 53}, "line 2: its password_hash is no bcrypt hash"),
        ({"email": "nobody"}, "line 2: not exactly one e-mail address"),
        ({"role": "root"}, "line 2: its role is neither user nor admin"),
        ({"name": ""}, "line 2: 1 to 100 printable characters"),
        ({"tenant_id": "bank"}, "line 2: not email, name, password_hash and role"),
        ({"email": "ada@example.com"}, "line 2: its address was in a line before"),
    ],
)
def test_an_import_with_a_fault_imports_nobody(
    run: Run, database: Database, closed: FlaskClient, tmp_path: Path, *, line: dict[str, str], fault: str
) -> None:
    """And names the line, without quoting it."""
    good = {"email": "ada@example.com", "name": "Ada", "password_hash": hashed(PASSWORD)}
    bad = {"email": "bob@example.com", "name": "Bob", "password_hash": hashed(PASSWORD)} | line
    (tmp_path / "people").write_text(f"{json.dumps(good)}\n{json.dumps(bad)}\n")

    refused = run("import-users", str(tmp_path / "people"), "--tenant", "shop", exits=1)

    assert f"nothing is imported, 1 fault:\n  {fault}" in refused.stderr
    assert good["password_hash"] not in refused.output
    with database.connect() as conn:
        assert conn.execute("SELECT count(*) FROM users").fetchone() == (0,)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["create-key", "--tenant", "nobody", "--name", "x"], 1),
        (["suspend", "nobody"], 1),
        *((["list", what, "--tenant", "nobody"], 1) for what in ("tenants", "keys", "users")),
        (["revoke-key", "0" * 16], 1),
        (["create-tenant", "No Tenant"], 2),
        (["revoke-key", "nonsense"], 2),
        (["create-key", "--tenant", "shop", "--name", "x", "--scope", "root"], 2),
        (["create-key", "--tenant", "shop", "--name", "x", "--expires-in", "soon"], 2),
        (["create-key", "--tenant", "shop", "--name", "x", "--expires-in", "9999w"], 2),
        (["create-key", "--tenant", "shop", "--name", "x", "--limits", ""], 2),
        (["rotate-key", "0" * 16, "--overlap", "8d"], 2),
        (["list", "everything"], 2),
        (["nonsense"], 2),
    ],
)
def test_what_cannot_be_done_says_why(run: Run, arguments: list[str], code: int) -> None:
    """1: it was not done. 2: it was not understood."""
    assert run(*arguments, exits=code).stderr


def in_a_process(cwd: Path, *arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    kept = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "api_service.admin", *arguments]
    return subprocess.run(command, env=kept | environ, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


def test_what_is_wrong_with_the_database_is_one_sentence(tmp_path: Path, database: Database) -> None:
    """With the exit codes of notify-audit, and without the password."""
    away = in_a_process(tmp_path, "list", "tenants", DATABASE_URL=f"postgresql://u:hunter2@127.0.0.1:{free_port()}/x")
    wrong = in_a_process(tmp_path, "list", "tenants", DATABASE_URL=database.dsn.replace(database.password, "hunter2"))
    settings = in_a_process(tmp_path, "list", "tenants", DB_PORT="none")
    right = in_a_process(tmp_path, "list", "tenants", DATABASE_URL=database.dsn)

    assert [one.returncode for one in (away, wrong, settings, right)] == [3, 2, 2, 0]
    assert away.stderr == "notify-admin: PostgreSQL cannot be used: refused\n"
    assert "hunter2" not in away.stderr + wrong.stderr
    assert "Traceback" not in away.stderr + wrong.stderr + settings.stderr
    assert right.stdout.splitlines()[0].split() == ["id", "name", "is_operator", "daily_quota", "suspended_at"]


def test_a_role_that_owns_nothing_is_told_so(tmp_path: Path, database: Database) -> None:
    """The command is for the owner."""
    role = f"stranger_{database.name}"
    with database.connect(autocommit=True) as conn:
        conn.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'stranger'".encode())
    try:
        dsn = database.dsn.replace(f"postgres:{database.password}", f"{role}:stranger")
        ended = in_a_process(tmp_path, "list", "tenants", DATABASE_URL=dsn)
    finally:
        with database.connect(autocommit=True) as conn:
            conn.execute(f"DROP ROLE {role}".encode())

    assert ended.returncode == 2
    assert "its role lacks a right" in ended.stderr
    assert METRICS_TOKEN not in ended.stderr
