"""Rows as files: nothing of a photo is lost in them, and none is larger than it may be."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compsketch_milvus.bulk import CollectionFacts, Parts, leftover
from compsketch_milvus.bulk.parts import rewritten
from compsketch_milvus.errors import CollectionError, ServerError, SettingsError
from compsketch_milvus.records import PhotoVector
from compsketch_milvus.rows import SCHEMA_FIELDS
from tests.compsketch_milvus.bulk.object_store import object_store

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False), st.text()
)
NAMES = st.text(min_size=1, max_size=8).filter(lambda name: name not in SCHEMA_FIELDS)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fields=st.lists(st.dictionaries(NAMES, SCALARS, max_size=3), min_size=1, max_size=5))
def test_a_photo_comes_out_as_it_went_in(tmp_path, facts, fields) -> None:
    vectors = np.eye(16, dtype=np.float32)
    photos = [
        PhotoVector(f"p{i}", "/ä/€.jpg", i, 7, vectors[i], one) for i, one in enumerate(fields) if "$meta" not in one
    ]
    parts = Parts(facts, str(tmp_path), worker="all")
    parts.add(photos)
    for part in parts.close():
        [out] = part.photos()
        assert [replace(one, vector=None) for one in out] == [replace(one, vector=None) for one in photos]
        np.testing.assert_array_equal([one.vector for one in out], [one.vector for one in photos])
        part.remove()
    assert files(tmp_path) == []


def test_no_file_is_larger_than_it_may_be(tmp_path, facts, make_photos) -> None:
    parts = Parts(facts, str(tmp_path), worker="all", part_bytes=50_000)
    for first in range(0, 1000, 32):
        parts.add(make_photos(32, first=first, text="x" * 500))
    made = parts.close()
    assert len(made) > 10
    assert all(part.bytes == Path(part.path).stat().st_size <= 50_000 for part in made)
    assert sum(part.rows for part in made) == 1024
    assert [one for part in made for one in part.ids()] == [f"p{i}" for i in range(1024)]
    assert parts.close() == []


def test_a_partition_key_is_a_column_of_its_own(tmp_path, facts, make_photos) -> None:
    parts = Parts(replace(facts, partition_key="shop"), str(tmp_path), worker="all")
    parts.add(make_photos(2, shop="north"))
    with pytest.raises(CollectionError, match="'p2': it has no field 'shop'"):
        parts.add(make_photos(1, first=2))
    [part] = parts.close()
    table = pq.read_table(part.path)
    assert table["shop"].to_pylist() == ["north"] * 2
    assert table["$meta"].to_pylist() == ['{"mtime":0}', '{"mtime":1}']
    [out] = part.photos()
    assert [photo.fields for photo in out] == [{"mtime": 0, "shop": "north"}, {"mtime": 1, "shop": "north"}]


def test_a_photo_that_does_not_fit_is_named_and_none_of_its_batch_is_taken(tmp_path, facts, make_photos) -> None:
    parts = Parts(facts, str(tmp_path), worker="all")
    good = make_photos(2)
    bad = replace(make_photos(1, first=2)[0], vector=np.full(16, np.nan, np.float32))
    with pytest.raises(CollectionError, match="photo 'p2': its vector is not finite"):
        parts.add([*good, bad])
    assert parts.close() == []


def test_of_an_id_given_twice_the_later_photo_is_in_a_later_part(tmp_path, facts, make_photos) -> None:
    parts = Parts(facts, str(tmp_path), worker="all")
    parts.add(make_photos(3))
    parts.add(make_photos(2, first=1))
    assert [part.ids() for part in parts.close()] == [["p0", "p1", "p2"], ["p1", "p2"]]


def test_what_a_killed_process_left_is_whole_or_thrown_away(tmp_path, facts, make_photos) -> None:
    script = """
