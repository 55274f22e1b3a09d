"""Endpoints and signing secrets as whoever delivers needs them: many at once, still sealed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg import Connection


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint, deleted ones too."""

    id: UUID
    tenant_id: str
    url: str
    sealed_headers: bytes | None
    rate_per_s: float | None
    timeout_s: float | None
    deleted: bool


@dataclass(frozen=True, slots=True)
class Secret:
    """One secret that signs at present: an endpoint's, or, `endpoint_id` None, its tenant's for plain URLs."""

    id: UUID
    tenant_id: str
    endpoint_id: UUID | None
    sealed: bytes
    expires_in_s: float | None


@dataclass(frozen=True, slots=True)
class Found:
    """What there is; of each owner the newest secret first."""

    endpoints: list[Endpoint]
    secrets: list[Secret]


def find(conn: Connection[Any], endpoint_ids: Sequence[UUID], tenant_ids: Sequence[str]) -> Found:
    """Return these endpoints with their secrets, and the secrets that these tenants have for plain URLs.

    One statement. What does not exist is left out.
    """
    query = """
        SELECT 'endpoint', id, tenant_id, NULL::uuid, url, sealed_headers, rate_per_s, timeout_s,
               deleted_at IS NOT NULL, NULL::timestamptz
          FROM endpoints WHERE id = ANY(%(endpoints)s::uuid[])
         UNION ALL
        SELECT 'secret', id, tenant_id, endpoint_id, NULL, sealed, extract(epoch FROM expires_at - now())::float8, NULL,
               NULL, created_at
          FROM signing_secrets
         WHERE (endpoint_id = ANY(%(endpoints)s::uuid[])
                OR endpoint_id IS NULL AND tenant_id = ANY(%(tenants)s::text[]))
           AND (expires_at IS NULL OR expires_at > now())
         ORDER BY 10 DESC NULLS LAST, 2
    """
    parameters = {"endpoints": "{" + ",".join(map(str, endpoint_ids)) + "}", "tenants": list(tenant_ids)}
    found = Found([], [])
    for kind, id_, tenant_id, endpoint_id, url, sealed, number, timeout_s, deleted, _ in conn.execute(
        query, parameters
    ):
        if kind == "endpoint":
            found.endpoints.append(Endpoint(id_, tenant_id, url, sealed, number, timeout_s, deleted))
        else:
            found.secrets.append(Secret(id_, tenant_id, endpoint_id, sealed, number))
    return found
