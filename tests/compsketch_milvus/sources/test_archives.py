"""Zip and tar archives become records without being unpacked; what is wrong with a member costs that member alone."""

from __future__ import annotations

import gzip
import io
import json
import random
import struct
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compsketch_milvus.errors import SourceError
from compsketch_milvus.records import ImageRecord
from compsketch_milvus.sources import archives, iterate
from compsketch_milvus.sources.access import Access
from compsketch_milvus.sources.archives import read_archive
from compsketch_milvus.sources.naming import source_id
from encoders.errors import ImageError
from encoders.images import Limits

SMALL = Access(Limits(max_bytes=100))


def tar(path: Path, members: Mapping[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            header = tarfile.TarInfo(name)
            header.size, header.mtime = len(data), 1_700_000_000
            archive.addfile(header, io.BytesIO(data))
    return path


def zipped(path: Path, members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, (2023, 11, 14, 22, 13, 20)), data, method)
    return path


def contents(records: list[ImageRecord]) -> dict[str, bytes]:
    return {record.source.rpartition("!/")[2]: record.content(1000) for record in records if not record.error}


def errors(records: list[ImageRecord]) -> dict[str, str]:
    return {record.source.rpartition("/")[2]: record.error for record in records if record.error}


PHOTOS = {"b.jpg": b"bee", "sub/a.PNG": b"ay", "notes.md": b"-", ".hidden.jpg": b"-", "__MACOSX/._b.jpg": b"-"}


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("p.zip", zipped),
        ("p.tar", tar),
        ("p.tgz", lambda path, members: tar(path, members, "w:gz")),
        ("p.tar.gz", lambda path, members: tar(path, members, "w:gz")),
    ],
)
def test_the_photos_of_an_archive_in_its_order(tmp_path, name, make) -> None:
    path = make(tmp_path / name, PHOTOS)
    records = list(iterate(path))
    assert contents(records) == {"b.jpg": b"bee", "sub/a.PNG": b"ay"}
    assert records[0].source == f"{path}!/b.jpg"
    assert records[0].id == source_id(f"{path}!/b.jpg")
    assert (records[0].fields["bytes"], records[0].fields["mtime"]) == (3, 1_700_000_000_000)
    assert sorted(tmp_path.iterdir()) == [path]  # nothing was unpacked


def test_a_tar_of_zstandard(tmp_path) -> None:
    zstandard = pytest.importorskip("zstandard")
    plain = tar(tmp_path / "p.tar", PHOTOS).read_bytes()
    half = len(plain) // 2
    frames = [zstandard.ZstdCompressor().compress(part) for part in (plain[:half], plain[half:])]
    (tmp_path / "p.tar.zst").write_bytes(b"".join(frames))
    assert contents(list(iterate(tmp_path / "p.tar.zst"))) == {"b.jpg": b"bee", "sub/a.PNG": b"ay"}


def test_zstandard_that_is_not_installed(tmp_path, monkeypatch) -> None:
    (tmp_path / "p.tar.zst").write_bytes(b"x")
    monkeypatch.setitem(__import__("sys").modules, "zstandard", None)
    with pytest.raises(SourceError, match=r'p\.tar\.zst: .*pip install "compsketch-milvus\[data\]"'):
        list(iterate(tmp_path / "p.tar.zst"))


def test_a_zip_shows_a_change_without_reading_the_photo(tmp_path) -> None:
    (before,) = iterate(zipped(tmp_path / "p.zip", {"a.jpg": b"one"}))
    (after,) = iterate(zipped(tmp_path / "p.zip", {"a.jpg": b"two"}))
    assert before.data is after.data is None
    assert before.fields["etag"] != after.fields["etag"]


def test_records_of_a_zip_outlive_its_reader(tmp_path) -> None:
    records = list(iterate(zipped(tmp_path / "p.zip", {f"{i}.jpg": bytes([i]) * 10 for i in range(20)})))
    assert [record.content(100) for record in reversed(records)] == [bytes([i]) * 10 for i in reversed(range(20))]


