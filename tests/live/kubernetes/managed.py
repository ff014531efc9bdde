"""A managed cluster's API server: a proxy in front of another, with what such clusters add.

It speaks HTTP on loopback, one request for each connection, and TLS to the server behind.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import socketserver
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kubernetes.client import Configuration

from tests.live.serving import serving

# A token is nothing but when it was issued, in seconds since the epoch.
_TOKEN = "issued-at-"
_PLUGIN = f"""#!{sys.executable}
import json, time
token = "{_TOKEN}%f" % time.time()
version = "client.authentication.k8s.io/v1"
print(json.dumps({{"apiVersion": version, "kind": "ExecCredential", "status": {{"token": token}}}}))
"""


class ManagedApiServer(socketserver.ThreadingTCPServer):
    """Lets through who has a token that has not expired, and changes jobs as a webhook does.

    Args:
        behind: How to reach the server behind it, as somebody who may do everything.
        token_seconds: How long a token lives; requests that it began go on.
        mutate: Changes a job that is made.

    Attributes:
        tokens: Those that were shown.
        refused: How many requests came with one that had expired.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(
        self,
        behind: Configuration,
        token_seconds: float,
        mutate: Callable[[dict[str, Any]], None] = lambda job: None,
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.token_seconds = token_seconds
        self.mutate = mutate
        self.tokens: set[str] = set()
        self.refused = 0
        address = urlsplit(behind.host)
        self._address = (str(address.hostname), address.port or 443)
        self._tls = ssl.create_default_context(cafile=behind.ssl_ca_cert)
        self._tls.load_cert_chain(behind.cert_file, behind.key_file)

    def connect_behind(self) -> ssl.SSLSocket:
        """A connection to the server behind."""
        plain = socket.create_connection(self._address)
        return self._tls.wrap_socket(plain, server_hostname=self._address[0])

    def lets_through(self, token: str) -> bool:
        """Whether a token is good now."""
        self.tokens.add(token)
        issued = token.partition(_TOKEN)[2]
        if issued and time.time() - float(issued) < self.token_seconds:
            return True
        self.refused += 1
        return False

    def kubeconfig(self, directory: Path, namespace: str) -> Path:
        """A kubeconfig that gets its tokens from a plugin, which does not say when they expire."""
        (plugin := directory / "plugin").write_text(_PLUGIN)
        plugin.chmod(0o755)
        ask = {"apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never"}
        context = {"cluster": "managed", "user": "somebody", "namespace": namespace}
        server = f"http://127.0.0.1:{self.server_address[1]}"
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "managed",
            "contexts": [{"name": "managed", "context": context}],
            "clusters": [{"name": "managed", "cluster": {"server": server}}],
            "users": [{"name": "somebody", "user": {"exec": {**ask, "command": str(plugin)}}}],
        }
        (path := directory / "managed.kubeconfig").write_text(json.dumps(content))
        return path


class _Request(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        server: Any = self.server
        first = self.rfile.readline()
        headers = {}
        while line := self.rfile.readline().decode("latin-1").strip():
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        body = self.rfile.read(int(headers.get("content-length", 0)))
        if not first:
            return
        if not server.lets_through(headers.pop("authorization", "").partition(" ")[2]):
            said = json.dumps({"kind": "Status", "code": 401, "message": "Unauthorized"}).encode()
            head = f"HTTP/1.1 401 Unauthorized\r\nContent-Length: {len(said)}\r\n"
            self.wfile.write(f"{head}Connection: close\r\n\r\n".encode() + said)
            return
        if first.startswith(b"POST") and b"/jobs" in first:
            job = json.loads(body)
            server.mutate(job)
            body = json.dumps(job).encode()
        if body:
            headers["content-length"] = str(len(body))
        if "upgrade" not in headers:
            headers["connection"] = "close"
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        with server.connect_behind() as behind:
            behind.sendall(first + head.encode("latin-1") + b"\r\n" + body)
            with contextlib.suppress(OSError):  # one of them went
                _hand_on(self.connection, behind)


def _hand_on(client: socket.socket, behind: ssl.SSLSocket) -> None:
    """Hand on what comes from either side, until one ends; by one thread, as OpenSSL wants it."""
    while True:
        readable, _, _ = select.select([client, behind], [], [])
        if client in readable:
            data = client.recv(65536)
            if not data:
                return
            behind.sendall(data)
        while behind in readable:
            behind.setblocking(False)
            try:
                data = behind.recv(65536)
            except ssl.SSLWantReadError:
                break
            finally:
                behind.setblocking(True)
            if not data:
                return
            client.sendall(data)


@contextlib.contextmanager
def managed(
    behind: Configuration,
    token_seconds: float,
    mutate: Callable[[dict[str, Any]], None] = lambda job: None,
) -> Iterator[ManagedApiServer]:
    """Serve until the end of the block; see `ManagedApiServer`."""
    server = ManagedApiServer(behind, token_seconds, mutate)
    with serving(server):
        yield server
