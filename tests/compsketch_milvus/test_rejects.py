"""The reject file: every failure a line, on the disk before it is counted, and a source for the next ingest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from compsketch_milvus import tally
from compsketch_milvus.errors import IngestError, SourceError
from compsketch_milvus.ingest import ingest
from compsketch_milvus.records import ImageRecord
from compsketch_milvus.rejects import Rejects
from compsketch_milvus.sources import stream


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two photos and three files that are none, listed in list.csv with years."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.png").write_bytes(b"junk")
    for number in (1, 3):
        Image.new("RGB", (40, 30), (number * 20,) * 3).save(folder / f"{number}.png")
    rows = [f"{number}.png,{2000 + number},ä {number}" for number in range(5)]
    (folder / "list.csv").write_text("\n".join(["path,year,caption", *rows]), encoding="utf-8")
    return folder


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_failure_is_a_line_with_all_that_is_needed_to_try_again(open_collection, photos, tmp_path):
    rejects, collection = tmp_path / "rejects.jsonl", open_collection()
    assert ingest(collection, photos / "list.csv", rejects=rejects).indexed == 2
    found = sorted(lines(rejects), key=lambda line: line["source"])
    assert [Path(line["source"]).name for line in found] == ["0.png", "2.png", "4.png"]
    assert [line["fields"] for line in found] == [{"year": 2000 + n, "caption": f"ä {n}"} for n in (0, 2, 4)]
    assert all(line["reason"].startswith("not a photo in a known format") for line in found)
    assert all(set(line) == {"source", "id", "reason", "fields"} for line in found)


def test_a_reject_file_is_a_source_and_fields_come_back(open_collection, photos, tmp_path):
    rejects, collection = tmp_path / "rejects.jsonl", open_collection()
    ingest(collection, photos / "list.csv", rejects=rejects)
    for number in (0, 2):
        Image.new("RGB", (50, 30), (number,) * 3).save(photos / f"{number}.png")
    summary = ingest(collection, rejects, rejects=tmp_path / "again.jsonl")
    assert (summary.read, summary.indexed, summary.failures) == (3, 2, 1)
    assert [Path(line["source"]).name for line in lines(tmp_path / "again.jsonl")] == ["4.png"]
    ids = [line["id"] for line in lines(rejects)]
    rows = collection.stored(ids, ["year", "caption", "reason", "fields", "bytes"])
    assert sorted((row["year"], row["caption"], *sorted(set(row) - {"bytes"})) for row in rows.values()) == [
        (2000, "ä 0", "caption", "year"),
        (2002, "ä 2", "caption", "year"),
    ]
    assert ingest(collection, photos / "list.csv").skipped == 4  # the row is the one that the manifest would make


def test_an_id_of_ones_own_comes_back(open_collection, photos, tmp_path):
    rejects, collection = tmp_path / "rejects.jsonl", open_collection()
    file = photos.resolve() / "0.png"
    ingest(collection, [ImageRecord("mine", str(file), path=file)], rejects=rejects)
    Image.new("RGB", (50, 30)).save(file)
    assert ingest(collection, rejects).indexed == 1
    assert collection.existing(["mine"]) == {"mine"}
    assert collection.count() == 1


def test_it_is_complete_beyond_the_failures_that_a_summary_keeps(open_collection, tmp_path, monkeypatch):
    monkeypatch.setattr(tally, "MAX_FAILURES", 3)
    rejects = tmp_path / "rejects.jsonl"
    records = [ImageRecord(str(number), f"junk {number}", data=b"junk") for number in range(20)]
    summary = ingest(open_collection(), records, rejects=rejects)
    assert (len(summary.failed), summary.failures) == (3, 20)
    assert sorted(int(line["id"]) for line in lines(rejects)) == list(range(20))


def test_what_a_source_refuses_is_in_it_too(open_collection, photos, tmp_path):
    rejects = tmp_path / "rejects.jsonl"
    ingest(open_collection(), [photos / "nowhere.png", photos / "1.png"], rejects=rejects)
    (line,) = lines(rejects)
    assert line["source"].endswith("nowhere.png")
    assert "no such file" in line["reason"]


def test_fields_and_id_outlast_any_number_of_reject_files(open_collection, photos, tmp_path):
    """A photo that its source refuses (a link to itself), and one in an archive that is not there yet."""
    (photos / "loop.png").symlink_to("loop.png")
    (photos / "list.csv").write_text("path,year\nloop.png,1999\nlater.zip!/a.png,2001\n")
    collection, last = open_collection(), photos / "list.csv"
    for number in range(3):
        rejects = tmp_path / f"{number}.jsonl"
        assert ingest(collection, last, rejects=rejects).failures == 2
        assert sorted(line["fields"]["year"] for line in lines(rejects)) == [1999, 2001]
        last = rejects
    first, third = (sorted(line["id"] for line in lines(tmp_path / f"{number}.jsonl")) for number in (0, 2))
    assert first == third


def test_an_archive_is_read_once_for_all_that_failed_in_it(open_collection, tmp_path, monkeypatch):
    names = [f"{number}.png" for number in range(9)]
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive, tarfile.open(tmp_path / "p.tar", "w") as tar:
        for name in names:
            archive.writestr(name, b"junk")
            tar.addfile(tarfile.TarInfo(name))
    rejects, again, collection = tmp_path / "rejects.jsonl", tmp_path / "again.jsonl", open_collection()
    for packed in ("p.zip", "p.tar"):
        ingest(collection, tmp_path / packed, rejects=rejects)
    opened, real = [], stream.read_archive
    monkeypatch.setattr(stream, "read_archive", lambda name, *rest: opened.append(Path(name).name) or real(name, *rest))
    assert ingest(collection, rejects, rejects=again).failures == 18
    assert [Path(name).name for name in opened] == ["p.zip", "p.tar"]
    assert sorted((line["source"], line["id"]) for line in lines(again)) == sorted(
        (line["source"], line["id"]) for line in lines(rejects)
    )
    (tmp_path / "p.tar").write_bytes(b"")
    (tmp_path / "p.zip").unlink()
    last = tmp_path / "last.jsonl"
    assert ingest(collection, again, rejects=last).failures == 18
    assert {line["reason"].partition("; ")[2] for line in lines(last)} == {"check the path", "make the archive anew"}
    assert {line["id"] for line in lines(last)} == {line["id"] for line in lines(rejects)}


def test_a_line_is_there_once_it_is_counted(open_collection, photos, tmp_path):
    rejects = tmp_path / "rejects.jsonl"
    seen = []
    ingest(
        open_collection(),
        photos,
        rejects=rejects,
        progress=lambda progress: seen.append(progress.failed <= len(lines(rejects))),
    )
    assert all(seen)


def test_it_is_appended_to_and_a_line_that_was_cut_spoils_no_other(tmp_path):
    path = tmp_path / "rejects.jsonl"
    path.write_text('{"source": "a", "rea')
    for name in ("b", "c"):
        with Rejects(path) as rejects:
            rejects.add(ImageRecord(name, name), "no photo")
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()[1:]] == ["b", "c"]


def test_several_threads_and_processes_append_whole_lines(tmp_path):
    path = tmp_path / "rejects.jsonl"
    program = (
        "import sys; from compsketch_milvus.rejects import Rejects; from compsketch_milvus.records import ImageRecord\n"
        "with Rejects(sys.argv[1]) as rejects:\n"
        "    for number in range(100): rejects.add(ImageRecord(str(number), 'x' * 3000), 'no photo')"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(path)]) as other, Rejects(path) as rejects:
        add = [lambda: [rejects.add(ImageRecord("t", "y" * 3000), "no photo") for _ in range(50)]] * 2
        threads = [threading.Thread(target=work) for work in add]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert other.wait(60) == 0
    assert len(lines(path)) == 200


def test_the_source_itself_is_refused_before_it_grows_for_ever(open_collection, photos, tmp_path):
    rejects = tmp_path / "rejects.jsonl"
    rejects.write_text(json.dumps({"source": str(photos / "0.png"), "id": "a", "reason": "", "fields": {}}) + "\n")
    with pytest.raises(SourceError, match="is the source itself; give another file"):
        ingest(open_collection(), [photos, str(rejects)], rejects=rejects)


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_read(open_collection, photos, tmp_path):
    collection = open_collection()
    with pytest.raises(SourceError, match=r"cannot be written .*give another --rejects"):
        ingest(collection, photos, rejects=tmp_path / "none" / "rejects.jsonl")
    assert collection.count() == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_stops_the_ingest_and_the_photo_is_not_counted(open_collection, photos, tmp_path):
    (tmp_path / "full.jsonl").symlink_to("/dev/full")
    with pytest.raises(IngestError, match=r"full\.jsonl: cannot be written \(No space left on device\)") as caught:
        ingest(open_collection(), photos, rejects=tmp_path / "full.jsonl")
    assert caught.value.summary.failures == 0


def test_a_disk_that_fills_in_the_middle_of_a_line_leaves_whole_lines(tmp_path, monkeypatch):
    path, real = tmp_path / "rejects.jsonl", os.write
    with Rejects(path) as rejects:
        rejects.add(ImageRecord("a", "a"), "no photo")
        monkeypatch.setattr(os, "write", lambda file, data: real(file, data[:9]))
        with pytest.raises(SourceError, match="No space left on device"):
            rejects.add(ImageRecord("b", "b"), "no photo")
        monkeypatch.undo()
        rejects.add(ImageRecord("c", "c"), "no photo")
    assert [line["id"] for line in lines(path)] == ["a", "c"]


def test_a_thread_that_was_left_behind_writes_into_no_other_file(tmp_path):
    with Rejects(tmp_path / "rejects.jsonl") as rejects:
        pass
    with open(tmp_path / "other", "w+b") as other:  # which gets the number that is free now
        with pytest.raises(SourceError, match="cannot be written"):
            rejects.add(ImageRecord("a", "a"), "no photo")
        assert other.read() == b""


@pytest.mark.parametrize("name", ["list.csv", "rejects.txt", "rejects"])
def test_a_name_under_which_it_could_not_be_ingested_is_refused(open_collection, photos, name):
    before = sorted((path.name, path.stat().st_size) for path in photos.iterdir())
    with pytest.raises(SourceError, match=r"a reject file is a \.jsonl"):
        ingest(open_collection(), photos, rejects=photos / name)
    assert sorted((path.name, path.stat().st_size) for path in photos.iterdir()) == before


def test_a_pattern_that_names_the_reject_file_too_comes_to_an_end(open_collection, photos):
    rejects, row = photos / "z.jsonl", {"id": "a", "reason": "", "fields": {}}
    rejects.write_text(json.dumps({"source": str(photos / "0.png"), **row}) + "\n")
    summary = ingest(open_collection(), f"{photos}/*.jsonl", rejects=rejects)
    assert (summary.read, summary.failures, len(lines(rejects))) == (1, 1, 2)


def test_a_source_with_no_such_user_s_folder_is_one_of_the_failures(open_collection, photos, tmp_path):
    summary = ingest(open_collection(), ["~nobody-here/a.png", photos], rejects=tmp_path / "rejects.jsonl")
    assert (summary.indexed, summary.failures) == (2, 4)
