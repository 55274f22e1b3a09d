"""The peers' environment: its lock, and what happens where it is not there."""

import re
from pathlib import Path

import pytest

from loadtest.peers import environment
from tests.dockerfiles import REPOSITORY, locked


def locked_peers() -> dict[str, str]:
    """What the peers' lock has."""
    return dict(re.findall(r"(?m)^([\w.-]+)==(\S+)", environment.LOCK.read_text()))


def test_what_both_use_has_the_version_of_our_lock() -> None:
    """Nobody has the newer Flask, psycopg or librdkafka."""
    ours, theirs = locked("dev"), locked_peers()
    shared = ours.keys() & theirs.keys()

    assert {"flask", "gunicorn", "psycopg", "confluent-kafka", "requests", "uvloop"} <= shared
    assert {name: theirs[name] for name in shared} == {name: ours[name] for name in shared}


def test_each_package_of_the_lock_has_its_sums() -> None:
    """pip is told to accept nothing else."""
    entries = re.split(r"(?m)^(?=[\w.-]+==)", environment.LOCK.read_text())[1:]

    assert len(entries) == len(locked_peers())
    assert all("--hash=sha256:" in entry for entry in entries)


def test_every_peer_has_a_version() -> None:
    """A result names them."""
    assert set(environment.versions()) == set(environment.PEERS)


def test_an_environment_that_is_not_there_is_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what makes it; the same for one that was made from another lock."""
    monkeypatch.setenv(environment.VARIABLE, str(tmp_path))
    for made_from in (None, "another lock"):
        if made_from:
            (tmp_path / "lock.sha256").write_text(made_from)
        with pytest.raises(environment.NotInstalledError, match=r"python -m loadtest\.peers"):
            environment.program("python")


def test_the_programs_of_the_peers_import_nothing_of_ours_but_their_settings() -> None:
    """In their environment there is nothing else of ours."""
    programs = sorted((REPOSITORY / "loadtest/peers/programs").glob("*.py"))
    ours = (
        r"(?m)^(?:from|import) ((?:api_service|outbox_relay|delivery_consumer|dlq_consumer|shared|infra|loadtest)\S*)"
    )
    imported = {name for path in programs for name in re.findall(ours, path.read_text())}

    assert len(programs) > 5
    assert all(name == "loadtest.peers.settings" or name.startswith("loadtest.peers.programs") for name in imported)