def test_members_over_the_limit_are_refused_by_name(tmp_path) -> None:
    members = {"a.jpg": b"x" * 101, "b.jpg": b"y" * 100}
    for path in (zipped(tmp_path / "p.zip", members), tar(tmp_path / "p.tar", members)):
        records = list(iterate(path, SMALL))
        assert contents(records) == {"b.jpg": b"y" * 100}
        assert errors(records) == {"a.jpg": "101 bytes, over the limit of 100; save it smaller"}


def test_a_zip_bomb_that_understates_its_size_costs_no_more_than_it_states(tmp_path) -> None:
    path = zipped(tmp_path / "p.zip", {"a.jpg": b"\0" * 10_000_000, "b.jpg": b"bee"})
    data = path.read_bytes()
    lying = data.replace(struct.pack("<L", 10_000_000), struct.pack("<L", 50))
    path.write_bytes(lying)
    bomb, other = iterate(path, SMALL)
    with pytest.raises(ImageError, match=r"p\.zip!/a\.jpg: damaged in the archive .*make the archive anew"):
        bomb.content(100)
    assert other.content(100) == b"bee"


def test_a_photo_as_large_as_the_reader_allows_but_not_the_ingest(tmp_path) -> None:
    (record,) = iterate(zipped(tmp_path / "p.zip", {"a.jpg": b"x" * 100}))
    with pytest.raises(ImageError, match="100 bytes, over the limit of 99"):
        record.content(99)


