"""Log lines and health answers."""

import logging
import threading

import orjson
import pytest

from shared.lifecycle import run_beside
from shared.telemetry import JsonFormatter, health_body, run_checks


def line_of(record: logging.LogRecord) -> dict[str, object]:
    """The line a record becomes."""
    line: dict[str, object] = orjson.loads(JsonFormatter("relay").format(record))
    return line


def test_log_line_is_one_json_object_with_its_fields() -> None:
    """A constant event name, and what belongs to it beside."""
    record = logging.makeLogRecord({"msg": "rows_published", "levelname": "INFO", "name": "x", "count": 3})

    line = line_of(record)

    assert (line["event"], line["level"], line["service"], line["count"]) == ("rows_published", "info", "relay", 3)
    assert "\n" not in JsonFormatter("relay").format(record)


def test_exception_is_logged_by_type_and_place_not_by_its_words() -> None:
    """I20: the words of an exception may quote a body or a password."""
    try:
        raise ValueError("hunter2")
    except ValueError as error:
        info = (type(error), error, error.__traceback__)

    line = line_of(logging.makeLogRecord({"msg": "failed", "levelname": "ERROR", "exc_info": info}))

    assert line["error"] == "ValueError"
    assert "hunter2" not in str(line)


def test_ready_only_while_every_check_is_well() -> None:
    """A fault, or a check that breaks, makes the answer 503 and names itself."""

    def broken() -> str | None:
        raise OSError

    well = health_body("relay", run_checks({"a": lambda: None}))
    ill = health_body("relay", run_checks({"a": lambda: None, "b": lambda: "away", "c": broken}))

    assert (well[0], ill[0]) == (200, 503)
    assert ill[1]["checks"] == {"a": "ok", "b": "away", "c": "OSError"}


def test_companion_that_fails_stops_the_service(caplog: pytest.LogCaptureFixture) -> None:
    """Half a service would look healthy and do nothing."""

    def fail() -> None:
        raise RuntimeError

    stop = threading.Event()
    companion = run_beside("upkeep", fail, stop)

    assert stop.wait(5)
    companion.join(5)
    assert companion.failed
    assert "companion_failed" in caplog.text
