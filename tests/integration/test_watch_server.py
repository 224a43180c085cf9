"""A folder and a collection of a real server in step: its filters and consistency are not those of Milvus Lite."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.records import PhotoVector
from compsketch_milvus.sources.naming import source_id
from compsketch_milvus.watch import Watch


@pytest.fixture
def watched(milvus_server: str, toy_encoder) -> Iterator[SketchCollection]:
    parts = urlsplit(milvus_server)
    uri, token = f"http://{parts.hostname}:{parts.port}", parts.netloc.rpartition("@")[0] or None
    collection = SketchCollection.open("d_watched", toy_encoder, uri=uri, token=token, index="FLAT")
    yield collection
    collection.drop()


@pytest.mark.parametrize("name", ["photos", "100%_of\\it", 'quo"te'])
def test_comparisons_see_what_was_just_written_and_delete_more_than_a_page(watched, tmp_path: Path, name) -> None:
    folder = tmp_path / name
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number}.bmp")
        os.utime(folder / f"{number}.bmp", (1_700_000_000, 1_700_000_000))
    vector = np.full(16, 0.25, dtype=np.float32)
    gone = [f"{folder}/gone/{number}.jpg" for number in range(1200)]
    beside = [f"{folder}2/0.jpg", "/elsewhere/0.jpg"]
    watched.upsert(PhotoVector(source_id(source), source, 1, 1, vector) for source in [*gone, *beside])

    first = Watch(watched, folder, settle=0.1).once()
    assert (first.indexed, first.deleted, watched.count()) == (3, 1200, 5)
    (folder / "0.bmp").rename(folder / "moved.bmp")
    (folder / "1.bmp").unlink()
    second = Watch(watched, folder, settle=0.1).once()
    assert (second.indexed, second.deleted) == (1, 2)
    left = watched.call("read rows", "query", filter='id != ""', output_fields=["source"], consistency_level="Strong")
    assert {row["source"] for row in left} == {f"{folder}/moved.bmp", f"{folder}/2.bmp", *beside}
