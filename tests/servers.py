"""What the fixtures of conftest.py hand out."""

from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from infra.local.kafka import create_topics, delete_topics
from infra.local.postgres import SERVICE_ROLES, role_password
from shared.records import Topics


@dataclass(frozen=True)
class PostgresServer:
    """The session's PostgreSQL, for making databases in it; a test that must hurt a server starts its own."""

    port: int
    password: str
    template: str
    version: int

    def dsn(self, database: str = "postgres") -> str:
        """The connection URL of a database."""
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str, *, template: str | None = None) -> "Database":
        """Create a database with the schema of init.sql, or as a copy of `template`."""
        self._execute("CREATE DATABASE {} TEMPLATE {}", name, template or self.template)
        return Database(self.dsn(name), name, self.port, self.password)

    def drop_database(self, name: str) -> None:
        """Drop a database and end the sessions connected to it."""
        self._execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def _execute(self, statement: LiteralString, *names: str) -> None:
        with psycopg.connect(self.dsn(), autocommit=True) as conn:
            conn.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


@dataclass(frozen=True)
class Database:
    """A database of one test's own, with the schema of init.sql."""

    dsn: str
    name: str
    port: int
    password: str

    def dsn_of(self, service: str) -> str:
        """The connection URL of a service, whose role has the grants it uses and no others."""
        role = SERVICE_ROLES[service]
        return f"postgresql://{role}:{role_password(self.password, role)}@127.0.0.1:{self.port}/{self.name}"

    def connect(self, **options: Any) -> "psycopg.Connection[TupleRow]":
        """Open a connection; `options` are those of psycopg.connect, such as autocommit=True."""
        return psycopg.connect(self.dsn, **options)

    def environ_of(self, service: str) -> dict[str, str]:
        """The variables that point a service at this database."""
        return {"DATABASE_URL": self.dsn_of(service)}


@dataclass(frozen=True)
class KafkaServer:
    """The session's Kafka; a test that must hurt a broker starts its own."""

    bootstrap_servers: str

    def create_topics(self, names: list[str], *, partitions: int = 3) -> None:
        """Create topics with one replica."""
        create_topics(self.bootstrap_servers, names, partitions=partitions)

    def delete_topics(self, names: list[str]) -> None:
        """Delete topics with all their records."""
        delete_topics(self.bootstrap_servers, names)


@dataclass(frozen=True)
class FreshTopics:
    """The pipeline's topics under a prefix that no other test uses, three partitions each."""

    names: Topics
    bootstrap_servers: str

    @property
    def prefix(self) -> str:
        """What TOPIC_PREFIX is for this test."""
        return self.names.prefix

    @property
    def environ(self) -> dict[str, str]:
        """The variables that point a service at these topics."""
        return {"KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers, "TOPIC_PREFIX": self.prefix}
