"""HTTPS servers on loopback, whose certificates a client trusts when told of their authority.

A provider's server is a `TLSServer` with `answer` filled in:

    class Lambda(TLSServer):
        def answer(self, request: Request) -> Reply:
            return Reply.json({"data": {}})

    with Lambda() as server:
        server.fault = Fault.RESET
        fetch_prices(endpoint=server.url)     # with the environment of `Authority.environment()`

`server.requests` lists what was asked. Faults of the connection work with every server, the
others are each server's own; a fault lasts until `server.fault = None`.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import struct
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import trustme

from tests.pricing.servers.faults import CONNECTION_FAULTS, Fault

_Self = TypeVar("_Self", bound="TLSServer")


@dataclass(frozen=True)
class Request:
    """What a client asked."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def header(self, name: str) -> str:
        """A header's value, its name in any case; empty if there is none."""
        return next((v for k, v in self.headers.items() if k.lower() == name.lower()), "")

    @property
    def form(self) -> Mapping[str, str]:
        """The body, read as a form."""
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))

    @property
    def document(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


@dataclass
class Reply:
    """What a server answers. A body of pieces is sent chunked, and never held whole."""

    status: int = 200
    body: bytes | Iterator[bytes] = b""
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"

    @classmethod
    def json(cls, document: object, status: int = 200, **headers: str) -> Reply:
        """A JSON document; `Retry_After="1"` becomes the header `Retry-After: 1`."""
        return cls(
            status,
            json.dumps(document).encode(),
            {name.replace("_", "-"): value for name, value in headers.items()},
        )

    @classmethod
    def html(cls, status: int, text: str) -> Reply:
        """A page as gateways make them."""
        page = f"<html><head><title>{text}</title></head><body><h1>{text}</h1></body></html>"
        return cls(status, page.encode(), content_type="text/html; charset=utf-8")


class Authority:
    """A certificate authority for one test run; `file` holds its certificate."""

    def __init__(self) -> None:
        self._authority = trustme.CA()
        self._certificate = self._authority.issue_cert("localhost", "127.0.0.1")

    @cached_property
    def file(self) -> str:
        """Where its certificate is, to be trusted."""
        self._directory = tempfile.TemporaryDirectory(prefix="authority-")
        path = Path(self._directory.name) / "authority.pem"
        self._authority.cert_pem.write_to_path(str(path))
        return str(path)

    def environment(self) -> dict[str, str]:
        """What makes httpx, requests and boto3 trust the servers."""
        names = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE")
        return dict.fromkeys(names, self.file)

    @cached_property
    def context(self) -> ssl.SSLContext:
        """The servers' side of TLS."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._certificate.configure_cert(context)
        return context


AUTHORITY = Authority()
"""The authority of all servers in this process."""


class TLSServer:
    """An HTTPS server on a free port of 127.0.0.1, and the faults of its connections.

    Attributes:
        fault: What it does wrong at present.
        requests: What it was asked, oldest first.
        url: Where it listens, without a slash at the end.
    """

    FAULTS: frozenset[Fault] = CONNECTION_FAULTS
    NOT_APPLICABLE: Mapping[Fault, str] = {}

    def __init__(self) -> None:
        self.fault: Fault | None = None
        self.requests: list[Request] = []
        self._burst = 0
        self._lock = threading.Lock()
        self._stopping = threading.Event()

    def answer(self, request: Request) -> Reply:
        """What the source answers; a server's own faults are its own business."""
        raise NotImplementedError

    def throttled(self) -> Reply:
        """How this source says to slow down."""
        return Reply.json({"error": "too many requests"}, 429, Retry_After="1")

    # --- its life ---------------------------------------------------------------------------

    def start(self) -> None:
        """Listen."""
        server = self

        class Handler(_Handler):
            owner = server

        self._http = _Listener(("127.0.0.1", 0), Handler)
        self.url = f"https://localhost:{self._http.server_address[1]}"
        self._thread = threading.Thread(
            target=self._http.serve_forever, args=(0.05,), name=type(self).__name__, daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop listening, and end what still drips."""
        self._stopping.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def __enter__(self: _Self) -> _Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # --- one answer -------------------------------------------------------------------------

    def reply(self, request: Request) -> Reply:
        """The answer, or what a fault makes of it."""
        with self._lock:
            self.requests.append(request)
            burst = self.fault is Fault.BURST_429 and self._burst < 3
            self._burst += burst
        if self.fault is Fault.HTML_502:
            return Reply.html(502, "502 Bad Gateway")
        if self.fault is Fault.HTML_200:
            return Reply.html(200, "Please log in to the network")
        if burst or self.fault is Fault.ALWAYS_429:
            return self.throttled()
        return self.answer(request)

    def date(self) -> str:
        """The `Date` of an answer."""
        age = timedelta(days=1, hours=1) if self.fault is Fault.STALE else timedelta()
        return format_datetime(datetime.now(timezone.utc) - age, usegmt=True)


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        # The handshake is left to the connection's own thread.
        return (
            AUTHORITY.context.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            ),
            address,
        )

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news."""


class _Handler(BaseHTTPRequestHandler):
    owner: TLSServer
    protocol_version = "HTTP/1.1"
    timeout = 30
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        request = Request(
            self.command,
            parts.path,
            dict(parse_qsl(parts.query, keep_blank_values=True)),
            dict(self.headers.items()),
            self.rfile.read(length),
        )
        reply = self.owner.reply(request)
        if self.owner.fault is Fault.RESET:
            self._reset()
            return
        self._send(reply)

    do_GET = do_POST = do_HEAD = _serve

    def _send(self, reply: Reply) -> None:
        self.send_response_only(reply.status)
        self.send_header("Date", self.owner.date())
        self.send_header("Content-Type", reply.content_type)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if isinstance(reply.body, bytes):
            if "Content-Length" not in reply.headers:
                self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self._send_body(reply.body)
            if reply.headers.get("Content-Length", str(len(reply.body))) != str(len(reply.body)):
                self.close_connection = True  # more was promised
        else:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for piece in reply.body:
                if self.owner.fault is Fault.TRUNCATED_BODY:
                    self._end(piece[: len(piece) // 2])
                    return
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")

    def _send_body(self, body: bytes) -> None:
        if self.owner.fault is Fault.TRUNCATED_BODY:
            self._end(body[: len(body) // 2])
        elif self.owner.fault is Fault.SLOW_BODY:
            for byte in body:
                self.wfile.write(bytes([byte]))
                if self.owner._stopping.wait(0.1):
                    break
            self.close_connection = True
        else:
            self.wfile.write(body)

    def _end(self, rest: bytes) -> None:
        self.wfile.write(rest)
        self.close_connection = True

    def _reset(self) -> None:
        # With no time to linger, closing sends RST.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        os.close(self.connection.detach())

    def log_message(self, format: str, *args: Any) -> None:
        """`requests` is the log."""
