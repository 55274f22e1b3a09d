"""What the newest runs measured, as a page says it."""

from pathlib import Path

from click.testing import CliRunner

from loadtest.performance import command
from loadtest.results import Kind, Latency, Limit, RunResult, save

MACHINE: dict[str, str | int | float] = {"cores": 2, "cpu": "a CPU", "memory_gib": 23.5, "load_at_start": 0.5}


def a_run(kind: Kind, profile: str, hour: int, limit: Limit, **fields: object) -> RunResult:
    """A result of that hour."""
    return RunResult(
        kind=kind,
        profile=profile,
        seed=7,
        command=f"python -m loadtest {profile} --reports elsewhere/reports --rounds 3",
        started_at=f"2026-01-02T{hour:02}:00:00+00:00",
        took_s=12.0,
        versions={"commit": "abc", "python": "3.11.7"},
        machine=MACHINE,
        limits=[limit],
        **fields,  # type: ignore[arg-type]
    )


def test_the_newest_of_each_is_shown(tmp_path: Path) -> None:
    """A promise of the bench by its name, a load by its profile; quick runs count for nothing."""
    old, new = Limit("relay", "≥ 2 ×", "1 ×", held=False), Limit("relay", "≥ 2 ×", "3 ×", held=True)
    save(a_run("bench", "relay", 1, old, notes=["relay/ours: 10 a second", "relay/peer: 10 a second"]), tmp_path)
    save(a_run("bench", "relay", 2, new, notes=["relay/ours: 30 a second", "relay/peer: 10 a second"]), tmp_path)
    save(a_run("bench", "quick", 3, old, notes=["relay/ours: 1 a second"]), tmp_path)
    lost = Limit("lost", "0", "4", held=False)
    save(a_run("load", "spike", 4, lost, latencies=[Latency("accept", 9, 1.0, 2.0, 3.0, 4.0, 5.0)]), tmp_path)
    page = tmp_path / "page.md"
    page.write_text("# Page\n<!-- performance: begin -->\n<!-- performance: end -->\n")

    ended = CliRunner().invoke(command, ["--directory", str(tmp_path), "--into", str(page)])

    text = page.read_text()
    assert ended.exit_code == 0
    assert "| relay | ≥ 2 × | 3 × | held | 20260102T020000Z |" in text
    assert "| `relay` | ours | 30 a second |" in text
    assert "10 a second |\n\n### Load test `spike`" in text
    assert "| accept | 9 | 1 | 2 | 3 | 4 | 5 |" in text
    assert "| lost | 0 | 4 | **not held** |" in text
    assert "T010000Z" not in text.split("### Runs")[0]
    assert "`python -m loadtest spike --rounds 3`" in text
    assert "elsewhere" not in text


def test_what_says_nothing_of_the_program_is_left_out(tmp_path: Path) -> None:
    """A run that was broken off, or whose profile was changed, takes no honest one's place."""
    held, lost = Limit("lost", "0", "0", held=True), Limit("lost", "0", "4", held=False)
    save(a_run("load", "spike", 1, held), tmp_path)
    save(a_run("load", "spike", 2, lost, broken_off="ended by Ctrl-C"), tmp_path)
    changed = save(a_run("load", "spike --set limits.lost=9", 3, lost), tmp_path)
    save(a_run("bench", "full --only tune_celery", 4, lost), tmp_path)

    of_all = CliRunner().invoke(command, ["--directory", str(tmp_path)])
    of_one = CliRunner().invoke(command, [str(changed)])

    assert ("| lost | 0 | 0 | held |" in of_all.output, "not held" in of_all.output) == (True, False)
    assert "| lost | 0 | 4 | **not held** |" in of_one.output


def test_a_page_is_not_emptied_where_there_are_no_runs(tmp_path: Path) -> None:
    """A fresh clone has none, and its page says what others measured."""
    (page := tmp_path / "page.md").write_text("<!-- performance: begin -->\nfigures\n<!-- performance: end -->\n")

    (empty := tmp_path / "none").mkdir()

    ended = CliRunner().invoke(command, ["--directory", str(empty), "--into", str(page)])

    assert (ended.exit_code, "no runs" in ended.output) == (2, True)
    assert "figures" in page.read_text()


def test_a_file_that_is_no_result_is_named_a_misuse(tmp_path: Path) -> None:
    """Nothing is printed."""
    (path := tmp_path / "x.json").write_text("{}")

    ended = CliRunner().invoke(command, [str(path)])

    assert (ended.exit_code, "version" in ended.output) == (2, True)
