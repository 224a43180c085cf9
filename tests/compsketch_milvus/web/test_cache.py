"""The thumbnails on disk: bounded, whole, and still there for the next process."""

from __future__ import annotations

import os
from pathlib import Path

from compsketch_milvus.web.cache import DiskCache


def keys(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.jpg")}


def test_what_was_used_the_longest_time_ago_goes_first(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "cache", limit=30)
    for key in "abc":
        cache.put(key, bytes(10))
    assert cache.get("a") == bytes(10)
    cache.put("d", bytes(10))
    assert keys(cache.folder) == {"a", "c", "d"}
    assert cache.size == 30


def test_the_order_outlives_the_process(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, limit=30)
    for second, key in enumerate("abc"):
        cache.put(key, bytes(10))
        os.utime(tmp_path / f"{key}.jpg", (second, second))
    assert cache.get("a") is not None  # now
    again = DiskCache(tmp_path, limit=30)
    assert again.size == 30
    again.put("d", bytes(10))
    assert keys(tmp_path) == {"a", "c", "d"}


def test_a_file_that_another_process_removed_is_made_anew(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, limit=30)
    cache.put("a", bytes(10))
    (tmp_path / "a.jpg").unlink()
    assert cache.get("a") is None
    assert cache.size == 0


def test_what_a_killed_process_left_unfinished_goes_with_the_next_start(tmp_path: Path) -> None:
    left, being_written = tmp_path / ".new-left", tmp_path / ".new-now"
    for path in (left, being_written):
        path.write_bytes(bytes(10))
    os.utime(left, (1_700_000_000, 1_700_000_000))
    DiskCache(tmp_path, limit=30)
    assert list(tmp_path.iterdir()) == [being_written], "another process may be at it"


def test_one_that_is_too_large_is_not_kept(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, limit=30)
    cache.put("a", bytes(31))
    assert cache.get("a") is None
    assert cache.size == 0


def test_a_full_disk_leaves_nothing_half(tmp_path: Path, monkeypatch) -> None:
    cache = DiskCache(tmp_path, limit=30)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    cache.put("a", bytes(10))
    assert list(tmp_path.iterdir()) == []
    assert cache.size == 0


def test_nobody_else_can_look_into_it(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "cache", limit=30)
    cache.put("a", bytes(10))
    assert cache.folder.stat().st_mode & 0o077 == 0
    assert (cache.folder / "a.jpg").stat().st_mode & 0o077 == 0
