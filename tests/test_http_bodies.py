"""A small answer does not become a huge one."""

from __future__ import annotations

import gzip
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from clustrix_prefect.credentials import http_bodies


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            for value in self.server.encodings:  # type: ignore[attr-defined]
                self.send_header("Content-Encoding", value)
            self.send_header("Content-Length", str(len(self.server.body)))  # type: ignore[attr-defined]
            self.end_headers()
            self.wfile.write(self.server.body)  # type: ignore[attr-defined]

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def ask(server: ThreadingHTTPServer, body: bytes, *encodings: str) -> bytes:
    server.body, server.encodings = body, encodings  # type: ignore[attr-defined]
    url = f"http://127.0.0.1:{server.server_address[1]}/"
    with httpx.stream("GET", url, trust_env=False) as response:
        return b"".join(http_bodies.pieces(response))


def test_one_packing_is_undone(server: ThreadingHTTPServer) -> None:
    assert ask(server, b"plain") == b"plain"
    assert ask(server, b"plain", "identity") == b"plain"
    assert ask(server, gzip.compress(b"plain"), "gzip") == b"plain"
    assert ask(server, gzip.compress(b"plain"), "identity, GZip") == b"plain"
    assert ask(server, zlib.compress(b"plain"), "deflate") == b"plain"


@pytest.mark.parametrize(
    "encodings",
    [("gzip, gzip",), ("gzip", "gzip"), ("gzip,gzip,gzip",), ("br",), ("zstd",), ("x",)],
)
def test_anything_else_is_refused_before_it_is_undone(
    server: ThreadingHTTPServer, encodings: tuple[str, ...]
) -> None:
    bomb = gzip.compress(gzip.compress(gzip.compress(bytes(100_000_000))))
    with pytest.raises(http_bodies.Overpacked, match="packed as"):
        ask(server, bomb, *encodings)
