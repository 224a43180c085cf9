"""Photos on other machines: a web server on this one, and fsspec's memory in place of a bucket."""

from __future__ import annotations

import gc
import io
import json
import socket
import tarfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("aiohttp")
fsspec = pytest.importorskip("fsspec")

from compsketch_milvus.errors import SourceError  # noqa: E402
from compsketch_milvus.records import ImageRecord  # noqa: E402
from compsketch_milvus.shard import Shard  # noqa: E402
from compsketch_milvus.sources import (  # noqa: E402
    facts,
    iterate,
    listing,
    remote,
)
from compsketch_milvus.sources.access import Access, is_public  # noqa: E402
from encoders.errors import ImageError  # noqa: E402
from encoders.images import Limits  # noqa: E402

HERE = Access(allow_private=True)  # the tests' own server is on this machine
Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Serves `server.files`: bytes, with ranges and an ETag; or a function that answers itself."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        site: Any = self.server
        site.asked[f"{self.command} {self.path}"] += 1
        content = site.files.get(self.path)
        if callable(content):
            content(self)
        elif content is None:
            self.reply(404, b"no")
        else:
            first, last, status = 0, len(content), 200
            if "Range" in self.headers:
                start, _, end = self.headers["Range"].removeprefix("bytes=").partition("-")
                first, last, status = int(start), min(int(end) + 1, last) if end else last, 206
            self.reply(status, content[first:last])

    def reply(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        given = {"Content-Length": str(len(body)), "ETag": f'"{len(body)}"', "Accept-Ranges": "bytes"}
        stamp = {"Last-Modified": "Tue, 14 Nov 2023 22:13:20 GMT", "Content-Type": "text/html"}
        for name, value in {**given, **stamp, **{key.replace("_", "-"): one for key, one in headers.items()}}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


class Site(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("0.0.0.0", 0), Handler)
        self.files: dict[str, bytes | Answer] = {}
        self.asked: Counter[str] = Counter()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: object) -> None: ...  # clients that leave in the middle are the point of some tests


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A web server, and quick retries."""
    monkeypatch.setattr(remote, "WAITS", (0.01, 0.01))
    server = Site()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    remote.file_system.cache_clear()
    gc.collect()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def bucket() -> Iterator[dict[str, bytes]]:
    """Set names to bytes: they are in fsspec's memory, which behaves like a bucket."""
    files = fsspec.filesystem("memory")
    files.store.clear()

    class Bucket(dict):
        def __setitem__(self, name: str, data: bytes) -> None:
            files.pipe_file(name, data)

    yield Bucket()
    files.store.clear()
    files.pseudo_dirs[:] = [""]


def failure(record: ImageRecord, limit: int = 1000) -> str:
    with pytest.raises(ImageError) as caught:
        record.content(limit)
    return str(caught.value)


# --- one photo ---


def test_a_photo_is_fetched_when_it_is_needed_and_known_before(site) -> None:
    site.files["/a.jpg"] = b"photo"
    (record,) = iterate(f"{site.url}/a.jpg", HERE)
    assert record.source == f"{site.url}/a.jpg"
    assert record.fields == {"bytes": 5, "mtime": 1_700_000_000_000, "etag": "5"}
    assert site.asked == {"HEAD /a.jpg": 1}
    assert record.content(1000) == b"photo"
    assert site.asked == {"HEAD /a.jpg": 1, "GET /a.jpg": 1}


def test_a_url_without_a_known_suffix_is_a_photo_too(site) -> None:
    site.files["/image?id=7&sig=a%2Fb"] = b"photo"
    (record,) = iterate(f"{site.url}/image?id=7&sig=a%2Fb", HERE)
    assert record.content(1000) == b"photo"
    assert site.asked["GET /image?id=7&sig=a%2Fb"] == 1  # the letters of a signed URL stay as they are


def test_a_server_that_tells_nothing_beforehand(site) -> None:
    site.files["/a.jpg"] = lambda ask: ask.reply(405 if ask.command == "HEAD" else 200, b"photo", ETag="")
    (record,) = iterate(f"{site.url}/a.jpg", HERE)
    assert record.fields == {}
    assert record.content(1000) == b"photo"


