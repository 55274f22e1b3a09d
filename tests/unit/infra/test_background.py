"""Finding the stack that `up` left running, and not finding one that is gone."""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from infra.local import __main__ as command_line
from infra.local.background import Background, State
from infra.local.errors import LocalStackError


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
