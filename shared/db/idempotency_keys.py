"""The idempotency_keys table: stored answers. Keys are written with what they accept, see accepting.insert_many."""

from typing import Any

from psycopg import Connection, errors
from psycopg.rows import class_row

from shared.db.accepting import StoredAnswer


def find(conn: Connection[Any], key: str, *, tenant_id: str) -> StoredAnswer | None:
    """Return the stored answer of a tenant's key, None where there is none (or no longer)."""
    query = """
        SELECT tenant_id, key, request_sha256, response_status AS status, response_body AS body, response_path AS path
          FROM idempotency_keys WHERE tenant_id = %(tenant_id)s AND key = %(key)s
    """
    parameters = {"tenant_id": tenant_id, "key": key}
    return conn.cursor(row_factory=class_row(StoredAnswer)).execute(query, parameters).fetchone()


def is_being_written(error: errors.LockNotAvailable) -> bool:
    """Say whether what insert_many waited for in vain is another transaction that writes the same key.

    PostgreSQL then names the table whose index entry it was about to make; a wait for any other lock, such as that of
    a whole table, has another context or none.
    """
    return '"idempotency_keys"' in (error.diag.context or "")


def prune(conn: Connection[Any], *, older_than_s: float, limit: int) -> int:
    """Forget up to `limit` keys older than `older_than_s`; return how many."""
    query = """
        DELETE FROM idempotency_keys WHERE (tenant_id, key) IN (
            SELECT tenant_id, key FROM idempotency_keys
             WHERE created_at < now() - %(older_than_s)s * interval '1 second'
             ORDER BY created_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
    """
    return conn.execute(query, {"older_than_s": older_than_s, "limit": limit}).rowcount