def test_what_is_not_there_or_not_allowed_is_not_asked_twice(site) -> None:
    site.files["/b.jpg"] = lambda ask: ask.reply(403, b"")
    (gone,) = iterate(f"{site.url}/a.jpg", HERE)
    (denied,) = iterate(f"{site.url}/b.jpg", HERE)
    assert failure(gone) == f"{site.url}/a.jpg: not found; check the URL"
    assert failure(denied) == f"{site.url}/b.jpg: access denied; check the credentials in the environment"
    assert site.asked["GET /a.jpg"] == site.asked["GET /b.jpg"] == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_is_transient_is_tried_three_times(site, status) -> None:
    tries = count()
    site.files["/a.jpg"] = lambda ask: ask.reply(200 if next(tries) >= 2 else status, b"photo")
    record = remote.url_record(f"{site.url}/a.jpg", {}, HERE)
    assert record.content(1000) == b"photo"
    site.files["/a.jpg"] = lambda ask: ask.reply(status, b"")
    assert f"cannot be fetched (the server answers {status}" in failure(record)
    assert site.asked["GET /a.jpg"] == 6


def test_an_answer_that_breaks_off_is_tried_again(site) -> None:
    def breaks(ask: Handler) -> None:
        ask.reply(200, b"half", Content_Length="8")
        ask.connection.shutdown(socket.SHUT_RDWR)

    site.files["/a.jpg"] = breaks
    assert "cannot be fetched" in failure(remote.url_record(f"{site.url}/a.jpg", {}, HERE))
    assert site.asked["GET /a.jpg"] == 3


def test_a_server_that_hangs_up_before_it_answers_is_asked_again(site) -> None:
    site.files["/a.jpg"] = lambda ask: ask.connection.shutdown(socket.SHUT_RDWR)
    assert "cannot be fetched (Server disconnected)" in failure(remote.url_record(f"{site.url}/a.jpg", {}, HERE))
    assert site.asked["GET /a.jpg"] >= 3


def test_a_server_that_has_gone(site) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        record = remote.url_record(f"http://127.0.0.1:{free.getsockname()[1]}/a.jpg", {}, HERE)
        assert "cannot be fetched" in failure(record)


def test_an_answer_without_end_is_left_at_the_limit(site) -> None:
    def endless(ask: Handler) -> None:
        ask.reply(200, b"", Content_Length="", Connection="close")
        while ask.command == "GET":
            ask.wfile.write(b"x" * 100_000)

    site.files["/a.jpg"] = endless
    message = failure(remote.url_record(f"{site.url}/a.jpg", {}, HERE), 1_000_000)
    assert message.endswith("a.jpg: more than the limit of 1000000 bytes; save it smaller or raise max_bytes")
    assert site.asked["GET /a.jpg"] == 1


def test_an_answer_that_trickles_is_left_in_time(site, monkeypatch) -> None:
    monkeypatch.setattr(remote, "FETCH_SECONDS", 0.3)

    def slow(ask: Handler) -> None:
        ask.reply(200, b"", Content_Length="1000")
        for _ in range(50):
            ask.wfile.write(b"x")
            time.sleep(0.05)

    site.files["/a.jpg"] = slow
    started = time.monotonic()
    assert "no whole answer in time" in failure(remote.url_record(f"{site.url}/a.jpg", {}, HERE))
    assert time.monotonic() - started < 2


def test_a_packed_answer_is_not_unpacked(site) -> None:
    site.files["/a.jpg"] = lambda ask: ask.reply(200, b"\x1f\x8b", Content_Encoding="gzip")
    assert "packs its answer as gzip" in failure(remote.url_record(f"{site.url}/a.jpg", {}, HERE))


# --- addresses ---


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "224.0.0.1", "255.255.255.255", "192.0.2.1", "240.0.0.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1",
        "fd00:ec2::254", "ff02::1", "fec0::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.0.0.1",
        "64:ff9b::7f00:1", "2002:7f00:1::", "2001:db8::1", "::7f00:1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(address) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_addresses_that_are_public(address) -> None:
    assert is_public(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "0"])
