"""The index of all runs, and the command that writes the pages."""

from pathlib import Path
from typing import Any

from click.testing import CliRunner

from loadtest.report import write, write_index
from loadtest.report.command import command
from loadtest.report.index_page import first_choice, for_comparison, read_all
from loadtest.results import save
from tests.unit.loadtest.runs import HOSTILE, a_run
from tests.unit.loadtest.test_report import Page

EARLIER, LATER = "2030-01-31T09:00:00+00:00", "2030-02-01T09:00:00+00:00"


def test_runs_are_listed_newest_first_with_their_verdict(tmp_path: Path) -> None:
    """One whose page was not written has no link; nothing on the page loads from elsewhere."""
    earlier = save(a_run(started_at=EARLIER, limits=[]), tmp_path)
    write(a_run(started_at=EARLIER, limits=[]), earlier.with_suffix(".html"))
    later = save(a_run(started_at=LATER), tmp_path)

    page = Page(write_index(tmp_path).read_text(encoding="utf-8"))

    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    values = [attributes["value"] for tag, attributes in page.tags if attributes.get("name") == "a"]
    assert links == [f"{earlier.stem}.html"]
    assert values == [later.stem, earlier.stem]
    assert [word for word in page.words if "limits" in word] == ["1 of 2 limits not held", "no limits set"]
    assert page.data["chosen"] == [earlier.stem, later.stem]


def test_a_file_that_is_no_result_is_named(tmp_path: Path) -> None:
    """A run does not vanish from the list."""
    (tmp_path / "cut.json").write_text("{")

    words = Page(write_index(tmp_path).read_text(encoding="utf-8")).words

    assert "cut.json" in words
    assert any("no JSON" in word for word in words)


def test_an_empty_directory_says_how_to_make_a_run(tmp_path: Path) -> None:
    """Rather than an empty table."""
    words = Page(write_index(tmp_path / "new").read_text(encoding="utf-8")).words

    assert "python -m loadtest run smoke" in words


def test_the_newest_thirty_can_be_compared(tmp_path: Path) -> None:
    """All are listed; the page holds the series of these alone."""
    for day in range(1, 32):
        save(a_run(started_at=f"2030-01-{day:02}T09:00:00+00:00"), tmp_path)

    page = Page(write_index(tmp_path).read_text(encoding="utf-8"))

    assert len([word for word in page.words if word.startswith("2030-01-")]) == 31
    runs: Any = page.data["runs"]
    assert len(runs) == 30
    assert not any(name.startswith("20300101") for name in runs)
    assert len([1 for _, attributes in page.tags if attributes.get("name") == "a"]) == 30


def test_a_comparison_begins_with_two_runs_of_the_same_kind(tmp_path: Path) -> None:
    """The newest that has an earlier one; else with the newest two; with fewer there is none."""
    smoke = save(a_run(profile="smoke", started_at="2030-01-01T00:00:00+00:00"), tmp_path).stem
    one = [first_choice(read_all(tmp_path)[0])]
    load = save(a_run(started_at="2030-01-02T00:00:00+00:00"), tmp_path).stem
    one.append(first_choice(read_all(tmp_path)[0]))
    again = save(a_run(profile="smoke", started_at="2030-01-03T00:00:00+00:00"), tmp_path).stem
    one.append(first_choice(read_all(tmp_path)[0]))

    assert one == [[], [smoke, load], [smoke, again]]


def test_a_comparison_has_what_may_differ(tmp_path: Path) -> None:
    """Settings, machine and versions by name, and lines of at most 200 points."""
    save(a_run(), tmp_path)
    ((row,), _) = read_all(tmp_path)

    compared = for_comparison(row)

    assert compared["facts"]["setting: rate_per_s"] == "400"
    assert compared["facts"]["machine: cores"] == "2"
    assert compared["facts"]["version: kafka"] == "4.3.0"
    assert compared["limits"]["lost"]["held"] is True
    assert len(compared["series"]) == len(a_run().series)
    assert max(len(series["table"][0]) for series in compared["series"]) <= 200


def test_no_word_of_a_result_is_markup_on_the_index(tmp_path: Path) -> None:
    """Nor the name of a file."""
    save(a_run(command=HOSTILE, settings={HOSTILE: HOSTILE}), tmp_path).rename(tmp_path / "<b>&.json")
    (tmp_path / "<i>.json").write_text("[]")

    tags = [tag for tag, _ in Page(write_index(tmp_path).read_text(encoding="utf-8")).tags]

    assert "b" not in tags
    assert "i" not in tags


def test_the_command_writes_every_page_and_the_index(tmp_path: Path) -> None:
    """And says where they are."""
    path = save(a_run(), tmp_path)

    done = CliRunner().invoke(command, ["--directory", str(tmp_path)])

    assert done.exit_code == 0
    assert done.output.split() == [str(path.with_suffix(".html")), str(tmp_path / "index.html")]
    assert "<h1>load" in path.with_suffix(".html").read_text(encoding="utf-8")


def test_the_command_names_what_is_wrong_with_a_file_and_does_the_others(tmp_path: Path) -> None:
    """Exit 2: the usage was wrong, not a limit."""
    good, bad = save(a_run(), tmp_path), tmp_path / "bad.json"
    bad.write_text('{"version": 1}')

    done = CliRunner().invoke(command, [str(bad), str(good), "--directory", str(tmp_path)])

    assert done.exit_code == 2
    assert "profile: nothing; expected str" in done.output
    assert good.with_suffix(".html").exists()
