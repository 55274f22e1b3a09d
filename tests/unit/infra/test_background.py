"""Finding the stack that `up` left running, and not finding one that is gone."""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from infra.local import __main__ as command_line
from infra.local.background import Background, State
from infra.local.errors import LocalStackError
from infra.local.readiness import Verdict
from infra.local.stack import PORT_VARIABLES, Ports

URLS = {
    "api": "http://127.0.0.1:22348",
    "mail": "http://127.0.0.1:8025",
    "receiver": "http://127.0.0.1:9000",
    "postgres": "postgresql://here",
    "kafka": "127.0.0.1:9092",
}


@contextmanager
def a_supervisor(local_dir: Path, **fields: object) -> Iterator[None]:
    """Hold the lock as a supervisor does, with this state written."""
    (local_dir / "supervisor.json").write_text(json.dumps(fields))
    with (local_dir / "supervisor.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def test_a_stack_that_runs_is_found_with_its_urls(tmp_path: Path) -> None:
    """While its supervisor holds the lock."""
    with a_supervisor(tmp_path, pid=7, phase="ready", urls={"api": "http://here"}):
        state = Background(tmp_path).state()

    assert state == State("ready", 7, {"api": "http://here"})


def test_a_state_file_without_its_supervisor_is_not_believed(tmp_path: Path) -> None:
    """After a crash or a reboot its pid may be anybody's."""
    with a_supervisor(tmp_path, pid=1, phase="ready"):
        pass

    assert Background(tmp_path).state() is None


def test_down_without_a_stack_signals_nobody_and_tidies_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it is called."""
    with a_supervisor(tmp_path, pid=1, phase="ready"):
        pass
    monkeypatch.setattr("os.kill", pytest.fail)

    ended = [Background(tmp_path).down() for _ in range(2)]

    assert ended == [False, False]
    assert not (tmp_path / "supervisor.json").exists()


def test_a_supervisor_that_has_not_written_its_state_is_starting(tmp_path: Path) -> None:
    """There is a moment between the lock and the first state."""
    with a_supervisor(tmp_path):
        (tmp_path / "supervisor.json").unlink()
        state = Background(tmp_path).state()

    assert state == State("starting", 0)


def test_an_error_one_can_act_on_is_one_sentence_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    """No traceback for a port that is taken."""

    def refuse() -> None:
        raise LocalStackError("API_PORT=80 is in use by another program.")

    with pytest.raises(SystemExit) as caught:
        command_line.refusing(refuse)

    assert caught.value.code == 2
    assert capsys.readouterr().err == "Error: API_PORT=80 is in use by another program.\n"


def test_status_of_nothing_is_exit_code_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a script can ask."""
    monkeypatch.setattr(command_line, "Background", lambda: Background(tmp_path))

    result = CliRunner().invoke(command_line.main, ["status"])

    assert (result.exit_code, result.output) == (3, "The stack is not running.\n")


@pytest.mark.parametrize("command", ["status", "up"])
@pytest.mark.parametrize(("fault", "code"), [("", 0), ("does not answer", 3)])
def test_a_running_stack_is_asked_part_by_part(
    command: str, fault: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes that run are not yet parts that work."""
    (tmp_path / "supervisor.log").touch()
    monkeypatch.setattr(command_line, "Background", lambda: Background(tmp_path))
    monkeypatch.setattr(command_line, "verdicts", lambda _: [Verdict("PostgreSQL", fault), Verdict("Apache Kafka", "")])

    with a_supervisor(tmp_path, pid=7, phase="ready", urls=URLS):
        result = CliRunner().invoke(command_line.main, [command])

    assert result.exit_code == code
    assert ("PostgreSQL         NOT READY: does not answer" in result.output) == bool(fault)
    assert ("every part is ready" in result.output) == (not fault)
    assert "Apache Kafka       ready" in result.output


def test_the_request_to_paste_goes_where_the_api_is() -> None:
    """With a word about why it is not where the documentation says."""
    state = State("ready", 7, URLS, api_key="nk_live_1_2", notes=["8080 was taken, so the API is at 22348."])
    text = command_line.described(state)

    assert "curl -i http://127.0.0.1:22348/api/v1/notifications" in text
    assert "export KEY=nk_live_1_2\n" in text
    assert "nk_live" not in repr(state)
    assert "  8080 was taken, so the API is at 22348.\n" in text


def test_what_the_commands_need_is_there_to_paste() -> None:
    """One line for a shell; keys of the operator's own are in that shell already."""
    state = State("ready", 7, URLS, api_key="nk_live_1_2", secrets_keys_file="/a dir/secrets-key")
    shown = ["notify-admin", "$DATABASE_URL", "$SECRETS_KEYS_FILE", "$KEY"]
    script = "\n".join(line for line in command_line.described(state).splitlines() if "export " in line)
    script += f"\ncommand -v {shown[0]}\nprintf '%s\\n' " + " ".join(f'"{name}"' for name in shown[1:])

    done = subprocess.run(
        ["/bin/sh", "-c", script], capture_output=True, text=True, env={"PATH": "/nowhere"}, check=False
    )

    beside = str(Path(sys.executable).parent / "notify-admin")
    assert done.stdout.splitlines()[-3:] == ["postgresql://here", "/a dir/secrets-key", "nk_live_1_2"]
    assert not Path(beside).exists() or done.stdout.splitlines()[0] == beside
    assert "SECRETS_KEYS_FILE" not in command_line.described(State("ready", 7, URLS))


def test_only_a_port_that_nobody_chose_is_worth_a_word() -> None:
    """What the environment sets is no surprise, nor is a Kafka of one's own."""
    usual = {name: port for name, (_, port) in PORT_VARIABLES.items()}
    ports = Ports(**{**usual, "api": 22348, "relay": 22349, "kafka": 22350})

    moved = ports.moved({"RELAY_PORT": "22349", "KAFKA_BOOTSTRAP_SERVERS": "kafka:9092"})

    assert moved == ["8080 was taken, so the API is at 22348."]


def test_a_reader_that_leaves_stops_the_words_and_nothing_else() -> None:
    """`up | head -1` still has a stack afterwards."""
    reading, writing = os.pipe()
    os.close(reading)
    script = "import sys; from infra.local.__main__ import say; say('a'); say('b'); sys.exit(7)"

    done = subprocess.run([sys.executable, "-c", script], stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)

    assert (done.returncode, done.stderr) == (7, b"")