def test_a_private_address_is_refused_however_it_is_written(site, host) -> None:
    site.files["/a.jpg"] = b"photo"
    (record,) = iterate(f"http://{host}:{site.server_port}/a.jpg")
    message = failure(record)
    advice = "leads to a private address; if you trust the source, allow that with --allow-private"
    assert advice in message or "is not a canonical IPv4 address" in message
    assert not site.asked


@pytest.fixture
def one_is_public(monkeypatch: pytest.MonkeyPatch) -> None:
    """127.0.0.1 stands for the internet, 127.0.0.2 for what only this machine reaches."""
    monkeypatch.setattr("compsketch_milvus.sources.access.is_public", lambda address: address == "127.0.0.1")


def test_a_redirect_to_a_private_address_is_not_followed(site, one_is_public) -> None:
    site.files["/a.jpg"] = lambda ask: ask.reply(302, b"", Location=f"http://127.0.0.2:{site.server_port}/secret")
    site.files["/secret"] = b"photo"
    site.files["/b.jpg"] = lambda ask: ask.reply(302, b"", Location=f"{site.url}/c.jpg")
    site.files["/c.jpg"] = b"photo"
    assert "leads to a private address" in failure(remote.url_record(f"{site.url}/a.jpg", {}, Access()))
    assert site.asked["GET /secret"] == 0
    assert remote.url_record(f"{site.url}/b.jpg", {}, Access()).content(1000) == b"photo"


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/a", "gopher://127.0.0.1/"])
def test_a_redirect_leads_to_the_web_alone(site, place) -> None:
    site.files["/a.jpg"] = lambda ask: ask.reply(302, b"", Location=place)
    assert "cannot be fetched" in failure(remote.url_record(f"{site.url}/a.jpg", {}, HERE))


def test_a_redirect_in_a_circle_ends(site) -> None:
    site.files["/a.jpg"] = lambda ask: ask.reply(302, b"", Location="/a.jpg")
    assert "cannot be fetched" in failure(remote.url_record(f"{site.url}/a.jpg", {}, HERE))


def test_a_name_that_changes_its_address_is_refused_when_it_is_connected_to(site, one_is_public, monkeypatch) -> None:
    real, addresses = socket.getaddrinfo, iter(["127.0.0.1", "127.0.0.2"])

    def rebinding(host: Any, *rest: Any, **more: Any) -> Any:
        return real(next(addresses) if host == "photos.example" else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    site.files["/a.jpg"] = lambda ask: ask.reply(200, b"photo", Connection="close")
    record = remote.url_record(f"http://photos.example:{site.server_port}/a.jpg", {}, Access())
    monkeypatch.setattr("aiohttp.TCPConnector.cached_hosts", property(lambda self: {}), raising=False)
    assert record.content(1000) == b"photo"
    remote.file_system.cache_clear()  # its cache of names: as if ten seconds had gone by
    gc.collect()
    assert "leads to a private address" in failure(record)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ssh://host/a.jpg", "of no known kind; give a path, or a URL that begins with file://, http://"),
        ("simplecache::http://127.0.0.1/a.jpg", "no such file or folder"),
        ("https://me:secret@host/a.jpg", "https://host/a.jpg: holds a password, which would be stored"),
        ("http:///a.jpg", "not a URL; give http://HOST/PATH"),
        ("http://[::1/a.jpg", "not a URL"),
        ("http://host/a\n.jpg", "not a URL"),
    ],
)
def test_what_is_no_good_as_a_url(url, words, tmp_path) -> None:
    told = []
    try:
        told = [record.error or "" for record in iterate(url)]
        told = [f"{remote.public_url(url)}: {one}" for one in told]
    except SourceError as error:
        told = [str(error)]
    assert words in told[0]
    assert "secret" not in told[0]
    (tmp_path / "m.jsonl").write_text(json.dumps({"path": url}))
    (record,) = iterate(tmp_path / "m.jsonl")
    assert record.error or record.path
    assert "secret" not in record.source


# --- folders, patterns, manifests, archives ---


