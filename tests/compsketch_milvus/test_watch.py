"""A folder and a collection in step, by comparison and by the file system's events."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from compsketch_milvus.errors import ServerError, SourceError
from compsketch_milvus.records import PhotoVector
from compsketch_milvus.watch import Watch, WatchSummary

REPOSITORY = Path(__file__).parents[2]
OLD = 1_700_000_000  # a time of modification long ago: the file has settled


def photo(path: Path, color: tuple[int, int, int] = (200, 90, 20), *, when: float | None = OLD) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 32), color).save(path)
    if when is not None:
        os.utime(path, (when, when))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three photos, one of them in a folder within."""
    for name in ("a.png", "b.png", "sub/c.png"):
        photo(tmp_path / "photos" / name)
    return tmp_path / "photos"


def rows(collection) -> dict[str, dict]:
    found = collection.call("read rows", "query", filter='id != ""', output_fields=["source", "mtime"], limit=100)
    return {row["source"]: dict(row) for row in found}


def sources(collection, folder: Path) -> set[str]:
    return {Path(source).relative_to(folder).as_posix() for source in rows(collection)}


def once(collection, folder: Path, **options) -> WatchSummary:
    return Watch(collection, folder, **{"settle": 0.1, **options}).once()


# --- one comparison ---


def test_a_comparison_adds_changes_moves_and_deletes(collection, folder) -> None:
    assert once(collection, folder).indexed == 3
    photo(folder / "a.png", (0, 0, 0), when=OLD + 7)
    (folder / "b.png").rename(folder / "moved.png")
    (folder / "sub" / "c.png").unlink()
    photo(folder / "new" / "d.png")
    summary = once(collection, folder)
    assert (summary.indexed, summary.deleted, summary.failed, summary.kept) == (3, 2, {}, 0)
    assert sources(collection, folder) == {"a.png", "moved.png", "new/d.png"}
    assert rows(collection)[f"{folder}/a.png"]["mtime"] == (OLD + 7) * 1000
    again = once(collection, folder)
    assert (again.indexed, again.deleted) == (0, 0)


def test_only_rows_below_the_folder_are_deleted(collection, folder, photo_vectors) -> None:
    near = folder.with_name("photos2") / "x.png"  # whose name begins as the folder's does
    elsewhere = [near.as_posix(), "/photos/0.jpg", "https://host/a.jpg", f"{folder}x/y.png"]
    collection.upsert([PhotoVector(f"e{i}", one, 1, 1, photo_vectors[i].vector) for i, one in enumerate(elsewhere)])
    once(collection, folder)
    (folder / "a.png").unlink()
    assert once(collection, folder).deleted == 1
    assert set(elsewhere) <= set(rows(collection))


@pytest.mark.parametrize("name", ["100%_of\\it", "a_b", 'quo"te', "ä ö"])
def test_names_that_mean_something_to_a_filter(collection, tmp_path, name) -> None:
    folder, near = tmp_path / name, tmp_path / name.replace("_", "x").replace("%", "y").replace("ä", "a")
    for one in {folder, near}:
        photo(one / "a.png")
        photo(one / "b.png")
        once(collection, one)
    (folder / "a.png").unlink()
    if near != folder:
        (near / "a.png").unlink()
    assert once(collection, folder).deleted == 1
    assert f"{folder}/b.png" in rows(collection)
    assert (f"{near}/a.png" in rows(collection)) is (near != folder)


def test_a_row_under_an_id_of_its_own_is_its_owner_s(collection, folder, photo_vectors) -> None:
    collection.upsert([PhotoVector("mine", f"{folder}/gone.png", 1, 1, photo_vectors[0].vector)])
    assert once(collection, folder).deleted == 0
    assert "mine" in collection.existing(["mine"])


