"""Reading the environment: typed, all faults at once, secrets hidden."""

import enum
from pathlib import Path

import pytest

from dlq_consumer.settings import read_settings as read_dlq
from outbox_relay.settings import read_settings as read_relay
from shared.conninfo import read_conninfo
from shared.settings import Environment, SettingsError, settings_or_exit


def test_all_faults_are_listed_at_once() -> None:
    """A bad start needs one look, not one per fault."""
    env = Environment(
        {"RELAY_PORT": "0", "RELAY_BATCH_ROWS": "many", "LOG_LEVEL": "loud", "KAFKA_BOOTSTRAP_SERVERS": "kafka"}
    )
    read_relay(env)

    with pytest.raises(SettingsError) as caught:
        env.check()

    assert {fault.variable for fault in caught.value.faults} == {
        "RELAY_PORT", "RELAY_BATCH_ROWS", "LOG_LEVEL", "KAFKA_BOOTSTRAP_SERVERS",
    }  # fmt: skip
    assert "RELAY_PORT: '0'; expected a whole number from 1 to 65535" in str(caught.value)


@pytest.mark.parametrize(
    ("variables", "variable"),
    [
        ({"KAFKA_BROKER": ":"}, "KAFKA_BROKER"),
        ({"BIND_HOST": "nohost"}, "BIND_HOST"),
        ({"KAFKA_TOPIC_REPLICATION": "0"}, "KAFKA_TOPIC_REPLICATION"),
        ({"IDEMPOTENCY_KEEP_S": "1"}, "IDEMPOTENCY_KEEP_S"),
    ],
)
def test_fault_names_the_variable_that_was_set(variables: dict[str, str], variable: str) -> None:
    """The one the operator wrote, with a range a person can read."""
    env = Environment(variables)
    read_relay(env)

    assert [fault.variable for fault in env.faults] == [variable]
    assert "e+" not in str(env.faults[0])


def test_defaults_need_no_variable() -> None:
    """An empty environment is a complete configuration for a machine of one's own."""
    env = Environment({})
    settings = read_dlq(env)
    env.check()

    assert settings.service.port == 8083
    assert settings.retry_ladder_s == (60, 300, 1800, 7200, 28800, 86400)
    assert settings.kafka.bootstrap_servers == "localhost:9092"


@pytest.mark.parametrize(
    ("variables", "conninfo"),
    [
        ({}, "postgresql://notify@localhost:5432/notifications"),
        ({"DB_HOST": "db", "DB_USER": "u@x", "DB_PASS": "p/w", "DB_NAME": "n", "DB_PORT": "6432"},
         "postgresql://u%40x:p%2Fw@db:6432/n"),
        ({"DATABASE_URL": "postgresql://a:b@c/d", "DB_HOST": "ignored"}, "postgresql://a:b@c/d"),
        ({"DB_SSLMODE": "Require"}, "postgresql://notify@localhost:5432/notifications?sslmode=require"),
    ],
)  # fmt: skip
def test_where_postgres_is(variables: dict[str, str], conninfo: str) -> None:
    """DATABASE_URL, or its parts, quoted."""
    assert read_conninfo(Environment(variables)) == conninfo


def test_older_name_of_the_broker_is_read() -> None:
    """KAFKA_BROKER works where KAFKA_BOOTSTRAP_SERVERS is not set."""
    assert read_relay(Environment({"KAFKA_BROKER": "k:9092"})).kafka.bootstrap_servers == "k:9092"


def test_secret_comes_from_a_file_and_is_in_no_message(tmp_path: Path) -> None:
    """NAME_FILE is read and trimmed; a fault in a secret does not quote it."""
    file = tmp_path / "password"
    file.write_text("hunter2\n")
    env = Environment({"DB_PASS_FILE": str(file), "DATABASE_URL": "hunter2"})

    read_relay(env)

    assert Environment({"DB_PASS_FILE": str(file)}).raw("DB_PASS") == "hunter2"
    assert env.faults
    assert "hunter2" not in str(env.faults)
    assert "hunter2" not in repr(read_relay(Environment({"DB_PASS_FILE": str(file)})))


def test_file_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    """A missing secret file is named, once; so is one that nothing was written to yet."""
    (tmp_path / "empty").write_text("\n")

    for file in ("none", "empty"):
        env = Environment({"DB_PASS_FILE": str(tmp_path / file), "DB_PASS": "not this one"})
        read_relay(env)
        assert [fault.variable for fault in env.faults] == ["DB_PASS_FILE"]


def test_required_text_that_is_missing_is_a_fault() -> None:
    """Where there is no default, nothing is made up."""
    env = Environment({"A": "  "})

    assert env.text("A") == ""
    assert [str(fault) for fault in env.faults] == ["A: not set; expected a value"]


class Colour(enum.StrEnum):
    """Anything to choose from."""

    RED = "red"


def test_choices_are_read_in_any_case() -> None:
    """RED is red."""
    assert Environment({"C": "RED"}).choice("C", Colour.RED, Colour) is Colour.RED


def test_a_switch_is_on_or_off() -> None:
    """In the words people use; anything else is a fault, not a no."""
    env = Environment({"A": "ON", "B": "false", "C": "perhaps"})

    assert [env.switch(name, default=True) for name in "ABCD"] == [True, False, True, True]
    assert [str(fault) for fault in env.faults] == ["C: 'perhaps'; expected on or off"]


def test_bad_start_prints_every_fault_and_exits_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """What an operator sees."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RELAY_PORT", "x")
    monkeypatch.setenv("SWEEP_AFTER_S", "never")

    with pytest.raises(SystemExit) as caught:
        settings_or_exit("outbox_relay", read_relay)

    assert caught.value.code == 2
    printed = capsys.readouterr().err
    assert "RELAY_PORT" in printed
    assert "SWEEP_AFTER_S" in printed
