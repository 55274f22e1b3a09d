"""Row 60: an answer of 500 carries no stack, SQL, path or version, over real HTTP and in every header."""

import http.client
import importlib.metadata
import platform
import re
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from api_service.problems import CONTENT_TYPE
from tests.integration.api_service.test_server import Server, running
from tests.servers import Database

MAIL = {"channel": "email", "recipient": "ada@example.com", "message": "hello"}
REQUESTS = [
    ("POST", "/api/v1/notifications", MAIL),
    ("POST", "/api/notifications", MAIL | {"subject": "x", "metadata": {"a": 1}}),
    ("POST", "/api/v1/notifications/batch", [MAIL]),
    ("GET", "/api/v1/notifications", None),
    ("GET", "/api/v1/notifications/01930e2a-7c1e-7000-8f3a-5b6c7d8e9f00", None),
    ("DELETE", "/api/v1/notifications/01930e2a-7c1e-7000-8f3a-5b6c7d8e9f00", None),
    ("GET", "/api/v1/dead-letters", None),
    ("GET", "/api/v1/dead-letters/groups", None),
    ("POST", "/api/v1/dead-letters/5f0c1d9e-2b7a-4c55-9d0e-6a1b2c3d4e5f/retry", None),
    ("POST", "/api/v1/dead-letters/retry", {"filter": {"channel": "email"}}),
    ("GET", "/api/v1/suppressions", None),
    ("POST", "/api/v1/suppressions", {"channel": "email", "recipient": "a@example.com", "by": "ann"}),
    ("GET", "/api/v1/destinations", None),
]
COLUMNS = dict.fromkeys(("notifications", "dlq_messages", "suppressions", "destination_reports"), "channel")
VERSIONS = {
    platform.python_version(),
    *(importlib.metadata.version(name) for name in ("flask", "werkzeug", "gunicorn", "psycopg", "marshmallow")),
}
TELLING = re.compile(
    r"Traceback|File \"|\.py\b|line \d|SELECT|INSERT|UPDATE|\brelation\b|column|psycopg|sqlstate|postgres"
    r"|/api_service|/usr|/tmp|gone_|exist|Python|Werkzeug|gunicorn/|Error\b",
    re.IGNORECASE,
)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory, postgres: Any) -> Iterator[Server]:
    """An API whose tables have lost a column: whatever it asks for is an error that nobody foresaw."""
    database: Database = postgres.create_database("test_internal_errors")
    with running(database, tmp_path_factory.mktemp("broken")) as server:
        with database.connect(autocommit=True) as conn:
            for table, column in COLUMNS.items():
                conn.execute(f"ALTER TABLE {table} RENAME COLUMN {column} TO gone_{column}")
        yield server
    postgres.drop_database(database.name)


@pytest.mark.parametrize(("method", "path", "body"), REQUESTS)
def test_row_60_an_answer_of_500_tells_nothing(broken: Server, method: str, path: str, body: Any) -> None:
    """Its words are constants; the request id leads to the log, where the stack is, without the error's text."""
    conn = http.client.HTTPConnection("127.0.0.1", broken.port, timeout=30)
    conn.request(method, path, None if body is None else orjson.dumps(body), {"Content-Type": "application/json"})
    answer = conn.getresponse()
    said, headers = answer.read(), dict(answer.getheaders())
    conn.close()

    problem = orjson.loads(said)
    assert (answer.status, headers["Content-Type"]) == (500, CONTENT_TYPE)
    assert set(problem) == {"type", "title", "status", "detail", "code", "request_id"}
    assert problem["code"] == "internal_error"
    whole = said.decode().replace('"internal_error"', "").replace(":internal_error", "") + repr(headers)
    assert TELLING.findall(whole) == []
    assert [version for version in VERSIONS if version in whole] == []
    failed = [line for line in broken.log() if line.get("request_id") == problem["request_id"] and "stack" in line]
    assert [line["error"] for line in failed] == ["UndefinedColumn"]
    assert "gone_" not in str(failed)