def test_a_page_is_a_folder_of_its_links(site) -> None:
    site.files["/p/"] = (
        b'<a href="../">up</a><a href="?C=N">sort</a><a href="b.jpg">b</a><a href="/p/a%20b.PNG">a</a>'
        b'<a href="sub/">s</a><a href="http://elsewhere.example/x.jpg">x</a><a href="notes.txt">n</a>'
        b'<a href="/p/">self</a>'
    )
    site.files["/p/sub/"] = b'<a href="c.webp">c</a><a href="/p/">back</a><a href="gone/">g</a>'
    for name in ("/p/b.jpg", "/p/a%20b.PNG", "/p/sub/c.webp"):
        site.files[name] = b"photo"
    records = list(iterate(f"{site.url}/p/", HERE))
    told = [record.source.removeprefix(f"{site.url}/p/") for record in records]
    assert told == ["a%20b.PNG", "b.jpg", "sub/c.webp", "sub/gone/"]
    assert records[-1].error == "not found; check the URL"
    assert [record.fields.get("bytes") for record in records[:3]] == [5, 5, 5]
    assert records[0].content(100) == b"photo"
    found = [record.source for record in iterate(f"{site.url}/p/**/*.webp", HERE) if not record.error]
    assert found == [f"{site.url}/p/sub/c.webp"]


def test_a_page_that_links_to_itself_for_ever_ends(site, monkeypatch) -> None:
    monkeypatch.setattr(listing, "MAX_DEPTH", 3)
    for depth in range(10):
        site.files["/p/" + "x/" * depth] = b'<a href="x/">deeper</a><a href="a.jpg">a</a>'
    *photos, last = iterate(f"{site.url}/p/", HERE)
    assert [record.error for record in photos] == [None] * 4
    assert (last.source, last.error) == (
        f"{site.url}/p/x/x/x/x/",
        "more than 3 folders deep; ingest it as a source of its own",
    )


def test_a_page_too_long_to_be_read_whole_loses_no_photo_in_silence(site, monkeypatch) -> None:
    monkeypatch.setattr(listing, "MAX_PAGE", 50)
    site.files["/p/"] = b'<a href="a.jpg">a</a><a href="sub/">s</a>'
    site.files["/p/sub/"] = b'<a href="b.jpg">b</a>' * 3
    photo, sub = iterate(f"{site.url}/p/", HERE)
    assert (photo.error, sub.source) == (None, f"{site.url}/p/sub/")
    assert sub.error == "its page has more than 50 bytes; list the photos in a manifest"
    with pytest.raises(SourceError, match="more than 50 bytes"):
        list(iterate(f"{site.url}/p/sub/", HERE))


def test_prefixes_and_patterns_of_a_bucket(bucket) -> None:
    for name in ("b/a.jpg", "b/x/b.PNG", "b/x/c.txt", "b/x/y/d.jpg", "other/e.jpg"):
        bucket[name] = b"photo"

    def told(url: str) -> list[str]:
        return [record.source.removeprefix("memory://b/") for record in iterate(url)]

    assert told("memory://b") == told("memory://b/") == ["a.jpg", "x/b.PNG", "x/y/d.jpg"]
    assert told("memory://b/x") == ["x/b.PNG", "x/y/d.jpg"]
    assert told("memory://b/*.jpg") == ["a.jpg"]
    assert told("memory://b/**/*.jpg") == ["a.jpg", "x/y/d.jpg"]
    assert told("memory://b/a.jpg") == ["a.jpg"]
    first, *_ = iterate("memory://b/")
    assert first.content(5) == b"photo"
    assert first.fields["bytes"] == 5
    assert "more than the limit of 4 bytes" in failure(first, 4)
    with pytest.raises(SourceError, match="no photo matches the pattern"):
        list(iterate("memory://b/*.webp"))
    with pytest.raises(SourceError, match=r"memory://none/: not found; check the URL|holds no photos"):
        list(iterate("memory://none/"))


