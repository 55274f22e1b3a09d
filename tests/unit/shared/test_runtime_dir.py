"""Directories of servers that were killed are removed by the next one; all others are left alone."""

import os
from pathlib import Path

from shared import runtime_dir


def test_a_directory_in_use_is_kept(tmp_path: Path) -> None:
    """Whoever holds it: a server that starts beside it, in this container or another, must not break it."""
    with runtime_dir.held("notify-api", tmp_path) as first, runtime_dir.held("notify-api", tmp_path) as second:
        assert (first.path.is_dir(), second.path.is_dir()) == (True, True)
        assert first.path != second.path

    assert list(tmp_path.iterdir()) == []


def test_an_abandoned_directory_is_removed_with_its_content(tmp_path: Path) -> None:
    """Nobody holds its lock any more; the id in it may have been given to another process meanwhile."""
    abandoned = tmp_path / "notify-api-gone"
    (abandoned / "counts").mkdir(parents=True)
    (abandoned / "owner").write_text(f"{os.getpid()}\n")

    with runtime_dir.held("notify-api", tmp_path) as mine:
        assert list(tmp_path.iterdir()) == [mine.path]


def test_what_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    """Without an owner's file, a link, a file: a name alone proves nothing."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "owner").write_text("1\n")
    (tmp_path / "notify-api-link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "notify-api-other").mkdir()
    (tmp_path / "notify-api-file").write_text("")
    (tmp_path / "notify-api-linked-owner").mkdir()
    (tmp_path / "notify-api-linked-owner" / "owner").symlink_to(tmp_path / "elsewhere" / "owner")
    before = set(tmp_path.rglob("*"))

    with runtime_dir.held("notify-api", tmp_path):
        pass

    assert set(tmp_path.rglob("*")) == before
