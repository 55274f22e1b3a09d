"""Recipients nothing is sent to: added, found, listed, lifted; what was held goes on."""

from collections.abc import Callable
from uuid import UUID, uuid4

import pytest

from shared.db import accepting, suppressions
from shared.db.accepting import NewNotification
from shared.db.suppressions import Filter, Suppression
from shared.model import Channel
from tests.integration.shared.conftest import Conn

New = Callable[..., NewNotification]


def suppress(conn: Conn, recipient: str = "a@example.org", **fields: str) -> Suppression:
    """Suppress an address by hand."""
    values = {"tenant_id": "default", "by": "ann", "detail": "asked us to"} | fields
    return suppressions.add(conn, channel=Channel.EMAIL, recipient=recipient, **values)


def test_adding_again_changes_nothing_and_adding_a_lifted_one_makes_it_active(conn: Conn) -> None:
    """One row per tenant, channel and recipient, under one id."""
    first = suppress(conn)
    again = suppress(conn, by="bob")
    lifted = suppressions.lift(conn, first.id, tenant_id="default", by="cleo")
    anew = suppress(conn, by="bob")

    assert again == first
    assert (first.reason, first.created_by, first.active) == ("manual", "ann", True)
    assert lifted is not None
    assert (lifted.lifted_by, lifted.active) == ("cleo", False)
    assert (anew.id, anew.created_by, anew.active, anew.lifted_by) == (first.id, "bob", True, None)
    assert anew.created_at > first.created_at


def test_lifting_again_keeps_who_did_it_first(conn: Conn) -> None:
    """And another tenant's is out of reach."""
    one = suppress(conn)
    first = suppressions.lift(conn, one.id, tenant_id="default", by="ann")

    assert suppressions.lift(conn, one.id, tenant_id="default", by="bob") == first
    assert suppressions.lift(conn, one.id, tenant_id="another", by="bob") is None
    assert suppressions.lift(conn, uuid4(), tenant_id="default", by="bob") is None
    assert suppressions.find(conn, one.id, tenant_id="default") == first
    assert suppressions.find(conn, one.id, tenant_id="another") is None


def test_pages_follow_one_another_newest_first(conn: Conn) -> None:
    """Each row once, whatever the filter."""
    made = [suppress(conn, f"{n}@example.org") for n in range(5)]
    suppress(conn, tenant_id="another")
    suppressions.lift(conn, made[2].id, tenant_id="default", by="ann")

    seen: list[UUID] = []
    where = Filter("default")
    while page := suppressions.list_page(conn, where, limit=2):
        seen += [one.id for one in page]
        where = Filter("default", before=(page[-1].created_at, page[-1].id))

    assert seen == [one.id for one in reversed(made)]
    assert [one.id for one in suppressions.list_page(conn, Filter("default", active=False), limit=9)] == [made[2].id]
    assert len(suppressions.list_page(conn, Filter("default", recipient="1@example.org"), limit=9)) == 1
    assert suppressions.list_page(conn, Filter("default", channel=Channel.WEBHOOK), limit=9) == []


@pytest.mark.parametrize("lifted", [True, False])
def test_held_ones_go_on_once_the_suppression_is_lifted(conn: Conn, new: New, lifted: bool) -> None:
    """In the order accepted, a bounded number at a time, each with its outbox row; not before."""
    batch = [new() for _ in range(3)]
    accepting.insert_many(conn, batch)
    one = suppress(conn)
    conn.execute("DELETE FROM outbox")
    conn.execute("UPDATE notifications SET status = 'suppressed'")
    conn.execute("INSERT INTO outbox_held SELECT id, %s FROM notifications", (one.id,))
    if lifted:
        suppressions.lift(conn, one.id, tenant_id="default", by="ann")

    counts = [suppressions.resume_held(conn, limit=2) for _ in range(3)]

    assert counts == ([2, 1, 0] if lifted else [0, 0, 0])
    published = [id_ for (id_,) in conn.execute("SELECT notification_id FROM outbox ORDER BY seq").fetchall()]
    assert published == ([one.id for one in batch] if lifted else [])
    assert suppressions.held_count(conn, one.id, at_most=2) == (0 if lifted else 2)