def test_a_manifest_may_name_urls_and_lie_at_one(site, tmp_path) -> None:
    for name in ("/d/a.jpg", "/d/b.jpg", "/c.jpg"):
        site.files[name] = b"photo"
    rows = [{"path": "a.jpg", "n": 1}, {"path": "../c.jpg"}, {"path": f"{site.url}/d/b.jpg"}, {"path": "gone.jpg"}]
    site.files["/d/list.jsonl"] = "\n".join(map(json.dumps, rows)).encode()
    records = list(iterate(f"{site.url}/d/list.jsonl", HERE))
    assert [record.source.removeprefix(site.url) for record in records] == [
        "/d/a.jpg",
        "/c.jpg",
        "/d/b.jpg",
        "/d/gone.jpg",
    ]
    assert records[0].fields == {"n": 1, "bytes": 5, "mtime": 1_700_000_000_000, "etag": "5"}
    assert [record.content(9) for record in records[:3]] == [b"photo"] * 3
    (tmp_path / "m.csv").write_text(f"path,year\n{site.url}/d/a.jpg,1999\nhere.jpg,2000\n")
    web, local = iterate(tmp_path / "m.csv", HERE)
    assert web.fields["year"] == 1999
    assert web.id == records[0].id
    assert local.path == tmp_path / "here.jpg"


def test_a_long_manifest_is_asked_about_ahead_but_not_read_whole(site, tmp_path) -> None:
    site.files.update({f"/{number}.jpg": b"photo" for number in range(200)})
    (tmp_path / "m.csv").write_text("path\n" + "\n".join(f"{site.url}/{number}.jpg" for number in range(200)))
    reader = iterate(tmp_path / "m.csv", HERE)
    assert next(reader).source == f"{site.url}/0.jpg"
    time.sleep(0.2)
    assert sum(site.asked.values()) <= facts.AHEAD + 1
    assert [record.source for record in reader] == [f"{site.url}/{number}.jpg" for number in range(1, 200)]


def test_what_a_manifest_names_before_a_line_that_is_no_good_is_not_lost(site, tmp_path) -> None:
    site.files.update({f"/{number}.jpg": b"photo" for number in range(5)})
    rows = [json.dumps({"path": f"{site.url}/{number}.jpg"}) for number in range(5)]
    (tmp_path / "m.jsonl").write_text("\n".join([*rows, "no row"]))
    *photos, last = iterate([tmp_path / "m.jsonl"], HERE)
    assert [record.error for record in photos] == [None] * 5
    assert "line 6: not JSON" in (last.error or "")


def test_a_file_url_is_the_path(tmp_path) -> None:
    (tmp_path / "ä b.jpg").write_bytes(b"x")
    (by_path,) = iterate(tmp_path / "ä b.jpg")
    (by_url,) = iterate((tmp_path / "ä b.jpg").as_uri())
    (tmp_path / "m.jsonl").write_text(json.dumps({"path": (tmp_path / "ä b.jpg").as_uri()}))
    (by_row,) = iterate(tmp_path / "m.jsonl")
    assert by_path == by_url == by_row


def archives() -> tuple[bytes, bytes]:
    shard, packed = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=shard, mode="w") as tar:
        for name, data in {"a.jpg": b"ay", "a.txt": b"a dog"}.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.jpg", b"ay")
    return shard.getvalue(), packed.getvalue()


def test_archives_and_shards_on_a_server(site) -> None:
    shard, packed = archives()
    site.files.update({"/s-00.tar": shard, "/s-02.tar": shard, "/p.zip": packed})
    found = list(iterate(f"{site.url}/s-{{00..02}}.tar", HERE))
    assert [record.error is None for record in found] == [True, False, True]
    assert found[0].source == f"{site.url}/s-00.tar!/a.jpg"
    assert found[0].fields["caption"] == "a dog"
    assert found[1].error == "not found; check the URL"
    (record,) = iterate(f"{site.url}/p.zip", HERE)
    assert record.content(10) == b"ay"


def test_a_server_without_ranges_gives_a_tar_but_no_zip(site) -> None:
    shard, packed = archives()
    site.files["/s.tar"] = lambda ask: ask.reply(200, shard, Accept_Ranges="")
    site.files["/p.zip"] = lambda ask: ask.reply(200, packed, Accept_Ranges="")
    (record,) = iterate(f"{site.url}/s.tar", HERE)
    assert record.data == b"ay"
    with pytest.raises(SourceError, match="a zip is read from its end"):
        list(iterate(f"{site.url}/p.zip", HERE))


