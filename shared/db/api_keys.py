"""The api_keys table: who may call the API for a tenant. Secrets are here as their SHA-256 alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, LiteralString

from psycopg import Connection
from psycopg.rows import class_row


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as a list shows it."""

    id: str
    tenant_id: str
    name: str
    scopes: list[str]
    limits: str | None
    created_at: datetime
    created_by: str | None
    expires_at: datetime | None
    previous_expires_at: datetime | None  # until when the secret before the last rotation is accepted too
    revoked_at: datetime | None
    revoked_by: str | None
    last_used_at: datetime | None  # to the minute


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key to be."""

    id: str
    tenant_id: str
    secret_sha256: bytes
    name: str
    scopes: Sequence[str]
    created_by: str
    expires_at: datetime | None = None
    limits: str | None = None


@dataclass(frozen=True, slots=True)
class FoundKey:
    """What a secret is judged by, and what it opens. Seconds count from now; None: for ever, or no such secret."""

    tenant_id: str
    secret_sha256: bytes
    previous_sha256: bytes | None
    scopes: list[str]
    name: str
    limits: str | None
    expires_at: datetime | None
    valid_for_s: float | None
    previous_valid_for_s: float | None
    is_revoked: bool
    is_suspended: bool  # the tenant is
    is_operator: bool
    daily_quota: int | None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which keys to list. `active` None means any; `before` is (created_at, id) of the last row of the page before."""

    tenant_id: str
    active: bool | None = None
    before: tuple[datetime, str] | None = None


_COLUMNS: Final[LiteralString] = """id, tenant_id, name, scopes, limits, created_at, created_by, expires_at,
    previous_expires_at, revoked_at, revoked_by, last_used_at"""


def judge(conn: Connection[Any], key_id: str) -> FoundKey | None:
    """Return what is known of a key, whosever it is; None where there is none. One statement, no transaction."""
    query = "SELECT * FROM find_api_key(%s)"
    return conn.cursor(row_factory=class_row(FoundKey)).execute(query, (key_id,)).fetchone()


def touch(conn: Connection[Any], key_ids: Sequence[str]) -> None:
    """Note that these keys were used. One that was noted within the last minute is left alone."""
    conn.execute("SELECT touch_api_keys(%s)", (list(key_ids),))


def add(conn: Connection[Any], new: NewApiKey) -> ApiKey:
    """Create a key and return it. Raises psycopg.errors.ForeignKeyViolation where there is no such tenant."""
    query = f"""
        INSERT INTO api_keys (id, tenant_id, secret_sha256, name, scopes, created_by, expires_at, limits)
        VALUES (%(id)s, %(tenant_id)s, %(secret_sha256)s, %(name)s, %(scopes)s, %(created_by)s, %(expires_at)s,
                %(limits)s)
        RETURNING {_COLUMNS}
    """
    parameters = {name: getattr(new, name) for name in NewApiKey.__slots__} | {"scopes": list(new.scopes)}
    return conn.cursor(row_factory=class_row(ApiKey)).execute(query, parameters).fetchall()[0]


def find(conn: Connection[Any], key_id: str, *, tenant_id: str) -> ApiKey | None:
    """Return a key of a tenant; None where it has no such id."""
    query = f"SELECT {_COLUMNS} FROM api_keys WHERE id = %(id)s AND tenant_id = %(tenant_id)s"
    parameters = {"id": key_id, "tenant_id": tenant_id}
    return conn.cursor(row_factory=class_row(ApiKey)).execute(query, parameters).fetchone()


def find_locked(conn: Connection[Any], key_id: str, *, tenant_id: str) -> ApiKey | None:
    """Return a key as find does, which nobody else changes until the transaction ends."""
    query = f"SELECT {_COLUMNS} FROM api_keys WHERE id = %(id)s AND tenant_id = %(tenant_id)s FOR NO KEY UPDATE"
    parameters = {"id": key_id, "tenant_id": tenant_id}
    return conn.cursor(row_factory=class_row(ApiKey)).execute(query, parameters).fetchone()


def list_page(conn: Connection[Any], where: Filter, *, limit: int) -> list[ApiKey]:
    """Return up to `limit` keys that fit, newest first by (created_at, id)."""
    query = f"""
        SELECT {_COLUMNS} FROM api_keys
         WHERE tenant_id = %(tenant_id)s
           AND (%(active)s::bool IS NULL
                OR (revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())) = %(active)s)
           AND (%(before_at)s::timestamptz IS NULL OR (created_at, id) < (%(before_at)s, %(before_id)s))
         ORDER BY created_at DESC, id DESC LIMIT %(limit)s
    """
    before_at, before_id = where.before or (None, None)
    parameters = {
        "tenant_id": where.tenant_id,
        "active": where.active,
        "before_at": before_at,
        "before_id": before_id,
        "limit": limit,
    }
    return conn.cursor(row_factory=class_row(ApiKey)).execute(query, parameters).fetchall()


def revoke(conn: Connection[Any], key_id: str, *, tenant_id: str, by: str) -> ApiKey | None:
    """Accept a key no more and return it; repeating it changes nothing; None where the tenant has no such id."""
    query = f"""
        UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()), revoked_by = coalesce(revoked_by, %(by)s)
         WHERE id = %(id)s AND tenant_id = %(tenant_id)s RETURNING {_COLUMNS}
    """
    parameters = {"id": key_id, "tenant_id": tenant_id, "by": by}
    return conn.cursor(row_factory=class_row(ApiKey)).execute(query, parameters).fetchone()


def rotate(
    conn: Connection[Any], key_id: str, *, tenant_id: str, secret_sha256: bytes, overlap_s: float
) -> ApiKey | None:
    """Give a key another secret and return it; the one it had is accepted too for `overlap_s`, older ones no more.

    None, having changed nothing, where the tenant has no such key, or it is revoked or has expired.
    """
    query = f"""
        UPDATE api_keys
           SET previous_secret_sha256 = secret_sha256, secret_sha256 = %(secret_sha256)s,
               previous_expires_at = now() + make_interval(secs => %(overlap_s)s)
         WHERE id = %(id)s AND tenant_id = %(tenant_id)s
           AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
        RETURNING {_COLUMNS}
    """
    parameters = {"id": key_id, "tenant_id": tenant_id, "secret_sha256": secret_sha256, "overlap_s": overlap_s}
    return conn.cursor(row_factory=class_row(ApiKey)).execute(query, parameters).fetchone()
