"""deploy/README.md's backup of what is embedded: a Milvus Lite folder copied while nothing has it open."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.records import PhotoVector
from compsketch_milvus.sources.walk import rows

ROOT = Path(__file__).parents[2]
FILL = """
import sys
sys.path.insert(0, {tests!r})
import numpy as np
from toy import ToyEncoder
from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.records import PhotoVector
vectors = np.eye(16, dtype=np.float32)
photos = [
    PhotoVector(f"p{{n:02}}", f"/photos/{{n}}.jpg", 100 + n, 80, vectors[n], {{"year": 1990 + n}}) for n in range(16)
]
with SketchCollection.open("photos", ToyEncoder(), uri={uri!r}) as collection:
    collection.upsert(photos)
    collection.client.create_alias("photos", "pictures")
"""


@pytest.fixture
def copy(tmp_path: Path):
    """The copy of a file that a process filled and that nothing has open, and its original lost."""
    from milvus_lite.server_manager import server_manager_instance

    original, copy = tmp_path / "photos.db", tmp_path / "backup" / "photos.db"
    program = FILL.format(tests=str(ROOT / "tests"), uri=str(original))
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
    assert original.is_dir()
    shutil.copytree(original, copy)
    shutil.rmtree(original)
    yield str(copy)
    server_manager_instance.release_server(str(copy))


def test_a_copy_has_photos_fields_fingerprint_and_alias_and_can_be_written(copy: str, toy_encoder) -> None:
    with SketchCollection.open("pictures", toy_encoder, uri=copy, create=False) as photos:
        assert photos.name == "photos"
        kept = {row["id"]: (row["source"], row["width"], row["year"]) for page in rows(photos) for row in page}
        assert kept == {f"p{n:02}": (f"/photos/{n}.jpg", 100 + n, 1990 + n) for n in range(16)}
        nearest = photos.search_vector(np.eye(16, dtype=np.float32)[3], 1, "year < 2000")[0]
        assert (nearest.id, nearest.distance) == ("p03", pytest.approx(0, abs=1e-3))
        photos.upsert([PhotoVector("new", "/photos/new.jpg", 1, 1, np.eye(16, dtype=np.float32)[0])])
        assert photos.count() == 17
