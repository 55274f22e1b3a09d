"""Results of proofs, added up into a page."""

import json
from pathlib import Path

import pytest

from tests.proofs import page


def result(*, held: bool) -> dict[str, object]:
    """What a proof writes."""
    figure = {"name": "longest recovery", "value": 2.5, "target": "<= 3 s", "held": held}
    return {
        "proof": "recovery", "held": held, "figures": [figure], "notes": ["a note"],
        "sizes": {"times": 20}, "surroundings": {"cores": 2},
    }  # fmt: skip


@pytest.mark.parametrize(("held", "code"), [(True, 0), (False, 1)])
def test_a_promise_that_did_not_hold_shows_and_is_the_exit_code(
    held: bool, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """So does what it was measured on."""
    file = tmp_path / "recovery.json"
    file.write_text(json.dumps(result(held=held)))

    assert page.main([str(file)]) == code

    shown = capsys.readouterr().out
    assert ("**not held**" in shown) is not held
    assert "times 20" in shown
    assert "cores 2" in shown
    assert "a note" in shown


def test_a_page_of_nothing_proves_nothing() -> None:
    """No files, no success."""
    assert page.main([]) == 1
