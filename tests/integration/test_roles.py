"""What the role of each service may do, read from the catalogue: the grants it uses, and no others."""

from typing import Any

import psycopg
import pytest

Conn = psycopg.Connection[Any]
MOVES = "UPDATE(attempt,status,updated_at)"
ORDER = {"ordering_queue": "DELETE INSERT SELECT UPDATE", "ordering_turns": "DELETE INSERT SELECT UPDATE"}

GRANTED: dict[str, dict[str, str]] = {
    "notify_api": {
        "notifications": f"INSERT SELECT {MOVES}",
        "outbox": "INSERT",
        "outbox_due": "INSERT SELECT",
        "idempotency_keys": "INSERT SELECT",
        "dlq_actions": "INSERT SELECT",
        "tenants": "SELECT",
        "delivery_attempts": "SELECT",
        "outbox_held": "SELECT",
        "delivery_consumers": "SELECT",
        "destination_reports": "SELECT",
        "audit_log": "SELECT",
        "dlq_messages": "SELECT UPDATE"
        "(resolution,resolution_note,resolved_at,resolved_by,rest_reason,retry_at,retry_count,status)",
        "dlq_retries": "INSERT SELECT UPDATE(ended_by,ended_note,finished_at,status)",
        "suppressions": "INSERT SELECT UPDATE(created_at,created_by,detail,lifted_at,lifted_by,notification_id,reason)",
        "api_keys": "INSERT SELECT UPDATE"
        "(previous_expires_at,previous_secret_sha256,revoked_at,revoked_by,secret_sha256)",
        "users": "INSERT SELECT UPDATE(disabled_at,last_login_at,password_hash,role,token_version,updated_at)",
        "endpoints": "INSERT SELECT UPDATE"
        "(deleted_at,description,header_names,rate_per_s,sealed_headers,timeout_s,updated_at,url)",
        "signing_secrets": "DELETE INSERT SELECT UPDATE(expires_at)",
        "sender_domains": "DELETE INSERT SELECT UPDATE(verified_at)",
        **ORDER,
    },
    "notify_relay": {
        "notifications": f"DELETE SELECT {MOVES}",
        "outbox": "DELETE INSERT SELECT",
        "outbox_dead": "DELETE INSERT SELECT",
        "outbox_due": "DELETE SELECT UPDATE",
        "outbox_held": "DELETE SELECT UPDATE",
        "idempotency_keys": "DELETE SELECT UPDATE",
        "delivery_attempts": "DELETE SELECT UPDATE",
        "dlq_messages": "DELETE INSERT SELECT UPDATE",
        "dlq_actions": "DELETE SELECT",
        "dlq_retries": "SELECT",
        "suppressions": "SELECT UPDATE(lifted_at,lifted_by)",
        "endpoints": "SELECT(deleted_at,id,tenant_id)",
        "audit_marks": "DELETE INSERT SELECT UPDATE",
        "audit_books": "DELETE INSERT SELECT UPDATE",
        "audit_open": "DELETE INSERT SELECT UPDATE",
        "audit_log": "SELECT",
        "audit_head": "SELECT",
        **ORDER,
    },
    "notify_delivery": {
        "notifications": f"SELECT {MOVES}",
        "outbox": "INSERT",
        "outbox_due": "INSERT SELECT",
        "outbox_held": "INSERT",
        "delivery_attempts": "DELETE INSERT SELECT UPDATE",
        "delivery_consumers": "DELETE INSERT SELECT UPDATE",
        "destination_reports": "DELETE INSERT SELECT UPDATE",
        "suppressions": "INSERT SELECT UPDATE",
        "dlq_messages": "SELECT UPDATE",
        "endpoints": "SELECT",
        "signing_secrets": "SELECT",
        **ORDER,
    },
    "notify_dlq": {
        "notifications": f"SELECT {MOVES}",
        "outbox": "INSERT",
        "dlq_messages": "INSERT SELECT UPDATE",
        "dlq_actions": "INSERT SELECT UPDATE",
        "dlq_retries": "SELECT UPDATE",
    },
}
_TABLE_GRANTS = """
    SELECT c.relname, string_agg(a.privilege_type, ' ' ORDER BY a.privilege_type)
      FROM pg_class c, aclexplode(c.relacl) a
     WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v') AND a.grantee = %s::regrole GROUP BY 1
"""
_COLUMN_GRANTS = """
    SELECT c.relname, a.privilege_type || '(' || string_agg(t.attname, ',' ORDER BY t.attname) || ')'
      FROM pg_class c JOIN pg_attribute t ON t.attrelid = c.oid, aclexplode(t.attacl) a
     WHERE c.relnamespace = 'public'::regnamespace AND a.grantee = %s::regrole GROUP BY 1, a.privilege_type
"""


