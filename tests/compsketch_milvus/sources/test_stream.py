"""Every kind of source becomes a stream of records; what is no source says so."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import zipfile
from pathlib import Path

import pytest

from compsketch_milvus.errors import SourceError
from compsketch_milvus.records import RESERVED_FIELDS, ImageRecord
from compsketch_milvus.sources import is_countable, iterate
from compsketch_milvus.sources.archives import container


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A small tree; the content does not matter to a source."""
    for name in (
        "b.jpg",
        "a.PNG",
        "notes.txt",
        ".hidden.jpg",
        "sub/c.webp",
        "sub/deep/d.jpeg",
        ".git/e.jpg",
        "ä ö.jpg",
    ):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 10)
    return tmp_path / "photos"


def names(source: object, root: Path) -> list[str]:
    return [Path(record.source).relative_to(root.resolve()).as_posix() for record in iterate(source)]


def test_a_folder_is_read_in_the_order_of_its_names_without_hidden_and_other_files(photos):
    assert names(photos, photos) == ["a.PNG", "b.jpg", "ä ö.jpg", "sub/c.webp", "sub/deep/d.jpeg"]


def test_a_record_tells_where_from_which_and_what_state(photos):
    os.utime(photos / "b.jpg", ns=(0, 1_700_000_000_123_456_789))
    (record,) = iterate(photos / "b.jpg")
    source = (photos / "b.jpg").resolve().as_posix()
    assert record == ImageRecord(
        id=hashlib.sha256(source.encode()).hexdigest()[:32],
        source=source,
        path=Path(source),
        fields={"bytes": 10, "mtime": 1_700_000_000_123},
    )


def test_the_id_is_the_same_by_whatever_way_a_photo_is_named(photos, monkeypatch):
    (by_path,) = iterate(str(photos / "b.jpg"))
    (by_glob,) = iterate(str(photos / "b*.jpg"))
    monkeypatch.chdir(photos / "sub")
    (relative,) = iterate("../b.jpg")
    (photos / "link.jpg").symlink_to("b.jpg")
    (linked,) = iterate(photos / "link.jpg")
    monkeypatch.setenv("HOME", str(photos))
    (home,) = iterate("~/b.jpg")
    assert {by_path.id, by_glob.id, relative.id, linked.id, home.id} == {by_path.id}
    assert len(by_path.id) == 32


def test_symlink_loops_end_and_each_folder_comes_once(photos):
    (photos / "sub" / "up").symlink_to(photos, target_is_directory=True)
    (photos / "sub" / "again").symlink_to(photos / "sub" / "deep", target_is_directory=True)
    (photos / "self").symlink_to(photos / "self")
    found = names(photos, photos)
    assert sorted(found) == ["a.PNG", "b.jpg", "sub/c.webp", "sub/deep/d.jpeg", "ä ö.jpg"]


def test_two_loops_under_a_double_star_end_too(photos):
    (photos / "one").symlink_to(photos, target_is_directory=True)
    (photos / "two").symlink_to(photos, target_is_directory=True)
    assert "sub/deep/d.jpeg" in names(f"{photos}/**/*.jpeg", photos)


def test_a_broken_link_is_left_for_the_reader_to_report(photos):
    (photos / "broken.jpg").symlink_to(photos / "gone.jpg")
    (photos / "round.jpg").symlink_to(photos / "round.jpg")
    records = {Path(record.source).name: record for record in iterate(photos)}
    assert records["gone.jpg"].error is None
    assert "bytes" not in records["gone.jpg"].fields
    assert "cannot be opened" in (records["round.jpg"].error or "")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jpg", {"b.jpg", "ä ö.jpg"}),
        ("**/*.jpeg", {"sub/deep/d.jpeg"}),
        ("*", {"a.PNG", "b.jpg", "ä ö.jpg"}),
        ("[ab].*", {"a.PNG", "b.jpg"}),
        ("su?/*", {"sub/c.webp"}),
    ],
)
def test_glob_patterns(photos, pattern, expected):
    assert set(names(str(photos / pattern), photos)) == expected


def test_a_name_with_brackets_is_a_file_first(photos):
    (photos / "c[1].jpg").write_bytes(b"x")
    assert names(str(photos / "c[1].jpg"), photos) == ["c[1].jpg"]