def test_photos_of_an_archive_go_with_the_archive(collection, folder, tmp_path) -> None:
    import zipfile

    with zipfile.ZipFile(folder / "p.zip", "w") as archive:
        archive.write(folder / "a.png", "in.png")
    collection.ingest(folder / "p.zip")
    assert once(collection, folder).deleted == 0
    assert f"{folder}/p.zip!/in.png" in rows(collection)
    (folder / "p.zip").unlink()
    assert once(collection, folder).deleted == 1


@pytest.mark.parametrize("how", ["emptied", "vanished"])
def test_a_folder_without_photos_deletes_nothing_unless_that_is_meant(collection, folder, how) -> None:
    once(collection, folder)
    told: list[str] = []
    watch = Watch(collection, folder, settle=0.1, tell=told.append)
    meant = Watch(collection, folder, settle=0.1, allow_empty=True)
    shutil.rmtree(folder)
    if how == "emptied":
        folder.mkdir()
    summary = watch.once()
    assert (summary.deleted, summary.kept, collection.count()) == (0, 3, 3)
    assert "holds no photo, and 3 rows below it are kept" in told[-1]
    assert "--allow-empty" in told[-1]
    assert meant.once().deleted == 3
    assert collection.count() == 0


def test_a_folder_that_is_not_there_at_the_start(collection, tmp_path) -> None:
    with pytest.raises(SourceError, match="no such folder to watch; check the path, and whether it is mounted"):
        Watch(collection, tmp_path / "none")


def test_a_file_that_may_not_be_looked_at_is_not_taken_for_gone(collection, folder, monkeypatch) -> None:
    once(collection, folder)
    real = os.stat

    def denied(path, *rest, **more):
        if str(path).endswith("c.png"):
            raise PermissionError(13, "Permission denied")
        return real(path, *rest, **more)

    monkeypatch.setattr(os, "stat", denied)
    assert once(collection, folder).deleted == 0


def test_a_file_that_is_being_written_is_waited_for(collection, folder) -> None:
    whole = photo(folder / "big.png").read_bytes()
    (folder / "big.png").write_bytes(whole[:40])

    def finish() -> None:
        for end in (50, 60, len(whole)):
            time.sleep(0.15)
            (folder / "big.png").write_bytes(whole[:end])

    writer = threading.Thread(target=finish)
    writer.start()
    summary = once(collection, folder, settle=0.4)
    writer.join()
    assert (summary.indexed, summary.failed, summary.unsettled) == (4, {}, 0)


def test_a_file_that_never_settles_is_left_and_counted(collection, folder, monkeypatch) -> None:
    monkeypatch.setattr("compsketch_milvus.watch.PATIENCE", 2)
    over = threading.Event()

    def scribble() -> None:
        size = 1
        while not over.wait(0.02):
            size += 1
            (folder / "log.png").write_bytes(b"x" * size)

    writer = threading.Thread(target=scribble)
    writer.start()
    time.sleep(0.1)
    summary = once(collection, folder, settle=0.3)
    over.set()
    writer.join()
    assert (summary.indexed, summary.unsettled) == (3, 1)


def test_a_bad_photo_is_told_once_until_it_changes(collection, folder) -> None:
    (folder / "bad.png").write_bytes(b"no photo")
    os.utime(folder / "bad.png", (OLD, OLD))
    told: list[str] = []
    watch = Watch(collection, folder, settle=0.1, tell=told.append)
    watch.once()
    watch.once()
    assert list(watch.summary.failed) == [f"{folder}/bad.png"]
    assert sum("bad.png" in line for line in told) == 1
    photo(folder / "bad.png", when=OLD + 1)
    assert watch.once().failed == {}
    assert "bad.png" in sources(collection, folder)


def test_a_photo_that_may_be_read_by_now_is_tried_again(collection, folder, monkeypatch) -> None:
    """Neither its size nor its time of modification tells of that."""
    bad = photo(folder / "bad.png")

    def denied(path: Path, *rest, **more):
        if Path(path) == bad:
            raise PermissionError(13, "Permission denied")
        return open(path, *rest, **more)

    monkeypatch.setattr("encoders.images.open", denied, raising=False)
    watch = Watch(collection, folder, settle=0.1)
    assert list(watch.once().failed) == [str(bad)]
    monkeypatch.undo()
    bad.chmod(0o600)
    assert (watch.once().failed, watch.summary.indexed) == ({}, 4)


