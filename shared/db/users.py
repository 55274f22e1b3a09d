"""The users table: people who sign in with a password, each of one tenant."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, LiteralString
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row


@dataclass(frozen=True, slots=True)
class User:
    """Somebody as a list shows them."""

    id: UUID
    tenant_id: str
    email: str
    name: str
    role: str
    created_at: datetime
    updated_at: datetime
    disabled_at: datetime | None
    last_login_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewUser:
    """Somebody to be. `email` in lower case."""

    id: UUID
    tenant_id: str
    email: str
    name: str
    role: str
    password_hash: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Whoever a token was issued to, as they are now."""

    id: UUID
    tenant_id: str
    name: str
    role: str
    token_version: int
    is_disabled: bool
    is_suspended: bool  # the tenant is
    is_operator: bool
    daily_quota: int | None


@dataclass(frozen=True, slots=True)
class SigningIn(SignedIn):
    """Somebody who signs in."""

    password_hash: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which users to list; None means any. `before` is (created_at, id) of the last row of the page before."""

    tenant_id: str
    role: str | None = None
    active: bool | None = None
    before: tuple[datetime, UUID] | None = None


_COLUMNS: Final[LiteralString] = """id, tenant_id, email, name, role, created_at, updated_at, disabled_at,
    last_login_at"""


def signing_in(conn: Connection[Any], email: str) -> SigningIn | None:
    """Return whose address this is, of whatever tenant. One statement, no transaction."""
    query = "SELECT * FROM find_user(%s)"
    return conn.cursor(row_factory=class_row(SigningIn)).execute(query, (email,)).fetchone()


def signed_in(conn: Connection[Any], user_id: UUID) -> SignedIn | None:
    """Return whose id this is, of whatever tenant. One statement, no transaction."""
    query = "SELECT * FROM find_signed_in(%s)"
    return conn.cursor(row_factory=class_row(SignedIn)).execute(query, (user_id,)).fetchone()


def note_sign_in(conn: Connection[Any], who: SigningIn, *, renewed: str | None) -> None:
    """Note that somebody has signed in, and `renewed`, another hash of the password by which they did.

    That one is dropped where they were given another password meanwhile.
    """
    query = """
        UPDATE users
           SET last_login_at = now(),
               password_hash = CASE WHEN password_hash = %(compared)s THEN coalesce(%(renewed)s, password_hash)
                                    ELSE password_hash END
         WHERE id = %(id)s AND tenant_id = %(tenant_id)s
    """
    parameters = {"id": who.id, "tenant_id": who.tenant_id, "compared": who.password_hash, "renewed": renewed}
    conn.execute(query, parameters)


def add(conn: Connection[Any], new: NewUser) -> User | None:
    """Create a user and return it; None where the address is taken, in whatever tenant.

    Raises psycopg.errors.ForeignKeyViolation where there is no such tenant.
    """
    query = f"""
        INSERT INTO users (id, tenant_id, email, name, role, password_hash)
        VALUES (%(id)s, %(tenant_id)s, %(email)s, %(name)s, %(role)s, %(password_hash)s)
        ON CONFLICT (email) DO NOTHING RETURNING {_COLUMNS}
    """
    parameters = {name: getattr(new, name) for name in NewUser.__slots__}
    return conn.cursor(row_factory=class_row(User)).execute(query, parameters).fetchone()


def add_many(conn: Connection[Any], news: Sequence[NewUser]) -> set[str]:
    """Create users and return the addresses of those that are new; one that is taken is left as it is."""
    query = """
        INSERT INTO users (id, tenant_id, email, name, role, password_hash)
        SELECT * FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[])
        ON CONFLICT (email) DO NOTHING RETURNING email
    """
    columns = [[getattr(new, name) for new in news] for name in NewUser.__slots__]
    return {email for (email,) in conn.execute(query, columns).fetchall()}


def find(conn: Connection[Any], user_id: UUID, *, tenant_id: str) -> User | None:
    """Return a user of a tenant; None where it has no such id."""
    query = f"SELECT {_COLUMNS} FROM users WHERE id = %(id)s AND tenant_id = %(tenant_id)s"
    parameters = {"id": user_id, "tenant_id": tenant_id}
    return conn.cursor(row_factory=class_row(User)).execute(query, parameters).fetchone()


def find_locked(conn: Connection[Any], user_id: UUID, *, tenant_id: str) -> User | None:
    """Return a user as find does, whom nobody else changes until the transaction ends."""
    query = f"SELECT {_COLUMNS} FROM users WHERE id = %(id)s AND tenant_id = %(tenant_id)s FOR NO KEY UPDATE"
    parameters = {"id": user_id, "tenant_id": tenant_id}
    return conn.cursor(row_factory=class_row(User)).execute(query, parameters).fetchone()


def list_page(conn: Connection[Any], where: Filter, *, limit: int) -> list[User]:
    """Return up to `limit` users that fit, newest first by (created_at, id)."""
    query = f"""
        SELECT {_COLUMNS} FROM users
         WHERE tenant_id = %(tenant_id)s
           AND (%(role)s::text IS NULL OR role = %(role)s)
           AND (%(active)s::bool IS NULL OR (disabled_at IS NULL) = %(active)s)
           AND (%(before_at)s::timestamptz IS NULL OR (created_at, id) < (%(before_at)s, %(before_id)s::uuid))
         ORDER BY created_at DESC, id DESC LIMIT %(limit)s
    """
    before_at, before_id = where.before or (None, None)
    parameters = {
        "tenant_id": where.tenant_id,
        "role": where.role,
        "active": where.active,
        "before_at": before_at,
        "before_id": before_id,
        "limit": limit,
    }
    return conn.cursor(row_factory=class_row(User)).execute(query, parameters).fetchall()


def set_role(conn: Connection[Any], user_id: UUID, *, tenant_id: str, role: str) -> User | None:
    """Give a user another role and return it; repeating it changes nothing; None where the tenant has no such id."""
    query = f"""
        UPDATE users SET role = %(role)s, updated_at = CASE WHEN role = %(role)s THEN updated_at ELSE now() END
         WHERE id = %(id)s AND tenant_id = %(tenant_id)s RETURNING {_COLUMNS}
    """
    parameters = {"id": user_id, "tenant_id": tenant_id, "role": role}
    return conn.cursor(row_factory=class_row(User)).execute(query, parameters).fetchone()


def disable(conn: Connection[Any], user_id: UUID, *, tenant_id: str, disabled: bool) -> User | None:
    """Let a user in no more, or again, and return it; None where the tenant has no such id.

    Tokens issued before stay refused when they are let in again. Repeating it changes nothing.
    """
    query = f"""
        UPDATE users
           SET token_version = token_version + (disabled_at IS NULL AND %(disabled)s)::int,
               updated_at = CASE WHEN (disabled_at IS NULL) = %(disabled)s THEN now() ELSE updated_at END,
               disabled_at = CASE WHEN %(disabled)s THEN coalesce(disabled_at, now()) END
         WHERE id = %(id)s AND tenant_id = %(tenant_id)s RETURNING {_COLUMNS}
    """
    parameters = {"id": user_id, "tenant_id": tenant_id, "disabled": disabled}
    return conn.cursor(row_factory=class_row(User)).execute(query, parameters).fetchone()


def set_password(conn: Connection[Any], email: str, *, password_hash: str) -> User | None:
    """Give a user another password and return it; tokens issued before end. None where nobody has this address."""
    query = f"""
        UPDATE users SET password_hash = %(password_hash)s, token_version = token_version + 1, updated_at = now()
         WHERE email = %(email)s RETURNING {_COLUMNS}
    """
    parameters = {"email": email, "password_hash": password_hash}
    return conn.cursor(row_factory=class_row(User)).execute(query, parameters).fetchone()
