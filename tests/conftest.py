"""What tests may ask for: a database cloned from a template, fresh topics, and as much network as their folder has.

`tests/unit` has none. Everything else reaches 127.0.0.1 only, where a real PostgreSQL and a real Apache Kafka are
started once per session (and shared by the workers of `-n`) when the first test asks for them. `tests/hostile` has a
network of its own, in which every address is a decoy.
"""

import itertools
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local import testbed
from shared.records import Topics
from tests.servers import Database, FreshTopics, KafkaServer, PostgresServer

TESTS = Path(__file__).parent
_numbers = itertools.count(1)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Leave unix sockets open: every asyncio event loop holds a pair of them."""
    config.option.allow_unix_socket = True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Close the network to unit tests, and everything but loopback to all others outside a network of their own."""
    for item in items:
        if item.path.is_relative_to(TESTS / "unit"):
            item.add_marker(pytest.mark.disable_socket)
        elif not item.path.is_relative_to(TESTS / "hostile"):
            item.add_marker(pytest.mark.allow_hosts(["127.0.0.1", "::1"]))


@pytest.fixture(scope="session")
def testbed_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that all workers of this session share."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "testbed"


@pytest.fixture(scope="session")
def postgres(testbed_dir: Path) -> Iterator[PostgresServer]:
    """The session's PostgreSQL."""
    with testbed.lease("postgres", testbed_dir) as server:
        yield PostgresServer(server["port"], server["password"], server["template"], server["version"])


@pytest.fixture(scope="session")
def kafka(testbed_dir: Path) -> Iterator[KafkaServer]:
    """The session's Kafka, or the one KAFKA_BOOTSTRAP_SERVERS names."""
    if given := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        yield KafkaServer(given)
        return
    with testbed.lease("kafka", testbed_dir) as server:
        yield KafkaServer(server["bootstrap_servers"])


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[Database]:
    """A fresh database with the schema of init.sql, dropped after the test."""
    name = f"test_{next(_numbers)}_{secrets.token_hex(4)}"
    yield postgres.create_database(name)
    postgres.drop_database(name)


@pytest.fixture
def topics(kafka: KafkaServer) -> Iterator[FreshTopics]:
    """Fresh topics, deleted after the test."""
    names = Topics(f"test{next(_numbers)}-{secrets.token_hex(4)}")
    kafka.create_topics(names.all())
    yield FreshTopics(names, kafka.bootstrap_servers)
    kafka.delete_topics(names.all())