def test_a_bad_photo_that_has_gone_is_no_failure_any_more(collection, folder) -> None:
    for bad in (folder / "bad.png", folder / "sub" / "bad.png"):
        bad.write_bytes(b"no photo")
        os.utime(bad, (OLD, OLD))
    watch = Watch(collection, folder, settle=0.1)
    assert len(watch.once().failed) == 2
    (folder / "bad.png").unlink()
    watch._heed([(3, f"{folder}/bad.png")])
    assert list(watch.summary.failed) == [f"{folder}/sub/bad.png"]
    (folder / "sub" / "bad.png").unlink()
    assert watch.once().failed == {}


def test_an_event_of_what_may_not_be_looked_at_ends_nothing(collection, folder, monkeypatch) -> None:
    once(collection, folder)
    real = os.stat

    def denied(path, *rest, **more):
        if str(path).endswith("c.png"):
            raise PermissionError(13, "Permission denied")
        return real(path, *rest, **more)

    watch = Watch(collection, folder, settle=0.1)
    monkeypatch.setattr(os, "stat", denied)
    watch._heed([(2, f"{folder}/sub/c.png")])
    monkeypatch.undo()
    assert "sub/c.png" in sources(collection, folder)


def test_more_files_than_can_wait_are_found_by_the_next_comparison(collection, folder, monkeypatch) -> None:
    monkeypatch.setattr("compsketch_milvus.watch.MAX_WAITING", 2)
    for number in range(5):
        photo(folder / f"{number}.png", when=None)
    watch = Watch(collection, folder, settle=0.2)
    watch._compare_at = 1e12
    assert watch.once().indexed == 5
    assert watch._compare_at < 1e12
    time.sleep(0.3)
    assert watch.once().indexed == 8


# --- events ---


@pytest.fixture
def running(collection) -> Iterator[Callable[..., Watch]]:
    """Start a watch in a thread; it is stopped, and its errors raised, at the end."""
    pytest.importorskip("watchfiles")
    stop, threads, errors = threading.Event(), [], []

    def start(folder: Path, **options) -> Watch:
        watch = Watch(collection, folder, **{"settle": 0.2, "rescan": 600.0, "stop": stop, **options})

        def run() -> None:
            try:
                watch.run()
            except BaseException as error:
                errors.append(error)

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        eventually(lambda: watch.summary.comparisons >= 1 and not watch._waiting and watch.summary.indexed >= 3)
        return watch

    yield start
    stop.set()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert not errors


