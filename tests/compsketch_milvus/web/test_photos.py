"""Photos by the ids of a collection: decoded before anything is sent, never by path, nothing told of where they are."""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from compsketch_milvus.attached import attach
from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.records import PhotoVector
from compsketch_milvus.web import originals
from tests.web.serving import judging_encoder

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
HTML = b"<!doctype html><script>alert(1)</script>"


def encoded(kind: str, size: tuple[int, int] = (600, 300)) -> bytes:
    out = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").resize(size).save(out, kind)
    return out.getvalue()


@pytest.fixture
def page_of(open_page, lite) -> Callable[[dict[str, str]], TestClient]:
    """The page over a collection whose photos, by id, have these sources."""

    def make(sources: dict[str, str], **options) -> TestClient:
        encoder = judging_encoder()
        vector = np.full(64, 1 / 8, np.float32)
        with SketchCollection.open("photos", encoder, uri=lite) as photos:
            photos.upsert(PhotoVector(id, source, 600, 300, vector) for id, source in sources.items())
        return open_page(encoder, uri=lite, **options)

    return make


def opened(answer) -> Image.Image:
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(answer.content))


def test_a_thumbnail_fits_its_size_and_is_a_jpeg(page_of, tmp_path: Path) -> None:
    (tmp_path / "wide.png").write_bytes(encoded("PNG"))
    page = page_of({"a": str(tmp_path / "wide.png")})
    for size in (256, 512):
        answer = page.get("/api/thumbnail/a", params={"size": size})
        assert opened(answer).size == (size, size // 2)
        assert answer.headers["Content-Type"] == "image/jpeg"
    assert page.get("/api/thumbnail/a", params={"size": 1000}).status_code == 422


def test_a_thumbnail_is_made_once_and_kept(page_of, tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded("PNG"))
    page = page_of({"a": str(path)})
    first = page.get("/api/thumbnail/a")
    path.unlink()
    second = page.get("/api/thumbnail/a")
    assert second.content == first.content
    unchanged = page.get("/api/thumbnail/a", headers={"If-None-Match": first.headers["ETag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert "max-age" in first.headers["Cache-Control"]


@pytest.mark.parametrize(
    ("kind", "type"),
    [
        ("JPEG", "image/jpeg"),
        ("PNG", "image/png"),
        ("WEBP", "image/webp"),
        ("GIF", "image/gif"),
        ("BMP", "image/jpeg"),
        ("TIFF", "image/jpeg"),
    ],
)
def test_a_photo_has_the_type_of_what_was_decoded(page_of, tmp_path: Path, kind, type) -> None:
    path = tmp_path / "photo.jpg"  # whatever its name says
    path.write_bytes(encoded(kind))
    answer = page_of({"a": str(path)}).get("/api/photo/a")
    assert opened(answer).size == (600, 300)
    assert answer.headers["Content-Type"] == type
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    if kind != "BMP" and type != "image/jpeg":
        assert answer.content == path.read_bytes()


@pytest.mark.parametrize("content", [SVG, HTML, b"", b"\xff\xd8\xff" + HTML, encoded("PNG")[:200]])
def test_what_is_no_picture_is_never_sent(page_of, tmp_path: Path, content) -> None:
    path = tmp_path / "secret-folder-name.jpg"
    path.write_bytes(content)
    page = page_of({"a": str(path)})
    for kind in ("photo", "thumbnail"):
        answer = page.get(f"/api/{kind}/a")
        assert answer.status_code == 404
        assert answer.json() == {"error": "this photo cannot be read now: it was moved, or it is damaged"}
        assert "secret-folder-name" not in answer.text


@pytest.mark.parametrize(
    "id",
    [
        "none",
        "../../etc/passwd",
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/etc/passwd",
        "a%00b",
        '" or id != "',
        "x" * 65,
        "é",
    ],
)
def test_an_id_is_looked_up_and_never_a_path(page, id) -> None:
    for kind in ("photo", "thumbnail", "details"):
        answer = page.get(f"/api/{kind}/{id}")
        assert answer.status_code in (400, 404)
        assert list(answer.json()) == ["error"]
        assert "root:" not in answer.text


@pytest.mark.parametrize(
    "source",
    [
        "/etc/passwd",
        "relative.jpg",
        "/dev/zero",
        "/",
        "http://127.0.0.1:1/a.jpg",
        "http://169.254.169.254/x",
        "file:///etc/hostname",
    ],
)
def test_sources_that_must_not_be_read_are_not(page_of, source) -> None:
    answer = page_of({"a": source}).get("/api/photo/a")
    assert answer.status_code == 404
    assert answer.json() == {"error": "this photo cannot be read now: it was moved, or it is damaged"}


def test_a_member_of_an_archive_is_shown(page_of, tmp_path: Path) -> None:
    archive = tmp_path / "photos.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("sea/a.png", encoded("PNG", (300, 300)))
    page = page_of({"a": f"{archive}!/sea/a.png", "b": f"{archive}!/../../etc/passwd"})
    assert opened(page.get("/api/thumbnail/a")).size == (256, 256)
    assert page.get("/api/details/a").json()["name"] == "a.png"
    assert page.get("/api/thumbnail/b").status_code == 404


def test_a_photo_that_a_row_of_somebody_elses_collection_holds_is_shown(open_page, lite) -> None:
    from base64 import b64encode

    from pymilvus import DataType, MilvusClient

    client = MilvusClient(lite)
    schema = client.create_schema(enable_dynamic_field=False)
    schema.add_field("sku", DataType.INT64, is_primary=True)
    schema.add_field("picture", DataType.VARCHAR, max_length=65_535)
    schema.add_field("v", DataType.FLOAT_VECTOR, dim=2)
    index = client.prepare_index_params()
    index.add_index("v", index_type="FLAT", metric_type="L2")
    client.create_collection("shop", schema=schema, index_params=index)
    client.load_collection("shop")
    picture = b64encode(encoded("PNG", (100, 50))).decode()
    client.insert("shop", [{"sku": 7, "picture": picture, "v": [0.0, 1.0]}])
    encoder = judging_encoder()
    with attach("shop", encoder, field="picture", kind="bytes", uri=lite) as shop:
        shop.index()
        name = shop.place
    from compsketch_milvus.web.app import Options, create_app
    from compsketch_milvus.web.opened import Where

    with TestClient(create_app(encoder, Options(Where(lite, name))), base_url="http://localhost") as page:
        assert opened(page.get("/api/photo/7")).size == (100, 50)
        client.delete("shop", ids=[7])
        assert page.get("/api/thumbnail/7").status_code == 404
    client.close()


def test_what_was_found_a_moment_ago_is_not_looked_up_again(page, monkeypatch) -> None:
    found = page.post("/api/similar", json={"id": "p01", "limit": 1}).json()["hits"][0]["id"]
    monkeypatch.setattr("compsketch_milvus.web.photos.look_up", None)
    assert page.get(f"/api/thumbnail/{found}").status_code == 200
    monkeypatch.undo()
    monkeypatch.setattr(originals, "SECONDS", 0.0)
    assert page.get(f"/api/thumbnail/{found}").status_code == 200


def test_a_photo_that_cannot_be_read_is_not_tried_for_each_thumbnail(page_of, monkeypatch) -> None:
    tries = []
    monkeypatch.setattr("compsketch_milvus.web.photos.original", lambda *_: tries.append(1) or originals.original(*_))
    page = page_of({"a": "/nowhere/a.jpg"})
    assert [page.get("/api/thumbnail/a").status_code for _ in range(3)] == [404] * 3
    assert len(tries) == 1


def test_photos_that_are_slow_to_come_hold_up_nothing_else(page_of, monkeypatch) -> None:
    coming = threading.Event()

    def slow(*_: object) -> bytes:
        assert coming.wait(60)
        return encoded("PNG")

    monkeypatch.setattr("compsketch_milvus.web.photos.original", slow)
    page = page_of({f"{number}": f"https://slow.example/{number}.jpg" for number in range(8)})
    with ThreadPoolExecutor(8) as browsers:
        pictures = [browsers.submit(page.get, f"/api/thumbnail/{number}") for number in range(8)]
        assert page.post("/api/similar", json={"id": "0"}).status_code == 200
        assert page.get("/api/session").json()["count"] == 8
        assert page.get("/healthz").status_code == 200
        assert not any(picture.done() for picture in pictures)
        coming.set()
        assert [opened(picture.result()).size for picture in pictures] == [(256, 128)] * 8


def test_where_a_photo_lies_is_told_on_this_machine_only(page, public_page) -> None:
    own = page.get("/api/details/p01").json()
    assert own["source"].endswith("/photo-01.jpg")
    public_page.post("/api/login", json={"token": "a secret that is long enough"})
    told = public_page.get("/api/details/p01")
    assert told.json()["source"] is None
    assert (told.json()["name"], told.json()["fields"]["tag"]) == ("photo-01.jpg", own["fields"]["tag"])
    assert str(Path(own["source"]).parent) not in told.text


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/home/me/a.jpg", "a.jpg"),
        ("https://host/path/b.png?signature=secret", "b.png"),
        ("/x/photos.zip!/in/c.gif", "c.gif"),
        ("shop/7", "7"),
        ("https://host", "host"),
        ("/", "photo"),
    ],
)
def test_the_last_part_of_a_source(source, name) -> None:
    assert originals.last_part(source) == name
