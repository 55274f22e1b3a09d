"""/docs in a real browser, under its policy: it draws every operation, and the browser has nothing to complain of."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.api_service.test_hostile_http import api_alone

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium on this machine")


def opened(url: str, home: Path) -> tuple[str, list[str]]:
    """Open a page; return the document as its scripts left it, and what was said in the console."""
    command = [
        *(str(BROWSER), "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={home}"),
        *(
            "--disable-background-networking",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            "--enable-logging=stderr",
        ),
        *("--virtual-time-budget=15000", "--window-size=1200,900", "--dump-dom", url),
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
        env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
    )
    return done.stdout, re.findall(r"CONSOLE.*", done.stderr)


@pytest.fixture
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the page is."""
    with api_alone(tmp_path_factory.mktemp("docs")) as api:
        yield f"http://127.0.0.1:{api.port}/docs"


def test_the_page_works_under_its_policy(page: str, tmp_path: Path) -> None:
    """Scripts and styles that are served with it and nothing else, with every operation shown, and one opened."""
    document, said = opened(page, tmp_path)

    assert said == []
    for path in ("/api/v1/notifications", "/api/v1/notifications/batch", "/api/v1/dead-letters"):
        assert f'data-path="{path}"' in document
    assert document.count('class="opblock ') >= 15
    [link] = re.findall(r'href="(#/notifications/post_api_v1_notifications)"', document)
    document, said = opened(page + link, tmp_path)
    assert [line for line in said if "Deprecated: escaping deep link" not in line] == []
    assert "is-open" in document
    assert "your order has shipped" in document.lower()
