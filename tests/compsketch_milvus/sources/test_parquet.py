"""Parquet manifests: paths, or the photos themselves, with the other columns as fields."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

pa = pytest.importorskip("pyarrow")
from pyarrow import parquet  # noqa: E402

from compsketch_milvus.errors import SourceError  # noqa: E402
from compsketch_milvus.sources import iterate  # noqa: E402
from compsketch_milvus.sources.access import Access  # noqa: E402
from encoders.images import Limits  # noqa: E402


def written(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    parquet.write_table(pa.table(columns), path, **options)
    return path


def own(record: Any) -> dict[str, Any]:
    return {name: value for name, value in record.fields.items() if name not in ("bytes", "mtime", "etag")}


def test_paths_relative_to_the_manifest_with_typed_fields(tmp_path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"ay")
    columns = {"path": ["a.jpg", "/b.jpg"], "year": [1999, None], "rating": [4.5, 1.0], "done": [True, None]}
    first, second = iterate(written(tmp_path / "m.parquet", columns))
    assert first.path == tmp_path / "a.jpg"
    assert own(first) == {"year": 1999, "rating": 4.5, "done": True}
    assert first.fields["bytes"] == 2
    assert own(second) == {"rating": 1.0}


def test_photos_as_hugging_face_keeps_them(tmp_path) -> None:
    images = [{"bytes": b"ay", "path": "a.jpg"}, {"bytes": b"bee", "path": None}, {"bytes": None, "path": "c.jpg"}]
    path = written(tmp_path / "m.parquet", {"image": images, "label": [3, 4, 5]})
    first, second, third = iterate(path)
    assert (first.data, first.source, own(first)) == (b"ay", f"{path}!/1", {"label": 3, "path": "a.jpg"})
    assert (second.data, second.source, own(second)) == (b"bee", f"{path}!/2", {"label": 4})
    assert (third.path, own(third)) == (tmp_path / "c.jpg", {"label": 5})
    (again,) = iterate(f"{path}!/2")
    assert again == second


@pytest.mark.parametrize("column", ["image", "bytes"])
def test_a_plain_column_of_bytes(tmp_path, column) -> None:
    path = written(tmp_path / "m.parquet", {"path": ["x.jpg"], column: [b"ay"]})
    (before,) = iterate(path)
    assert before.data == b"ay"
    assert own(before) == {"path": "x.jpg"}
    (after,) = iterate(written(path, {"path": ["x.jpg"], column: [b"oh"]}))
    assert before.id == after.id
    assert before.fields["etag"] != after.fields["etag"]


def test_a_photo_over_the_limit_is_refused_alone(tmp_path) -> None:
    path = written(tmp_path / "m.parquet", {"image": [b"x" * 11, b"y" * 10]})
    first, second = iterate(path, Access(Limits(max_bytes=10)))
    assert first.error == "11 bytes, over the limit of 10; save it smaller"
    assert second.error is None


def test_a_long_table_is_read_in_batches(tmp_path) -> None:
    path = written(tmp_path / "m.parquet", {"path": [f"{i}.jpg" for i in range(1000)]}, row_group_size=100)
    reader = iterate(path)
    assert next(reader).path == tmp_path / "0.jpg"
    assert sum(1 for _ in reader) == 999


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"name": ["x"]}, r"m\.parquet: no path column; name one of the columns path, file, source, image"),
        ({"name": pa.array([], pa.string())}, "no path column"),
        ({"path": pa.array([], pa.string())}, r"m\.parquet: lists no photos"),
        ({"path": [None]}, r"m\.parquet, row 1: column path holds no path; fill it in"),
        ({"image": [{"bytes": None, "path": None}]}, "row 1: column image holds no path"),
        ({"path": [7]}, "column path holds no path"),
        ({"path": ["a"], "id": [1]}, "column id is reserved by the collection"),
        ({"path": ["a"], "my column": [1]}, "column 'my column' could not be named in a filter"),
        ({"path": ["a"], "x": [[1]]}, "column x holds a list; give a string, number or boolean"),
        ({"path": ["a"], "x": [datetime(2020, 1, 1)]}, "column x holds a datetime"),
        ({"path": ["a"], "x": [float("nan")]}, "column x holds nan; leave the cell empty"),
        ({"path": ["a"], "x": [b"x"]}, "column x holds a bytes"),
    ],
)
def test_malformed_tables(tmp_path, columns, message) -> None:
    with pytest.raises(SourceError, match=message):
        list(iterate(written(tmp_path / "m.parquet", columns)))


@pytest.mark.parametrize("data", [b"", b"rubbish", b"PAR1" + b"x" * 100 + b"PAR1"])
def test_what_is_no_parquet(tmp_path, data) -> None:
    (tmp_path / "m.parquet").write_bytes(data)
    with pytest.raises(SourceError, match=r"m\.parquet: not parquet, or damaged \(.*\); write it again"):
        list(iterate(tmp_path / "m.parquet"))


def test_a_table_that_is_damaged_within(tmp_path) -> None:
    path = written(tmp_path / "m.parquet", {"path": [f"{i}.jpg" for i in range(1000)]}, use_dictionary=False)
    data = bytearray(path.read_bytes())
    data[4:200] = b"\xff" * 196
    path.write_bytes(data)
    with pytest.raises(SourceError, match=r"m\.parquet: (not parquet, or damaged|cannot be read)"):
        list(iterate(path))


def test_pyarrow_that_is_not_installed(tmp_path, monkeypatch) -> None:
    path = written(tmp_path / "m.parquet", {"path": ["a.jpg"]})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SourceError, match=r'parquet needs pyarrow: pip install "compsketch-milvus\[data\]"'):
        list(iterate(path))