def test_encrypted_members_are_refused_and_the_others_go_on(tmp_path) -> None:
    path = zipped(tmp_path / "p.zip", {"a.jpg": b"secret", "b.jpg": b"bee"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1  # the flag in the table
    path.write_bytes(data)
    records = list(iterate(path))
    assert errors(records) == {"a.jpg": "encrypted; unpack the archive with its password"}
    assert contents(records) == {"b.jpg": b"bee"}


def test_a_method_whose_memory_has_no_bound_is_refused(tmp_path) -> None:
    records = list(iterate(zipped(tmp_path / "p.zip", {"a.jpg": b"x"}, zipfile.ZIP_BZIP2)))
    assert errors(records) == {"a.jpg": "compressed by method 12; pack it with deflate, or not at all"}


def test_a_table_of_members_too_large_to_hold(tmp_path, monkeypatch) -> None:
    path = zipped(tmp_path / "p.zip", {f"{i}.jpg": b"x" for i in range(10)})
    monkeypatch.setattr(archives, "MAX_TABLE", 500)
    with pytest.raises(SourceError, match=r"p\.zip: its table of members has 510 bytes, over the limit of 500; split"):
        list(iterate(path))


def test_a_damaged_member_of_a_zip_fails_alone_when_it_is_read(tmp_path) -> None:
    path = zipped(tmp_path / "p.zip", {"a.jpg": b"first photo", "b.jpg": b"bee"}, zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"first photo", b"fIrst photo"))
    first, second = iterate(path)
    with pytest.raises(ImageError, match=r"a\.jpg: damaged in the archive \(Bad CRC-32"):
        first.content(100)
    assert second.content(100) == b"bee"


@pytest.mark.parametrize("name", ["p.zip", "p.tar", "p.tar.gz"])
@pytest.mark.parametrize("data", [b"", b"rubbish" * 200, b"PK\5\6", b"\x1f\x8b\x08rubbish"])
def test_what_is_no_archive_says_so(tmp_path, name, data) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(SourceError, match=rf"{name}: damaged or cut short \(.*make the archive anew"):
        list(iterate(tmp_path / name))


@pytest.mark.parametrize("name", ["p.tar", "p.tar.gz"])
def test_a_tar_that_is_cut_short_gives_what_is_whole_and_tells_of_the_rest(tmp_path, name) -> None:
    noise = random.Random(7)
    whole = tar(tmp_path / name, {f"{i}.jpg": noise.randbytes(4000) for i in range(9)}, "w:gz" if "gz" in name else "w")
    data = whole.read_bytes()
    whole.write_bytes(data[: len(data) // 2])
    records = list(iterate(whole))
    assert 2 < len(contents(records)) < 6
    assert records[-1].source == str(whole)
    assert "what follows in it was not read: make the archive anew" in (records[-1].error or "")


def test_a_tar_that_lacks_only_its_end_is_no_whole_archive(tmp_path) -> None:
    path = tar(tmp_path / "p.tar", {"a.jpg": b"x" * 512})
    path.write_bytes(path.read_bytes()[:1024])  # header and data, cut between two members
    assert list(errors(list(iterate(path)))) == ["p.tar"]


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path) -> None:
    path = tar(tmp_path / "p.tar", {f"{i}.jpg": b"x" * 512 for i in range(3)})
    data = bytearray(path.read_bytes())
    data[1024 + 150] ^= 0xFF  # within the second header's checksum
    path.write_bytes(data)
    records = list(iterate(path))
    assert list(contents(records)) == ["0.jpg"]
    assert list(errors(records)) == ["p.tar"]


def test_a_header_as_long_as_a_disk_is_not_read(tmp_path) -> None:
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 2**33
    (tmp_path / "p.tar").write_bytes(header.tobuf(tarfile.GNU_FORMAT))
    with pytest.raises(SourceError, match="a header of 8589934592 bytes, over the limit of 1048576"):
        list(iterate(tmp_path / "p.tar"))


def test_links_in_a_tar_are_refused_by_name(tmp_path) -> None:
    with tarfile.open(tmp_path / "p.tar", "w") as archive:
        link = tarfile.TarInfo("a.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert errors(list(iterate(tmp_path / "p.tar"))) == {"a.jpg": "a link, not a file; pack the photo itself"}


def test_what_grows_out_of_proportion_is_left(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(archives, "GROWTH_FROM", 1024**2)
    path = tmp_path / "p.tar.gz"
    with gzip.open(path, "wb") as file, tarfile.open(fileobj=file, mode="w") as archive:
        for name, data in {"a.jpg": b"ay", "b.bin": b"\0" * 30_000_000, "c.jpg": b"see"}.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    records = list(iterate(path))
    assert list(contents(records)) == ["a.jpg"]
    assert "grows more than 100 times as it is unpacked" in (records[-1].error or "")


def test_a_long_tar_does_not_keep_its_members(tmp_path, monkeypatch) -> None:
    path = tar(tmp_path / "p.tar", {f"{i}.jpg": b"x" for i in range(50)})
    kept, real = [], tarfile.TarFile.next

    def counting(self: tarfile.TarFile) -> tarfile.TarInfo | None:
        kept.append(len(self.members))
        return real(self)

    monkeypatch.setattr(tarfile.TarFile, "next", counting)
    assert len(list(iterate(path))) == 50
    assert max(kept) <= 1


def test_an_iterable_goes_on_after_a_damaged_archive(tmp_path) -> None:
    (tmp_path / "bad.zip").write_bytes(b"rubbish")
    good = zipped(tmp_path / "good.zip", {"a.jpg": b"ay"})
    records = list(iterate([tmp_path / "bad.zip", good]))
    assert list(errors(records)) == ["bad.zip"]
    assert contents(records) == {"a.jpg": b"ay"}


# --- WebDataset ---

SHARD = {
    "n01/000.jpg": b"one",
    "n01/000.json": json.dumps({"year": 1999, "width": 640, "exif": {"iso": 100}, "none": None}).encode(),
    "n01/000.txt": b" two dogs \n",
    "n01/001.left.jpg": b"left",
    "n01/001.right.jpg": b"right",
    "n01/001.cls": b"7",
    "n01/001.txt": b"a cat",
    "n01/002.jpg": b"three",
}


def test_a_sample_s_json_and_txt_become_fields(tmp_path) -> None:
    records = list(iterate(tar(tmp_path / "shard.tar", SHARD)))
    facts = ("bytes", "mtime")
    own = [{name: value for name, value in record.fields.items() if name not in facts} for record in records]
    assert list(contents(records)) == ["n01/000.jpg", "n01/001.left.jpg", "n01/001.right.jpg", "n01/002.jpg"]
    first = {"year": 1999, "origin_width": 640, "exif": '{"iso": 100}', "caption": "two dogs", "__key__": "n01/000"}
    second = {"caption": "a cat", "__key__": "n01/001"}
    assert own == [first, second, second, {}]


@pytest.mark.parametrize("data", [b"{", b"\xff", b"[" * 100_000])
def test_a_sidecar_that_cannot_be_read_is_told_and_its_photo_stays(tmp_path, data) -> None:
    records = list(iterate(tar(tmp_path / "s.tar", {"a.jpg": b"ay", "a.json": data})))
    assert contents(records) == {"a.jpg": b"ay"}
    assert "not UTF-8 or not JSON" in errors(records)["a.json"]


def test_a_field_that_no_filter_could_name_refuses_its_photo(tmp_path) -> None:
    records = list(iterate(tar(tmp_path / "s.tar", {"a.json": b'{"my field": 1}', "a.jpg": b"x", "b.jpg": b"y"})))
    assert "could not be named in a filter" in errors(records)["a.jpg"]
    assert list(contents(records)) == ["b.jpg"]


def test_a_sample_that_is_too_much_to_hold_leaves_early_and_a_late_sidecar_is_told(tmp_path) -> None:
    members = {f"a.{i}.jpg": b"x" * 40 for i in range(5)} | {"a.txt": b"late"}
    records = list(iterate(tar(tmp_path / "s.tar", members), SMALL))
    assert len(contents(records)) == 5
    assert "comes too long after its photos" in errors(records)["a.txt"]


def test_shards_by_a_range_in_braces_go_on_after_a_missing_one(tmp_path) -> None:
    for number in (8, 9, 11):
        tar(tmp_path / f"shard-{number:03}.tar", {f"{number}.jpg": b"x"})
    records = list(iterate(f"{tmp_path}/shard-{{008..011}}.tar"))
    assert list(contents(records)) == ["8.jpg", "9.jpg", "11.jpg"]
    assert errors(records) == {"shard-010.tar": "no such file or folder; check the path"}


def test_two_ranges_and_one_that_is_none(tmp_path) -> None:
    tar(tmp_path / "a1-7.tar", {"x.jpg": b"x"})
    assert len(list(iterate(f"{tmp_path}/a{{0..1}}-{{6..7}}.tar"))) == 4
    with pytest.raises(SourceError, match=r"\{9\.\.1\} is no range of 1 to 1000000 numbers"):
        list(iterate(f"{tmp_path}/a{{9..1}}.tar"))


def test_a_pattern_of_archives(tmp_path) -> None:
    for name in ("a.tar", "b.tar"):
        tar(tmp_path / name, {"x.jpg": b"x"})
    assert {record.source for record in iterate(f"{tmp_path}/*.tar")} == {f"{tmp_path}/{n}.tar!/x.jpg" for n in "ab"}


@pytest.mark.parametrize("make", [zipped, tar])
def test_one_photo_of_an_archive_by_its_source(tmp_path, make) -> None:
    path = make(tmp_path / f"p.{'zip' if make is zipped else 'tar'}", PHOTOS)
    whole = {record.source: record.id for record in iterate(path)}
    (alone,) = iterate(f"{path}!/sub/a.PNG")
    assert alone.content(100) == b"ay"
    assert whole[alone.source] == alone.id
    with pytest.raises(SourceError, match=r"there is no such photo in .*check the name"):
        list(iterate(f"{path}!/none.jpg"))


@given(st.binary(max_size=3000), st.integers(0, 4000), st.sampled_from([".tar", ".tar.gz", ".zip", ".tar.zst"]))
def test_any_damage_is_a_record_or_a_source_error(data, place, suffix) -> None:
    buffer = io.BytesIO()
    if suffix == ".zip":
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("a.jpg", b"x" * 1000)
    else:
        with tarfile.open(fileobj=buffer, mode="w:gz" if suffix == ".tar.gz" else "w") as archive:
            header = tarfile.TarInfo("a.jpg")
            header.size = 1000
            archive.addfile(header, io.BytesIO(b"x" * 1000))
    whole = buffer.getvalue()
    damaged = whole[:place] + data + whole[place + len(data) :]
    told = []
    try:
        for record in read_archive(f"p{suffix}", lambda: io.BytesIO(damaged), SMALL):
            told.append(record.error or "")
            if not record.error:
                assert len(record.content(10_000)) <= 10_000
    except (SourceError, ImageError) as error:  # and nothing else
        told.append(str(error))
    assert told