import os, sys
from tests.compsketch_milvus.bulk.test_parts import killed_midway
killed_midway(sys.argv[1])
"""
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=root, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    [whole, open_] = files(tmp_path / facts.folder / "all")
    assert open_.endswith(".parquet.open")
    assert [part.ids() for part in leftover(facts, str(tmp_path))] == [["p0", "p1", "p2"]]
    assert [part.name for part in leftover(facts, str(tmp_path), worker="all")] == [f"{facts.folder}/all/{whole}"]
    assert leftover(facts, str(tmp_path), worker="other") == []
    assert leftover(replace(facts, fingerprint="another"), str(tmp_path)) == []

    Parts(facts, str(tmp_path), worker="other")
    assert len(files(tmp_path)) == 2
    Parts(facts, str(tmp_path), worker="all")
    assert files(tmp_path / facts.folder / "all") == [whole]


def killed_midway(folder: str) -> None:
    """Finish a part, begin another, and die as of kill -9."""
    import os
    import signal

    facts = CollectionFacts("photos", "toy-0000000000000000", 16)
    parts = Parts(facts, folder, worker="all", part_bytes=3 * 400)
    vectors = np.eye(16, dtype=np.float32)
    photos = [PhotoVector(f"p{i}", "s", 1, 1, vectors[i]) for i in range(5)]
    parts.add(photos)
    parts._write_group()
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_damaged_part_is_removed_and_said(tmp_path, facts, make_photos, caplog) -> None:
    parts = Parts(facts, str(tmp_path), worker="all")
    parts.add(make_photos(3))
    [part] = parts.close()
    Path(part.path).write_bytes(Path(part.path).read_bytes()[:-20])
    assert leftover(facts, str(tmp_path)) == []
    assert "is damaged and is removed" in caplog.text
    assert files(tmp_path) == []


def test_a_part_without_some_of_its_photos(tmp_path, facts, make_photos) -> None:
    parts = Parts(facts, str(tmp_path), worker="all")
    parts.add(make_photos(5))
    [part] = parts.close()
    less = rewritten(part, facts, {"p0", "p3"})
    assert less is not None
    assert (less.name, less.rows, less.ids()) == (part.name, 3, ["p1", "p2", "p4"])
    assert rewritten(less, facts, {"p1", "p2", "p4", "p9"}) is None
    assert files(tmp_path) == []


def test_in_a_bucket(facts, make_photos) -> None:
    where = "memory://milvus-bucket/staging"
    parts = Parts(facts, where, worker="2-of-3")
    parts.add(make_photos(4))
    assert leftover(facts, where) == []
    [part] = parts.close()
    assert part.path == f"staging/{facts.folder}/2-of-3/{part.name.rsplit('/')[-1]}"  # Milvus names no bucket
    assert leftover(facts, where) == [part]
    assert part.ids() == ["p0", "p1", "p2", "p3"]
    less = rewritten(part, facts, {"p0"})
    assert less is not None
    less.remove(keep=True)
    assert leftover(facts, where) == []
    kept = replace(less, name=f"imported/{less.name}")
    assert kept.ids() == ["p1", "p2", "p3"]
    kept.remove()


def test_a_staging_that_cannot_be_used_is_refused_in_one_line(tmp_path, facts, make_photos, monkeypatch) -> None:
    for where in ("ftp://host/folder", "s3://", "s3://key:secret@bucket/prefix"):
        with pytest.raises(SettingsError, match=r"give a folder, s3://BUCKET/PREFIX") as refused:
            Parts(facts, where, worker="all")
        assert "secret@" not in str(refused.value)
    (tmp_path / "file").touch()
    parts = Parts(facts, str(tmp_path / "file"), worker="all")
    parts.add(make_photos(1))
    with pytest.raises(ServerError, match=r"file: cannot be used .*--staging"):
        parts.close()
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(SettingsError, match=r'pip install "compsketch-milvus\[bulk\]"'):
        Parts(facts, str(tmp_path), worker="all")


def test_in_a_bucket_of_s3_with_its_own_key(facts, make_photos, monkeypatch, caplog) -> None:
    monkeypatch.setenv("COMPSKETCH_STAGING_KEY", "milvus-key")
    monkeypatch.setenv("COMPSKETCH_STAGING_SECRET", "hush-hush")
    with object_store() as store:
        monkeypatch.setenv("COMPSKETCH_STAGING_ENDPOINT", store.address)
        where = "s3://milvus-bucket/staging"
        parts = Parts(facts, where, worker="all")
        parts.add(make_photos(4))
        assert store.objects == {}
        [part] = parts.close()
        assert list(store.objects) == [f"/milvus-bucket/{part.path}"]
        assert leftover(facts, where) == [part]
        assert part.ids() == ["p0", "p1", "p2", "p3"]
        part.remove(keep=True)
        assert list(store.objects) == [f"/milvus-bucket/staging/imported/{part.name}"]
        assert leftover(facts, where) == []
        replace(part, name=f"imported/{part.name}").remove()
        assert store.objects == {}
        assert store.keys == {"milvus-key"}
        store.denies = True
        parts.add(make_photos(1))
        with pytest.raises(
            ServerError, match=r"staging s3://milvus-bucket/staging: PermissionError.*check bucket"
        ) as denied:
            parts.close()
    assert "hush-hush" not in str(denied.value) + caplog.text
