"""The signing_secrets table: what webhooks are signed with, an endpoint's own or the tenant's for plain URLs.

Each owner has one secret without an end, the current one. Those it had before sign too until they expire, so that
receivers have that long to take up the new one.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

MOST_SIGNING: Final = 5
"""Secrets of one owner that sign at once: each is a signature in a header of every delivery."""


class TooManySecretsError(Exception):
    """So many secrets sign already that none may join them."""


@dataclass(frozen=True, slots=True)
class SigningSecret:
    """A secret that signs, without the secret. `expires_at` None: the current one."""

    id: UUID
    created_at: datetime
    expires_at: datetime | None


def signing(conn: Connection[Any], *, tenant_id: str, endpoint_id: UUID | None) -> list[SigningSecret]:
    """Return what signs for an endpoint, or, None, for the tenant's plain URLs; the newest first."""
    query = """
        SELECT id, created_at, expires_at FROM signing_secrets
         WHERE tenant_id = %(tenant_id)s AND endpoint_id IS NOT DISTINCT FROM %(endpoint_id)s::uuid
           AND (expires_at IS NULL OR expires_at > now())
         ORDER BY created_at DESC, id DESC
    """
    parameters = {"tenant_id": tenant_id, "endpoint_id": endpoint_id}
    return conn.cursor(row_factory=class_row(SigningSecret)).execute(query, parameters).fetchall()


def rotate(
    conn: Connection[Any],
    secret_id: UUID,
    sealed: bytes,
    *,
    tenant_id: str,
    endpoint_id: UUID | None,
    overlap_s: float,
) -> list[SigningSecret]:
    """Make a secret, sealed for its id, the current one; the ones before sign until `overlap_s` from now at most.

    The first of its owner is made by this too. Returns what signs from now on, the newest first; what has expired is
    deleted. In the caller's transaction; rotations of one owner take turns. Raises TooManySecretsError, having done
    nothing.
    """
    parameters = {
        "id": secret_id,
        "tenant_id": tenant_id,
        "endpoint_id": endpoint_id,
        "sealed": sealed,
        "overlap_s": overlap_s,
    }
    conn.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended(concat_ws('/', %(tenant_id)s::text, %(endpoint_id)s::uuid), 0))",
        parameters,
    )
    if overlap_s and len(signing(conn, tenant_id=tenant_id, endpoint_id=endpoint_id)) >= MOST_SIGNING:
        raise TooManySecretsError
    conn.execute(
        """
        UPDATE signing_secrets SET expires_at = least(expires_at, now() + %(overlap_s)s * interval '1 second')
         WHERE tenant_id = %(tenant_id)s AND endpoint_id IS NOT DISTINCT FROM %(endpoint_id)s::uuid
        """,
        parameters,
    )
    conn.execute(
        """
        DELETE FROM signing_secrets
         WHERE tenant_id = %(tenant_id)s AND endpoint_id IS NOT DISTINCT FROM %(endpoint_id)s::uuid
           AND expires_at <= now()
        """,
        parameters,
    )
    conn.execute(
        """
        INSERT INTO signing_secrets (id, tenant_id, endpoint_id, sealed, created_at)
        VALUES (%(id)s, %(tenant_id)s, %(endpoint_id)s, %(sealed)s, clock_timestamp())
        """,
        parameters,
    )
    return signing(conn, tenant_id=tenant_id, endpoint_id=endpoint_id)


def delete(conn: Connection[Any], *, tenant_id: str, endpoint_id: UUID) -> None:
    """Delete all secrets of an endpoint."""
    query = "DELETE FROM signing_secrets WHERE tenant_id = %(tenant_id)s AND endpoint_id = %(endpoint_id)s"
    conn.execute(query, {"tenant_id": tenant_id, "endpoint_id": endpoint_id})