@pytest.mark.parametrize("role", GRANTED)
def test_a_role_has_the_grants_that_its_service_uses(conn: Conn, role: str) -> None:
    """The suites of the services run under these roles, so that one too few is noticed there."""
    found = {name: words.split() for name, words in conn.execute(_TABLE_GRANTS, (role,))}
    for name, words in conn.execute(_COLUMN_GRANTS, (role,)):
        found.setdefault(name, []).append(words)

    assert {name: " ".join(sorted(words)) for name, words in found.items()} == GRANTED[role]


@pytest.mark.parametrize("role", GRANTED)
def test_a_role_owns_nothing_and_is_above_nobody(conn: Conn, role: str) -> None:
    """Row-level security binds it, and it can make nothing of its own."""
    attributes = conn.execute(
        "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls FROM pg_roles WHERE rolname = %s",
        (role,),
    ).fetchone()
    owned = conn.execute("SELECT count(*) FROM pg_class WHERE relowner = %s::regrole", (role,)).fetchone()
    may_create = conn.execute("SELECT has_schema_privilege(%s, 'public', 'CREATE')", (role,)).fetchone()

    assert (attributes, owned, may_create) == ((False,) * 5, (0,), (False,))


def test_nobody_else_was_granted_anything(conn: Conn) -> None:
    """Neither PUBLIC nor a role that is not named here."""
    query = """
        SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'public' ELSE a.grantee::regrole::text END
          FROM pg_class c, aclexplode(c.relacl) a
         WHERE c.relnamespace = 'public'::regnamespace AND a.grantee <> c.relowner
    """

    assert {name for (name,) in conn.execute(query)} == set(GRANTED)


def test_only_the_api_may_write_to_the_audit_log_and_by_its_function_alone(conn: Conn) -> None:
    """No service may change or delete what it says, nor hide it."""
    query = "SELECT has_function_privilege(%s, 'audit_append'::regproc, 'EXECUTE')"

    may = {role: conn.execute(query, (role,)).fetchone() for role in GRANTED}

    assert [role for role, found in may.items() if found == (True,)] == ["notify_api"]
    assert {GRANTED[role].get("audit_log", "") for role in GRANTED} <= {"", "SELECT"}


def test_functions_that_see_all_tenants_are_for_the_api_alone(conn: Conn) -> None:
    """They run as the owner of the tables; PUBLIC may call any function that nobody has taken from it."""
    query = """
        SELECT p.proname, r.rolname FROM pg_proc p CROSS JOIN pg_roles r
         WHERE p.prosecdef AND p.pronamespace = 'public'::regnamespace AND r.rolname = ANY(%s)
           AND has_function_privilege(r.rolname, p.oid, 'EXECUTE')
    """

    may = conn.execute(query, ([*GRANTED, "pg_monitor"],)).fetchall()

    assert {role for _, role in may} == {"notify_api"}
    assert {name for name, _ in may} >= {
        "audit_append",
        "find_api_key",
        "touch_api_keys",
        "find_user",
        "find_signed_in",
    }
