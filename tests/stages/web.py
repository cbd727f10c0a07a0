"""A web server of this machine with the manners and the failures of those that weights come from."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Web:
    """files: what is behind each path.  cut: bytes after which an answer breaks off.  asked: (path, Range) so far."""

    files: dict[str, bytes]
    cut: int | None = None
    ranges: bool = True
    etag: str | None = '"1"'
    moved: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    address: str = ""


@contextmanager
def serve(web: Web) -> Iterator[Web]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            answer(self, web)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    web.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def answer(request: BaseHTTPRequestHandler, web: Web) -> None:
    asked = request.headers.get("Range")
    web.asked.append((request.path, asked))
    if request.path in web.moved:
        request.send_response(302)
        request.send_header("Location", web.moved[request.path])
        request.end_headers()
        return
    if request.path not in web.files:
        request.send_error(404)
        return
    content, start = web.files[request.path], 0
    if asked and web.ranges and request.headers.get("If-Range") == web.etag:
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
    if start and start >= len(content):
        request.send_response(416)
        request.send_header("Content-Range", f"bytes */{len(content)}")
        request.end_headers()
        return
    request.send_response(206 if start else 200)
    if start:
        request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    request.send_header("Content-Length", str(len(content) - start))
    if web.etag:
        request.send_header("ETag", web.etag)
    request.end_headers()
    request.wfile.write(content[start:][: web.cut])
