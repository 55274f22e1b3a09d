"""The pages of the report in a real browser: no network, no word in its console, every plot drawn."""

import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from loadtest.report import write, write_index
from loadtest.results import save
from tests.unit.loadtest.runs import HOSTILE, a_run, lines

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium on this machine")

DRAWN = 'class="u-wrap"'  # what uPlot puts around a canvas


def opened(page: Path, home: Path, *, address: str = "", dark: bool = False) -> tuple[str, list[str]]:
    """Open a page; return the document as its scripts left it, and what was said in the console."""
    command = [
        *(str(BROWSER), "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={home}"),
        *("--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr"),
        *(
            "--virtual-time-budget=2000",
            "--window-size=1200,900",
            f"--blink-settings=preferredColorScheme={int(not dark)}",
        ),
        *("--dump-dom", page.as_uri() + address),
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "HOME": str(home)},
    )
    return done.stdout, re.findall(r"CONSOLE.*", done.stderr)


def test_a_fault_in_a_page_would_be_seen(tmp_path: Path) -> None:
    """Or the tests below would prove nothing: a script that throws, and a picture that the policy forbids."""
    page = tmp_path / "page.html"
    policy = "<meta http-equiv='Content-Security-Policy' content=\"img-src 'none'\">"
    page.write_text(f"{policy}<script>missing()</script><img src='https://example.org/x.png'>")

    _, said = opened(page, tmp_path)

    assert [line for line in said if "missing is not defined" in line]
    assert [line for line in said if "Content Security Policy" in line]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_page_of_a_run_draws_every_plot_and_says_nothing(tmp_path: Path, dark: bool) -> None:
    """As a person opens it, from the file."""
    page = write(a_run(), tmp_path / "run.html")

    document, said = opened(page, tmp_path, dark=dark)

    assert said == []
    assert document.count(DRAWN) == document.count('class="plot"') >= 8


def test_hostile_words_do_nothing_in_a_browser(tmp_path: Path) -> None:
    """Not by the template, and not by the scripts that put names beside lines."""
    run = a_run(notes=[HOSTILE], counts={HOSTILE: 1}, series=[replace(lines()[0], name=HOSTILE)])
    page = write(run, tmp_path / "run.html")

    document, said = opened(page, tmp_path)

    assert said == []
    assert document.count(DRAWN) == 1
    assert "<img" not in document


def test_the_index_compares_the_runs_that_its_address_names(tmp_path: Path) -> None:
    """What differs, in words and in plots; a link to a comparison leads back to it."""
    earlier = save(a_run(), tmp_path).stem
    later = save(a_run(started_at="2030-02-01T09:00:00+00:00", settings={HOSTILE: "500"}), tmp_path).stem
    save(a_run(started_at="2030-02-02T09:00:00+00:00"), tmp_path)

    document, said = opened(write_index(tmp_path), tmp_path, address=f"#a={earlier}&b={later}")

    assert said == []
    assert "load, 2030-01-31 09:00:00 UTC" in document
    assert "load, 2030-02-01 09:00:00 UTC" in document
    assert "setting: rate_per_s" in document
    assert "<img" not in document
    assert document.count(DRAWN) >= 6