def eventually(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


def test_events_keep_the_two_in_step(collection, folder, running) -> None:
    watch = running(folder)
    photo(folder / "new.png", when=None)
    photo(folder / "a.png", (0, 0, 0), when=None)
    (folder / "b.png").unlink()
    (folder / "sub").rename(folder / "moved")
    (folder / "notes.txt").write_text("no photo")
    photo(folder / ".hidden" / "h.png", when=None)
    expected = {"a.png", "new.png", "moved/c.png"}
    eventually(lambda: watch.summary.deleted >= 2 and watch.summary.indexed >= 6)
    assert sources(collection, folder) == expected
    assert rows(collection)[f"{folder}/a.png"]["mtime"] > (OLD + 1) * 1000
    assert watch.summary.comparisons == 1


def test_a_folder_moved_in_with_its_photos_and_out_again(collection, folder, running, tmp_path) -> None:
    for number in range(3):
        photo(tmp_path / "other" / f"{number}.png")
    watch = running(folder)
    (tmp_path / "other").rename(folder / "in")
    eventually(lambda: watch.summary.indexed >= 6)
    (folder / "in").rename(tmp_path / "out")
    eventually(lambda: watch.summary.deleted >= 3)
    assert sources(collection, folder) == {"a.png", "b.png", "sub/c.png"}


def test_what_no_event_told_of_is_found_at_the_interval(collection, folder, running, monkeypatch) -> None:
    watch = running(folder, rescan=1.0)
    monkeypatch.setattr(watch, "_heed", lambda changes: None)
    photo(folder / "new.png")
    (folder / "b.png").unlink()
    eventually(lambda: watch.summary.indexed >= 4 and watch.summary.deleted >= 1)


def test_a_folder_that_goes_away_and_comes_back(collection, folder, running, tmp_path) -> None:
    told: list[str] = []
    watch = running(folder, rescan=1.0, tell=told.append)
    folder.rename(tmp_path / "unmounted")
    eventually(lambda: any("holds no photo" in line for line in told))
    (tmp_path / "unmounted").rename(folder)
    photo(folder / "new.png")
    eventually(lambda: watch.summary.indexed >= 4)
    assert watch.summary.deleted == 0
    assert collection.count() == 4


def test_a_folder_without_events_is_compared_at_intervals(collection, folder, running, monkeypatch) -> None:
    def none(*_: object, **__: object) -> Iterator[set]:
        raise OSError(28, "inotify watch limit reached")
        yield

    monkeypatch.setattr("watchfiles.watch", none)
    told: list[str] = []
    watch = running(folder, rescan=1.0, tell=told.append)
    assert "gives no events" in told[0]
    photo(folder / "new.png")
    eventually(lambda: watch.summary.indexed >= 4)


def test_a_server_that_goes_away_is_waited_for(collection, folder, running, monkeypatch) -> None:
    monkeypatch.setattr("compsketch_milvus.watch.RETRY_SECONDS", 0.5)
    told: list[str] = []
    watch = running(folder, tell=told.append)
    real, away = type(collection).ingest, threading.Event()
    away.set()

    def ingest(self, *rest, **more):
        if away.is_set():
            raise ServerError("no Milvus answers")
        return real(self, *rest, **more)

    monkeypatch.setattr(type(collection), "ingest", ingest)
    photo(folder / "new.png", when=None)
    eventually(lambda: any("no Milvus answers; trying again in 0.5 s" in line for line in told))
    away.clear()
    eventually(lambda: watch.summary.indexed >= 4)


def test_a_library_that_is_not_installed(collection, folder, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    with pytest.raises(SourceError, match=r'pip install "compsketch-milvus\[watch\]"'):
        Watch(collection, folder).run()


# --- the command ---

PROGRAM = """
    from compsketch_milvus import encoder
    from compsketch_milvus.cli import main
    from toy import ToyEncoder

    encoder.connect = lambda spec=None, **options: ToyEncoder()
    main()
"""


def program(folder: Path, tmp_path: Path, *flags: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests'}"}
    arguments = ["watch", str(folder), "--uri", str(tmp_path / "p.db"), "--json", "--settle", "0.2", *flags]
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_once_from_the_command_line(folder, tmp_path) -> None:
    (folder / "bad.png").write_bytes(b"no photo")
    with program(folder, tmp_path, "--once") as running:
        out, err = running.communicate(timeout=60)
    answer = json.loads(out)
    assert running.returncode == 1, err
    assert (answer["indexed"], answer["deleted"], answer["comparisons"]) == (3, 0, 1)
    assert [failure["source"] for failure in answer["failed"]] == [f"{folder}/bad.png"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_a_watch_with_its_summary(folder, tmp_path, number, status) -> None:
    pytest.importorskip("watchfiles")
    with program(folder, tmp_path) as running:
        assert running.stderr is not None
        while "3 indexed" not in running.stderr.readline():
            assert running.poll() is None
        running.send_signal(number)
        out, err = running.communicate(timeout=60)
    assert running.returncode == status, err
    assert "Traceback" not in err
    assert json.loads(out)["indexed"] == 3
