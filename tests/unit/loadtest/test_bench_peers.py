"""The peers' environment: its lock, and what happens where it is not there."""

import re
from pathlib import Path

import pytest

from loadtest.bench.figures import Sample
from loadtest.bench.outcome import StageOutcome
from loadtest.bench.peer_settings import write
from loadtest.bench.registry import TUNING
from loadtest.bench.stages.tune import AS_SET, variations
from loadtest.peers import environment, settings
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


def test_each_value_that_is_set_was_tried() -> None:
    """Nobody may say that the fastest is here of a value which the command does not compare."""
    assert settings.TRIED.keys() == settings.SETTINGS.keys()
    for peer, tried in settings.TRIED.items():
        missing = [name for name, values in tried.items() if settings.SETTINGS[peer][name] not in values]
        assert not missing, peer


def test_one_setting_is_changed_at_a_time() -> None:
    """Beside the settings as they are, which come first."""
    found = variations("PgQueuer")

    assert next(iter(found.items())) == (AS_SET, {})
    assert all(len(changed) == 1 for name, changed in found.items() if name != AS_SET)
    assert len(found) == 1 + sum(len(values) - 1 for values in settings.TRIED["PgQueuer"].values())


def test_what_is_tried_is_laid_over_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the environment of the peer's program."""
    monkeypatch.setenv("BENCH_SETTINGS", '{"batch_size": 7}')

    assert settings.of("txoutbox") == {**settings.SETTINGS["txoutbox"], "batch_size": 7}


def test_the_page_says_what_would_be_faster(tmp_path: Path) -> None:
    """What was faster in some rounds only is not told from noise."""
    rounds = {AS_SET: (1.0, 1.0), "pool prefork": (0.5, 1.1), "workers 8": (0.9, 0.8)}
    samples = {name: [Sample(100, took_s) for took_s in took] for name, took in rounds.items()}

    write([StageOutcome(TUNING["tune_celery"], {name: name for name in rounds}, samples)], {}, tmp_path / "page.md")

    assert "Faster in every round: workers 8." in (tmp_path / "page.md").read_text()


def test_the_page_keeps_the_sections_of_peers_that_did_not_run(tmp_path: Path) -> None:
    """And replaces those of others: figures of several runs stand on it, each with its own day and machine."""
    page = tmp_path / "peer-settings.md"

    def ran(stage: str, other_s: float) -> StageOutcome:
        present, other = [Sample(100, 1.0), Sample(200, 1.0)], [Sample(100, other_s), Sample(200, other_s)]
        whats = {AS_SET: "workers 4", "workers 8": "workers 8"}
        return StageOutcome(TUNING[stage], whats, {AS_SET: present, "workers 8": other})

    write([ran("tune_celery", 0.5), ran("tune_txoutbox", 1.0)], {"cores": 2}, page)
    write([ran("tune_celery", 2.0), StageOutcome(TUNING["tune_dramatiq"])], {"cores": 4}, page)

    head, celery, txoutbox = page.read_text().split("\n## ")
    assert head.startswith("# Settings of the peers")
    assert celery.startswith("Celery\n")
    assert "| workers 8 | 75 (50–100) | 0.5 | 0 |" in celery
    assert "Faster in every round: none." in celery
    assert ("cores 4" in celery, "cores 2" in txoutbox) == (True, True)
