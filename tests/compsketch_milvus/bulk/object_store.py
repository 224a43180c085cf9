"""An object store that speaks as much of S3 as a staging needs, and remembers who asked."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

__all__ = ["ObjectStore", "object_store"]


class ObjectStore:
    """Objects by `/bucket/key`, and the keys of those who asked."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.keys: set[str] = set()
        self.denies = False  # uploads
        self.address = ""


class _Handler(BaseHTTPRequestHandler):
    store: ObjectStore
    protocol_version = "HTTP/1.1"

    def _asked(self) -> tuple[str, dict[str, list[str]]]:
        found = re.search(r"Credential=([^/]+)/", self.headers.get("Authorization", ""))
        self.store.keys.add(found[1] if found else "")
        parts = urlsplit(self.path)
        return unquote(parts.path), parse_qs(parts.query)

    def _answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _object(self) -> None:
        path, query = self._asked()
        if "list-type" in query:
            return self._list(path.strip("/"), query.get("prefix", [""])[0])
        content = self.store.objects.get(path)
        if content is None:
            return self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        tag = {"ETag": f'"{md5(content).hexdigest()}"', "Last_Modified": "Wed, 01 Jan 2025 00:00:00 GMT"}
        whole = {"Content_Length": str(len(content))} if self.command == "HEAD" else {}
        if asked := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")):
            first, last = int(asked[1]), min(int(asked[2]), len(content) - 1)
            part = content[first : last + 1]
            return self._answer(206, part, Content_Range=f"bytes {first}-{last}/{len(content)}", **tag)
        return self._answer(200, b"" if whole else content, **whole, **tag)

    do_GET = do_HEAD = _object

    def _list(self, bucket: str, prefix: str) -> None:
        found = [path for path in sorted(self.store.objects) if path.startswith(f"/{bucket}/{prefix}")]
        rows = "".join(
            f"<Contents><Key>{escape(path.split('/', 2)[2])}</Key><Size>{len(self.store.objects[path])}</Size>"
            '<LastModified>2025-01-01T00:00:00.000Z</LastModified><ETag>"0"</ETag>'
            "<StorageClass>STANDARD</StorageClass></Contents>"
            for path in found
        )
        answer = f"<ListBucketResult><Name>{bucket}</Name><KeyCount>{len(found)}</KeyCount>{rows}</ListBucketResult>"
        self._answer(200, answer.encode(), Content_Type="application/xml")

    def do_PUT(self) -> None:
        path, _ = self._asked()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.store.denies:
            return self._answer(403, b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>")
        source = unquote(self.headers.get("x-amz-copy-source", ""))
        self.store.objects[path] = (
            self.store.objects["/" + source.lstrip("/")] if source else _content(body, self.headers)
        )
        copied = b'<CopyObjectResult><ETag>"0"</ETag></CopyObjectResult>' if source else b""
        return self._answer(200, copied, ETag='"0"')

    def do_DELETE(self) -> None:
        path, _ = self._asked()
        self.store.objects.pop(path, None)
        self._answer(204)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def _content(body: bytes, headers) -> bytes:
    """The bytes of an upload, which may come in chunks with their lengths."""
    if "aws-chunked" not in headers.get("Content-Encoding", ""):
        return body
    content = b""
    while body:
        length, _, body = body.partition(b"\r\n")
        size = int(length.partition(b";")[0], 16)
        if not size:
            break
        content, body = content + body[:size], body[size + 2 :]
    return content


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """One that answers at `address`."""
    store = ObjectStore()
    handler = type("Handler", (_Handler,), {"store": store})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        store.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield store
        finally:
            server.shutdown()
            thread.join()
