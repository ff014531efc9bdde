"""A 1Password Connect server of our own on the loopback interface.

It speaks the documented REST API as far as reading goes: vaults and items, their filters, and
errors as {"status", "message"}. It can be told to fail in the ways that were seen in the wild.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

_FILTER = re.compile(r'(\w+) eq "((?:[^"\\]|\\.)*)"')
_ID = re.compile(r"[a-z0-9]{26}")
HTML = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"


def identifier(name: str) -> str:
    """An id in 1Password's form that a person can recognise."""
    letters = "".join(c for c in name.lower() if c.isascii() and c.isalnum())
    return (letters + "0" * 26)[:26]


@dataclass
class Vault:
    """A vault; `items` are whole items as the API writes them."""

    name: str
    items: list[dict[str, Any]] = field(default_factory=list)
    id: str = ""
    type: str = "USER_CREATED"

    def __post_init__(self) -> None:
        self.id = self.id or identifier(f"vault{self.name}")

    def add(
        self,
        title: str,
        fields: Mapping[str, str | None],
        *,
        id: str = "",
        category: str = "LOGIN",
        changed: str = "2026-05-04T03:02:01Z",
        files: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Add an item; a field's name may be "section/label"."""
        sections: dict[str, dict[str, str]] = {}
        written: list[dict[str, Any]] = []
        for number, (name, value) in enumerate(fields.items()):
            section, _, label = name.rpartition("/")
            one: dict[str, Any] = {
                "id": f"field{number}",
                "type": "CONCEALED",
                "label": label,
            }
            if value is not None:
                one["value"] = value
            if label == "otp":  # the value is the seed; the server works the code out
                one.update(type="OTP", value=f"otpauth://totp/x?secret={value}", totp="134253")
            if section:
                where = sections.setdefault(
                    section, {"id": f"Section_{len(sections)}", "label": section}
                )
                one["section"] = {"id": where["id"]}
            written.append(one)
        item = {
            "id": id or identifier(f"item{title}{len(self.items)}"),
            "title": title,
            "vault": {"id": self.id},
            "category": category,
            "version": 3,
            "createdAt": "2025-01-01T00:00:00Z",
            "updatedAt": changed,
            "sections": list(sections.values()),
            "fields": written,
        }
        if files:
            item["files"] = [{"id": identifier(name), "name": name, "size": 3} for name in files]
        self.items.append(item)
        return item


class ConnectServer:
    """The server.

    Args:
        tls: What it speaks HTTPS with; plain HTTP without.

    Attributes:
        url: Its address.
        vaults: What it holds.
        tokens: The vaults' names that each token may read.
        requests: The path and query of every request so far, as they were sent.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.vaults: list[Vault] = []
        self.tokens: dict[str, set[str]] = {}
        self.requests: list[str] = []
        self._faults: list[str] = []
        self._persistent: str | None = None
        self._released = threading.Event()
        server = self
        handler = type("Handler", (_Handler,), {"server_of_ours": server})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._http.server_address[1]}"
        if tls:
            self._http.socket = tls.wrap_socket(
                self._http.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering; the port is closed."""
        self._released.set()
        self._http.shutdown()
        self._http.server_close()

    def vault(self, name: str, **options: Any) -> Vault:
        """Add a vault."""
        self.vaults.append(Vault(name, **options))
        return self.vaults[-1]

    @contextlib.contextmanager
    def failing(self, how: str) -> Iterator[None]:
        """Fail every request in this way for a while."""
        self._persistent = how
        try:
            yield
        finally:
            self._persistent = None
            self._released.set()
            self._released = threading.Event()

    def fail_next(self, *hows: str) -> None:
        """Fail the next requests in these ways, one each."""
        self._faults.extend(hows)

    def next_fault(self) -> str | None:
        """How the request that has just come is to fail."""
        return self._faults.pop(0) if self._faults else self._persistent

    def wait(self, seconds: float) -> None:
        """Wait, unless the server is to stop."""
        self._released.wait(seconds)

    # --- the API ----------------------------------------------------------------------------

    def answer(self, target: str, authorization: str | None) -> tuple[int, Any]:
        """The status and the document for a request."""
        url = urlsplit(target)
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        if parts == ["heartbeat"]:
            return 200, "."
        if parts == ["health"]:
            return 200, {"name": "1Password Connect API", "version": "1.8.1"}
        token = (authorization or "").removeprefix("Bearer ")
        if not authorization or token not in self.tokens:
            return _error(401, "Invalid token signature")
        readable = [vault for vault in self.vaults if vault.name in self.tokens[token]]
        if parts[:2] != ["v1", "vaults"]:
            return _error(404, "page not found")
        query = parse_qs(url.query, keep_blank_values=True)
        if len(parts) == 2:
            found = _filtered([_vault(vault) for vault in readable], query, "name")
            return found
        if not _ID.fullmatch(parts[2]):
            return _error(400, "Invalid Vault UUID")
        vault = next((vault for vault in self.vaults if vault.id == parts[2]), None)
        if vault is None:
            return _error(404, "Vault not found")
        if vault not in readable:
            return _error(403, "Authorization: token does not have access to vault")
        if len(parts) == 3:
            return 200, _vault(vault)
        if parts[3] != "items" or len(parts) > 5:
            return _error(404, "page not found")
        if len(parts) == 4:
            return _filtered([_summary(item) for item in vault.items], query, "title")
        if not _ID.fullmatch(parts[4]):
            return _error(400, "Invalid Item UUID")
        item = next((item for item in vault.items if item["id"] == parts[4]), None)
        return (200, item) if item else _error(404, "Item not found")


def _vault(vault: Vault) -> dict[str, Any]:
    return {
        "id": vault.id,
        "name": vault.name,
        "attributeVersion": 1,
        "contentVersion": 7,
        "items": len(vault.items),
        "type": vault.type,
        "createdAt": "2024-01-01T00:00:00Z",
        "updatedAt": "2026-01-01T00:00:00Z",
    }


def _summary(item: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in item.items() if k not in ("fields", "sections", "files")}


def _filtered(
    found: list[dict[str, Any]], query: dict[str, list[str]], attribute: str
) -> tuple[int, Any]:
    if not query:
        return 200, found
    if list(query) != ["filter"]:
        return _error(400, f"unknown parameter {next(iter(query))}")
    match = _FILTER.fullmatch(query["filter"][0])
    if match is None or match[1] != attribute:
        return _error(400, "Invalid filter")
    wanted = re.sub(r"\\(.)", r"\1", match[2]).casefold()
    return 200, [one for one in found if one[attribute].casefold() == wanted]


def _error(status: int, message: str) -> tuple[int, Any]:
    return status, {"status": status, "message": message}


class _Handler(BaseHTTPRequestHandler):
    server_of_ours: ConnectServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        ours = self.server_of_ours
        ours.requests.append(self.path)
        fault = ours.next_fault()
        status, document = ours.answer(self.path, self.headers.get("Authorization"))
        body = json.dumps(document).encode()
        if fault == "reset":
            self._reset()
        elif fault == "slow":
            ours.wait(120)
            self.close_connection = True
        elif fault == "trickle":
            self._trickle(body)
        elif fault == "truncated":
            self._head(200, "application/json", len(body))
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        elif fault == "html 502":
            self._send(502, "text/html", HTML)
        elif fault == "html 404":
            self._send(404, "text/html", HTML)
        elif fault == "html 200":
            self._send(200, "text/html", HTML)
        elif fault == "empty 200":
            self._send(200, "application/json", b"")
        elif fault == "number":
            self._send(200, "application/json", b"42")
        elif fault == "other document":
            self._send(200, "application/json", b'{"surprise": [1, 2]}')
        elif fault == "redirect":
            self.send_response(302)
            self.send_header("Location", "https://login.example.org/")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif fault == "echo":  # a gateway that shows the request in its error
            shown = json.dumps({"message": f"rejected: {self.headers.get('Authorization')}"})
            self._send(500, "application/json", shown.encode())
        elif fault and fault.isdigit():
            refusal = _error(int(fault), "as told")[1]
            self._send(int(fault), "application/json", json.dumps(refusal).encode())
        else:
            self._send(status, "application/json", body)

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self._head(status, kind, len(body))
        self.wfile.write(body)

    def _head(self, status: int, kind: str, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def _trickle(self, body: bytes) -> None:
        """Never silent for long, and never done."""
        self._head(200, "application/json", len(body) + 1000)
        deadline = time.monotonic() + 120
        with contextlib.suppress(OSError):
            while time.monotonic() < deadline and not self.server_of_ours._released.is_set():
                self.wfile.write(b" ")
                self.wfile.flush()
                time.sleep(0.1)
        self.close_connection = True

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def finish(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().finish()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""