def test_archives_of_a_bucket(bucket) -> None:
    bucket["b/s.tar"], bucket["b/p.zip"] = archives()
    assert [record.content(9) for record in iterate("memory://b/*.tar")] == [b"ay"]
    assert [record.content(9) for record in iterate("memory://b/p.zip")] == [b"ay"]
    (again,) = iterate("memory://b/s.tar!/a.jpg")
    assert again.fields["caption"] == "a dog"


def test_a_manifest_and_an_archive_at_a_private_address_are_refused(site) -> None:
    site.files.update({"/m.csv": b"path\na.jpg\n", "/s.tar": archives()[0], "/p/": b""})
    for name in ("m.csv", "s.tar", "p/", "p/*.jpg"):
        with pytest.raises(SourceError, match="leads to a private address"):
            list(iterate(f"{site.url}/{name}"))
    assert not site.asked


def test_a_library_that_is_not_installed(monkeypatch) -> None:
    remote.file_system.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    with pytest.raises(SourceError, match=r's3:// needs s3fs: pip install "compsketch-milvus\[remote\]"'):
        list(iterate("s3://bucket/"))


def test_a_photo_too_large_by_the_limits_of_the_reader(site) -> None:
    site.files["/a.jpg"] = b"x" * 101
    (record,) = iterate(f"{site.url}/a.jpg", Access(Limits(max_bytes=100), allow_private=True))
    assert "more than the limit of 100 bytes" in failure(record, 100)


def test_a_manifest_elsewhere_names_no_file_here(site, tmp_path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"mine")
    url = (tmp_path / "a.jpg").as_uri()
    rows = [
        {"path": url},
        {"path": f"{url}.zip!/a.jpg"},
        {"path": str(tmp_path / "a.jpg")},
        {"source": url, "id": "1", "reason": "", "fields": {}},
    ]
    for number, row in enumerate(rows):
        site.files[f"/{number}.jsonl"] = json.dumps(row).encode()
    told = []
    for number in range(len(rows)):
        try:
            told += [record.error or record.source for record in iterate(f"{site.url}/{number}.jsonl", HERE)]
        except SourceError as error:
            told.append(str(error))
    assert "names no file on this machine" in told[0]
    assert "names no file on this machine" in told[1]
    assert told[2].startswith(f"{site.url}/")
    assert "column id is reserved" in told[3]


def test_an_ingest_fetches_where_it_decodes_and_sees_a_change_by_its_version(site, collection, tmp_path) -> None:
    for number in range(12):
        picture = io.BytesIO()
        Image.new("RGB", (32, 32 + number), (20 * number, 0, 0)).save(picture, "BMP")
        site.files[f"/{number}.bmp"] = picture.getvalue()
    (tmp_path / "m.csv").write_text("path,n\n" + "".join(f"{site.url}/{n}.bmp,{n}\n" for n in range(13)))
    refused = collection.ingest(tmp_path / "m.csv")
    assert (refused.indexed, len(refused.failed)) == (0, 13)
    assert not site.asked
    first = collection.ingest(tmp_path / "m.csv", allow_private=True)
    assert (first.indexed, [failure.reason for failure in first.failed]) == (12, ["not found; check the URL"])
    site.files["/3.bmp"] = site.files["/4.bmp"]
    site.asked.clear()
    second = collection.ingest(tmp_path / "m.csv", allow_private=True)
    assert (second.indexed, second.skipped) == (1, 11)
    assert site.asked["GET /3.bmp"] == 1
    assert site.asked["GET /5.bmp"] == 0


def test_workers_ask_about_their_own_photos_alone_and_the_count_about_none(site, open_collection, tmp_path) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (32, 32)).save(picture, "BMP")
    site.files.update({f"/{number}.bmp": picture.getvalue() for number in range(12)})
    (tmp_path / "m.csv").write_text("path\n" + "".join(f"{site.url}/{number}.bmp\n" for number in range(12)))
    collection = open_collection()
    for index in (1, 2):
        shard, counted = Shard(index, 2), lambda progress: None
        collection.ingest(tmp_path / "m.csv", shard=shard, progress=counted, allow_private=True)
    assert collection.count() == 12
    assert [site.asked[f"HEAD /{number}.bmp"] for number in range(12)] == [1] * 12
