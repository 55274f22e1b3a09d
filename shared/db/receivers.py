"""Endpoints and signing secrets as whoever delivers needs them: many at once, still sealed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, LiteralString
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


_SECRETS: Final[LiteralString] = """
    SELECT 'secret', s.id, s.tenant_id, s.endpoint_id, NULL, s.sealed,
           extract(epoch FROM s.expires_at - now())::float8, NULL, NULL, s.created_at
"""
_SIGNS: Final[LiteralString] = "(s.expires_at IS NULL OR s.expires_at > now())"


def find(conn: Connection[Any], endpoints: Sequence[tuple[str, UUID]], tenant_ids: Sequence[str]) -> Found:
    """Return these endpoints, by tenant and id, with their secrets, and those that these tenants have for plain URLs.

    One statement, along the indexes: a tenant may have any number of endpoints. What does not exist is left out.
    """
    query = f"""
        WITH wanted AS MATERIALIZED (
            SELECT * FROM unnest(%(owners)s::text[], %(ids)s::uuid[]) AS w(tenant_id, endpoint_id)
        )
        SELECT 'endpoint', e.id, e.tenant_id, NULL::uuid, e.url, e.sealed_headers, e.rate_per_s, e.timeout_s,
               e.deleted_at IS NOT NULL, NULL::timestamptz
          FROM wanted w JOIN endpoints e ON e.id = w.endpoint_id AND e.tenant_id = w.tenant_id
         UNION ALL {_SECRETS}
          FROM wanted w JOIN signing_secrets s ON s.tenant_id = w.tenant_id AND s.endpoint_id = w.endpoint_id
         WHERE {_SIGNS}
         UNION ALL {_SECRETS}
          FROM signing_secrets s
         WHERE s.tenant_id = ANY(%(tenants)s::text[]) AND s.endpoint_id IS NULL AND {_SIGNS}
         ORDER BY 10 DESC NULLS LAST, 2
    """
    parameters = {
        "owners": [tenant_id for tenant_id, _ in endpoints],
        "ids": "{" + ",".join(str(id_) for _, id_ in endpoints) + "}",
        "tenants": list(tenant_ids),
    }
    found = Found([], [])
    for kind, id_, tenant_id, endpoint_id, url, sealed, number, timeout_s, deleted, _ in conn.execute(
        query, parameters
    ):
        if kind == "endpoint":
            found.endpoints.append(Endpoint(id_, tenant_id, url, sealed, number, timeout_s, deleted))
        else:
            found.secrets.append(Secret(id_, tenant_id, endpoint_id, sealed, number))
    return found