def test_iterables_mix_paths_and_records_and_go_on_after_a_bad_one(photos):
    mine = ImageRecord("mine", "camera 7", data=b"...", fields={"camera": 7})
    found = list(iterate(iter([photos / "sub", str(photos / "none.jpg"), mine])))
    assert [record.error is None for record in found] == [True, True, False, True]
    assert found[2].source == str(photos / "none.jpg")
    assert found[2].error == "no such file or folder; check the path"  # its name is in `source`
    assert found[3] is mine


def test_streaming_takes_one_photo_at_a_time():
    def endless():
        while True:
            yield ImageRecord("a", "a", data=b"")

    stream = iterate(endless())
    assert [next(stream).id for _ in range(3)] == ["a", "a", "a"]


def test_a_csv_gives_paths_relative_to_it_and_typed_fields(photos):
    manifest = photos / "list.csv"
    manifest.write_text(
        '\ufeffpath, year ,rating,zip,caption,done\nb.jpg,2019,4.5,01234,"red, green",true\nsub/c.webp,,nan,,x,1e999\n',
        encoding="utf-8",
    )
    first, second = iterate(manifest)
    assert first.source == (photos / "b.jpg").resolve().as_posix()
    own = {name: value for name, value in first.fields.items() if name not in ("bytes", "mtime")}
    assert own == {"year": 2019, "rating": 4.5, "zip": "01234", "caption": "red, green", "done": True}
    assert first.fields["bytes"] == 10
    assert second.fields["done"] == "1e999"
    assert "year" not in second.fields
    assert second.fields["rating"] == "nan"


@pytest.mark.parametrize("column", ["path", "file", "source", "image"])
@pytest.mark.parametrize("suffix", [".jsonl", ".ndjson", ".csv"])
def test_each_name_of_the_path_column(photos, column, suffix):
    manifest = photos / f"list{suffix}"
    absolute = str(photos / "b.jpg")
    text = f"{column},tag\n{absolute},7\n" if suffix == ".csv" else json.dumps({column: absolute, "tag": 7}) + "\n\n"
    manifest.write_text(text)
    (record,) = iterate(manifest)
    assert record.path == Path(absolute).resolve()
    assert record.fields["tag"] == 7


