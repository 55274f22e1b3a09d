"""Row-level security: the API's role sees the rows of the tenant that its transaction names, and no others."""

import functools
from collections.abc import Callable, Iterator
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg_pool import ConnectionPool

from shared import db
from shared.db import accepting, idempotency_keys, notification_lists, notifications
from shared.db.accepting import NewNotification, StoredAnswer
from shared.db.tenancy import as_tenant
from tests.integration.shared.conftest import Conn
from tests.servers import Database

New = Callable[..., NewNotification]
OF_NO_TENANT = {
    "outbox",  # the API may write to it alone
    "outbox_dead",
    "audit_head",
    "audit_books",
    "audit_marks",
    "audit_open",
    "delivery_consumers",  # processes of the installation
}


@pytest.fixture
def api(database: Database) -> Iterator[Conn]:
    """A connection of the API's role."""
    connection = db.connect(database.dsn_of("api_service"), application_name="test_api")
    yield connection
    connection.close()


def ids(conn: Conn, tenant_id: str) -> list[UUID]:
    """The notifications a tenant sees."""
    query = "SELECT id FROM notifications ORDER BY id"
    return as_tenant(conn, work=lambda c: [row[0] for row in c.execute(query)], tenant_id=tenant_id)


def test_each_table_of_tenants_has_row_level_security(conn: Conn) -> None:
    """A table is of a tenant unless it is named above; each has the policy of the API and that of the others."""
    query = """
        SELECT c.relname, c.relrowsecurity, ARRAY(SELECT polname::text FROM pg_policy WHERE polrelid = c.oid ORDER BY 1)
          FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
    """

    found = {name: (secured, policies) for name, secured, policies in conn.execute(query)}

    assert {name for name, (secured, _) in found.items() if not secured} == OF_NO_TENANT
    assert {tuple(policies) for secured, policies in found.values() if secured} == {("all_tenants", "own_tenant")}


def test_row_32_without_a_tenant_nothing_is_seen(conn: Conn, api: Conn, new: New) -> None:
    """Whatever the table: a query that forgot to say for whom it asks finds nothing."""
    accepting.insert(conn, new())
    query = "SELECT table_name FROM information_schema.role_table_grants WHERE grantee = %s AND privilege_type = %s"
    readable = [name for (name,) in conn.execute(query, ("notify_api", "SELECT"))]

    seen = {name: api.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(name))).fetchall() for name in readable}

    assert "notifications" in seen
    assert {name for name, found in seen.items() if found} == set()


def test_accepting_says_for_whom_in_its_one_statement(api: Conn, new: New) -> None:
    """Each tenant sees its own, single and many alike."""
    one, many = new(tenant_id="acme"), [new(tenant_id="globex"), new(tenant_id="globex")]

    accepting.insert(api, one)
    accepting.insert_many(api, many)

    assert ids(api, "acme") == [one.id]
    assert ids(api, "globex") == [each.id for each in many]
    assert ids(api, "nobody") == []


@pytest.mark.parametrize("tenant_id", ["globex", ""])
def test_a_row_of_another_tenant_cannot_be_written(api: Conn, tenant_id: str) -> None:
    """Even by a statement that names it: what the transaction says counts."""
    statement = """
        INSERT INTO suppressions (tenant_id, channel, recipient, reason, created_by)
        VALUES (%s, 'email', 'a@example.com', 'manual', 'ann')
    """

    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
        as_tenant(api, work=lambda conn: conn.execute(statement, (tenant_id,)), tenant_id="acme")


def test_accepting_for_nobody_is_refused(api: Conn, new: New) -> None:
    """An empty tenant is none."""
    for write in (accepting.insert, lambda conn, one: accepting.insert_many(conn, [one, new(tenant_id="")])):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
            write(api, new(tenant_id=""))


def test_what_another_tenant_has_can_be_neither_changed_nor_found(conn: Conn, api: Conn, new: New) -> None:
    """Without the tenant in the query as well: the database alone holds it."""
    theirs = new(tenant_id="globex")
    accepting.insert(conn, theirs)
    change = "UPDATE notifications SET status = 'cancelled' WHERE id = %s"

    changed = as_tenant(api, work=lambda c: c.execute(change, (theirs.id,)).rowcount, tenant_id="acme")
    found = as_tenant(api, work=lambda c: notification_lists.find(c, theirs.id, tenant_id="globex"), tenant_id="acme")

    assert (changed, found) == (0, None)
    assert as_tenant(api, work=lambda c: notifications.cancel(c, theirs.id, tenant_id="globex"), tenant_id="globex")


def test_row_30_two_tenants_may_use_one_idempotency_key(api: Conn, new: New) -> None:
    """Each gets a notification and an answer of its own."""
    kept = {
        tenant: StoredAnswer(tenant, "order-1", bytes(32), 202, tenant.encode(), None) for tenant in ("acme", "globex")
    }

    for tenant, answer in kept.items():
        assert accepting.insert_many(api, [new(tenant_id=tenant)], answer)
        assert not accepting.insert_many(api, [new(tenant_id=tenant)], answer)

    for tenant, answer in kept.items():
        find = functools.partial(idempotency_keys.find, key="order-1", tenant_id=tenant)
        assert as_tenant(api, work=find, tenant_id=tenant) == answer


def test_row_32_a_pooled_connection_carries_no_tenant_to_the_next(database: Database, new: New) -> None:
    """Neither after work that ended well, nor after an error in the middle of it."""
    pool = ConnectionPool(database.dsn_of("api_service"), min_size=1, max_size=1, kwargs={"autocommit": True})
    named = "SELECT coalesce(current_setting('notify.tenant', true), '')"
    with pool:
        with pool.connection() as conn:
            accepting.insert(conn, new(tenant_id="acme"))
            after_accept = conn.execute(named).fetchone()
            as_tenant(conn, work=lambda c: c.execute("SELECT 1"), tenant_id="acme")
            after_work = conn.execute(named).fetchone()
            with pytest.raises(psycopg.errors.DivisionByZero):
                as_tenant(conn, work=lambda c: c.execute("SELECT 1 / 0"), tenant_id="acme")
        with pool.connection() as conn:
            after_error = conn.execute(named).fetchone()
            seen = conn.execute("SELECT count(*) FROM notifications").fetchone()

    assert (after_accept, after_work, after_error, seen) == (("",), ("",), ("",), (0,))


def test_dead_letters_actions_and_what_is_held_follow_their_notification(conn: Conn, api: Conn, new: New) -> None:
    """Tables without a tenant of their own are seen by that of the row they belong to."""
    one = new(tenant_id="acme")
    accepting.insert(conn, one)
    conn.execute("INSERT INTO outbox_held (notification_id, suppression_id) VALUES (%s, %s)", (one.id, uuid4()))
    letter = conn.execute(
        "INSERT INTO dlq_messages (tenant_id, failure_class, reason, fingerprint, first_error, error_message)"
        " VALUES ('acme', 'poison', 'r', 'f', 'e', 'e') RETURNING id"
    ).fetchone()
    conn.execute("INSERT INTO dlq_actions (dead_letter_id, action, by) VALUES (%s, 'discarded', 'ann')", letter)
    query = "SELECT (SELECT count(*) FROM outbox_held), (SELECT count(*) FROM dlq_actions)"

    seen = [as_tenant(api, work=lambda c: c.execute(query).fetchone(), tenant_id=of) for of in ("acme", "globex")]

    assert seen == [(1, 1), (0, 0)]