def test_a_row_without_its_file_is_left_for_the_reader_to_report(photos):
    (photos / "list.jsonl").write_text('{"path": "none.jpg"}\n')
    (record,) = iterate(photos / "list.jsonl")
    assert record.path == (photos / "none.jpg").resolve()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "m.csv",
            "name,year\nx,1\n",
            r"m\.csv, line 1: no path column; name one of the columns path, file, source, image",
        ),
        ("m.csv", "", r"m\.csv: lists no photos; give a manifest with at least one row"),
        ("m.csv", "path\n", "lists no photos"),
        ("m.csv", "name\n", "no path column"),
        ("m.csv", "path,path\na.jpg,b.jpg\n", "two columns have one name"),
        ("m.csv", "path,x\na.jpg\n", "line 2: expected 2 cells; quote commas"),
        ("m.csv", "path,x\na.jpg,1,2\n", "line 2: expected 2 cells"),
        ("m.csv", "path,x\n,1\n", "line 2: column path holds no path"),
        ("m.csv", 'path,x\na.jpg,"1\n', r"line \d: not CSV"),
        ("m.csv", "path,\na.jpg,1\n", "column '' could not be named in a filter; rename it"),
        ("m.csv", "path,$meta\na.jpg,1\n", "could not be named in a filter"),
        ("m.csv", "path,my column\na.jpg,1\n", "column 'my column' could not be named in a filter"),
        ("m.csv", "path,größe\na.jpg,1\n", "ASCII letters, digits and underscores"),
        ("m.csv", "path,LIKE\na.jpg,1\n", "column 'LIKE' could not be named in a filter"),
        ("m.jsonl", '{"name": 1}\n', "line 1: no path column"),
        ("m.jsonl", "\n{path}\n", r"m\.jsonl, line 2: not JSON"),
        ("m.jsonl", "[1]\n", "line 1: a list; give one object a line"),
        ("m.jsonl", '{"path": 7}\n', "column path holds no path"),
        ("m.jsonl", '{"path": "a.jpg", "x": [1]}\n', "column x holds a list; give a string, number or boolean"),
        ("m.jsonl", '{"path": "a.jpg", "x": NaN}\n', "column x holds nan; leave the cell empty"),
        ("m.jsonl", '{"path": "a.jpg", "x": 9223372036854775808}\n', "more than 64 bits; give it as a string"),
        ("m.jsonl", '{"path": "a.jpg", "x": "\\ud800"}\n', "column x holds text that is not UTF-8"),
        ("m.jsonl", "[" * 100_000 + "\n", "not JSON"),
        ("m.jsonl", f'{{"path": "{"x" * 2**20}"}}\n', "line 1: longer than 1048576 characters; give one object a line"),
        ("m.csv", f"path,x\na.jpg,{'x' * 131_073}\n", "line 2: a cell of more than 131072 characters; shorten it"),
        ("m.csv", 'path,x\na.jpg,"1\n' + "b.jpg,2\n" * 20_000, "close a quote that is left open"),
    ],
)
def test_malformed_manifests(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(SourceError, match=message):
        list(iterate(tmp_path / name))


@pytest.mark.parametrize("column", RESERVED_FIELDS)
def test_reserved_columns_are_named(tmp_path, column):
    (tmp_path / "m.csv").write_text(f"path,{column}\na.jpg,1\n")
    with pytest.raises(SourceError, match=f"column {column} is reserved by the collection .*; rename it"):
        list(iterate(tmp_path / "m.csv"))


def test_a_manifest_that_is_not_utf_8(tmp_path):
    (tmp_path / "m.csv").write_bytes(b"path\n\xe4.jpg\n")
    with pytest.raises(SourceError, match=r"not UTF-8 .*; save it as UTF-8"):
        list(iterate(tmp_path / "m.csv"))


def test_what_is_no_source(tmp_path):
    (tmp_path / "empty" / "sub").mkdir(parents=True)
    (tmp_path / "table.xlsx").write_bytes(b"x")
    for source, message in [
        (tmp_path / "empty", r"empty: holds no photos; known suffixes are \.jpg .*\.webp"),
        (tmp_path / "none", "none: no such file or folder; check the path"),
        (str(tmp_path / "none*.jpg"), "no photo matches the pattern"),
        (tmp_path / "x**y" / "*.jpg", "no photo matches|not a usable pattern"),
        (
            tmp_path / "table.xlsx",
            r"of no known kind \(\.xlsx\); give a folder, a photo, a glob pattern, a manifest",
        ),
        ("nul\0.jpg", "check the path"),
        ("x" * 5000, "check the path"),
        (7, "int: not a source of photos"),
        (b"bytes", "bytes: not a source of photos"),
    ]:
        with pytest.raises(SourceError, match=message):
            list(iterate(source))


def test_what_the_schema_could_not_hold_is_refused_one_by_one():
    def refusal(record: ImageRecord) -> str:
        (checked,) = iterate(record)
        assert checked.path is checked.data is None
        return checked.error or ""

    assert "1 to 64 bytes" in refusal(ImageRecord("x" * 65, "s", data=b"x"))
    assert "printable text" in refusal(ImageRecord("a\n", "s", data=b"x"))
    assert "longer than 4096 bytes" in refusal(ImageRecord("x", "ä" * 2049, data=b"x"))
    assert "not UTF-8" in refusal(ImageRecord("x", "\udce4", data=b"x"))
    assert "either a path or data" in refusal(ImageRecord("x", "s"))
    assert "either a path or data" in refusal(ImageRecord("x", "s", Path("s"), b"x"))
    assert "column vector is reserved" in refusal(ImageRecord("x", "s", data=b"x", fields={"vector": 1}))
    big = {"a": "x" * 40_000, "b": "y" * 40_000, "c": 1}
    assert "more than 65536 bytes as JSON" in refusal(ImageRecord("x", "s", data=b"x", fields=big))
    (chinese,) = iterate(ImageRecord("x", "s", data=b"x", fields={"caption": "犬" * 20_000}))  # 3 bytes each, stored so
    assert chinese.error is None


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems refuse such names")
def test_a_file_name_that_is_not_utf_8_is_refused_alone(photos):
    with open(os.path.join(os.fsencode(photos), b"\xe4.jpg"), "wb"):
        pass
    refused = [record for record in iterate(photos) if record.error]
    assert len(list(iterate(photos))) == 6
    assert [record.error for record in refused] == ["the file's name is not UTF-8; rename it"]
    assert refused[0].source.endswith("\\udce4.jpg")


def test_a_folder_that_cannot_be_listed_is_refused_alone(photos, monkeypatch):
    real = os.scandir

    def scandir(path):
        if Path(path).name == "deep":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    records = list(iterate(photos))
    assert len(records) == 5
    assert records[-1].error == "cannot be listed (Permission denied); check its permissions"


def test_a_row_names_a_photo_in_an_archive_and_a_home_folder_that_is_none(tmp_path):
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.writestr("a.jpg", b"ay")
    rows = [{"path": "p.zip!/a.jpg", "year": 1999}, {"path": "p.zip!/b.jpg"}, {"path": "~nobody-here/a.jpg"}]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    first, second, third = iterate(tmp_path / "m.jsonl")
    assert first.source == f"{tmp_path}/p.zip!/a.jpg"
    assert (first.content(9), first.fields["year"]) == (b"ay", 1999)
    assert "there is no such photo in" in (second.error or "")
    assert "there is no such user's folder" in (third.error or "")


def test_a_pattern_of_manifests(photos):
    for name in ("one.csv", "two.csv"):
        (photos / name).write_text("path\nb.jpg\n")
    assert names(f"{photos}/*.csv", photos) == ["b.jpg", "b.jpg"]


@pytest.mark.parametrize(
    ("source", "countable"),
    [
        ("photos", True), ("list.csv", True), (["a", "b.jsonl"], True), (ImageRecord("a", "a", data=b""), True),
        ("p.zip", False), ("s-{0..9}.tar.gz", False), ("t.parquet", False), ("http://h/a.jpg", False),
        ("milvus://h/c?field=path", False), (["a", "p.tar"], False), (iter(["a"]), False),
    ],
)  # fmt: skip
def test_what_is_read_a_second_time_to_count_it(source, countable):
    assert is_countable(source) is countable


@pytest.mark.parametrize(
    "value",
    [
        "milvus://evil:19530/c?field=path",
        "milvus://evil:19530/c.zip?field=path!/1",
        "milvus+https://evil/c.parquet!/1",
        "MILVUS://evil/c.tar!/1",
    ],
)
@pytest.mark.parametrize("reject", [False, True])
def test_a_row_names_no_collection_whose_server_would_be_sent_a_token(tmp_path, monkeypatch, value, reject):
    def connect(*_: object, **__: object) -> None:
        raise AssertionError("a connection was made")

    monkeypatch.setattr("compsketch_milvus.sources.milvus.connect_server", connect)
    row = {"source": value, "id": "1", "reason": "x", "fields": {}} if reject else {"path": value}
    (tmp_path / "m.jsonl").write_text(json.dumps(row))
    (record,) = iterate(tmp_path / "m.jsonl")
    assert record.error


def test_a_line_of_rejects_names_no_manifest_for_it_might_be_its_own(tmp_path):
    row = {"source": str(tmp_path / "m.jsonl"), "id": "1", "reason": "x", "fields": {}}
    (tmp_path / "m.jsonl").write_text(json.dumps(row))
    (record,) = iterate(tmp_path / "m.jsonl")
    assert record.error == "no photo; ingest it by its own name"


def test_a_line_of_rejects_names_an_archive_or_a_folder_that_failed_whole(photos, tmp_path):
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.writestr("a.jpg", b"ay")
    sources = [str(tmp_path / "p.zip"), str(photos / "sub")]
    lines = [json.dumps({"source": source, "id": "1", "reason": "x", "fields": {"year": 1}}) for source in sources]
    (tmp_path / "rejects.jsonl").write_text("\n".join(lines))
    assert [Path(record.source).name for record in iterate(tmp_path / "rejects.jsonl")] == ["a.jpg", "c.webp", "d.jpeg"]


def test_a_folder_whose_name_ends_in_an_exclamation_mark_is_no_archive(tmp_path):
    party = tmp_path / "Party!"
    party.mkdir()
    (party / "a.jpg").write_bytes(b"ay")
    with zipfile.ZipFile(party / "p.zip", "w") as archive:
        archive.writestr("b.jpg", b"bee")
    (tmp_path / "m.csv").write_text("path\nParty!/a.jpg\nParty!/p.zip!/b.jpg\n")
    records = list(iterate(tmp_path / "m.csv"))
    assert [record.error for record in records] == [None, None]
    assert [record.source for record in records] == [f"{party}/a.jpg", f"{party}/p.zip!/b.jpg"]
    assert container("http://host/Party!/c.zip?signed=a!b!/d.jpg") == "http://host/Party!/c.zip?signed=a!b"
    assert container("http://host/Party!/d.jpg") == ""
    with pytest.raises(SourceError, match=r"Party!/gone\.jpg: no such file or folder"):
        list(iterate(f"{party}/gone.jpg"))
