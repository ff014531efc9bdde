"""The pods, jobs and events of a namespace, as an API server on loopback lists and watches them."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from copy import deepcopy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from clustrix_prefect.kubernetes.access import Access
from clustrix_prefect.kubernetes.api import KubernetesApi
from tests.live.serving import serving

_GONE = {"kind": "Status", "code": 410, "message": "too old resource version"}


class NamespaceServer(ThreadingHTTPServer):
    """A namespace that a test changes while it is watched.

    Attributes:
        jobs: The names of those that there are.
        suspended: The names of those that are held.
        events: What was reported of objects.
        asked: The kind of each request so far: "list pods", "watch pods" ...
        gone_in_stream: Whether an expired watch learns it from an event, or from its status.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.jobs: set[str] = set()
        self.suspended: set[str] = set()
        self.events: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.gone_in_stream = True
        self.changed = threading.Condition()
        self._pods: dict[str, dict[str, Any]] = {}
        self._log: list[tuple[int, dict[str, Any]]] = []
        self._version = 1
        self._oldest = 0
        self.connection = 0  # counts how often all of them were dropped
        self._away = False

    def api(self) -> KubernetesApi:
        """A client of it."""
        kubeconfig = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "s", "user": "u"}}],
            "clusters": [
                {"name": "s", "cluster": {"server": f"http://127.0.0.1:{self.server_port}"}}
            ],
            "users": [{"name": "u", "user": {}}],
        }
        return KubernetesApi(Access(kubeconfig=kubeconfig), "lab", patience=0.5)

    # --- what tests do ---------------------------------------------------------------------

    def put(self, pod: dict[str, Any]) -> None:
        """Add a pod, or change it."""
        name = pod["metadata"]["name"]
        self._note("MODIFIED" if name in self._pods else "ADDED", pod)
        self._pods[name] = pod

    def remove(self, name: str) -> None:
        """Take a pod away."""
        self._note("DELETED", self._pods.pop(name))

    def break_watches(self) -> None:
        """Drop the connection of every watch, in the middle of a line."""
        with self.changed:
            self.connection += 1
            self.changed.notify_all()

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Every watch is dropped, and nobody is answered for a while."""
        self._away = True
        self.break_watches()
        try:
            yield
        finally:
            self._away = False

    def compact(self) -> None:
        """Forget what happened until now."""
        self._oldest = self._version

    def _note(self, kind: str, pod: dict[str, Any]) -> None:
        with self.changed:
            self._version += 1
            pod["metadata"]["resourceVersion"] = str(self._version)
            self._log.append((self._version, {"type": kind, "object": deepcopy(pod)}))
            self.changed.notify_all()

    # --- what it answers -------------------------------------------------------------------

    def answer(self, resource: str, query: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """What a list holds."""
        if self._away:
            return 503, {"message": "away"}
        if resource == "pods":
            with self.changed:
                items: list[Any] = list(self._pods.values())
                return 200, {"items": items, "metadata": {"resourceVersion": str(self._version)}}
        if resource == "jobs":
            wanted = query.get("fieldSelector", "").partition("metadata.name=")[2]
            names = [name for name in self.jobs if wanted in ("", name)]
            items = [
                {"metadata": {"name": name}, "spec": {"suspend": name in self.suspended}}
                for name in names
            ]
            return 200, {"items": items}
        about = dict(part.split("=") for part in query["fieldSelector"].split(","))
        name = about.get("involvedObject.name")
        return 200, {
            "items": [
                event for event in self.events if name in (None, event["involvedObject"]["name"])
            ]
        }

    def lines(self, since: int, connection: int) -> Iterator[bytes]:
        """What a watch hears, until its connection is dropped."""
        while True:
            with self.changed:
                if since < self._oldest:
                    yield json.dumps({"type": "ERROR", "object": _GONE}).encode() + b"\n"
                    return
                later = [(version, event) for version, event in self._log if version > since]
                if connection == self.connection and not later:
                    self.changed.wait()
                    continue
            if connection != self.connection:
                yield b'{"type": "MODIF'
                return
            for version, event in later:
                yield json.dumps(event).encode() + b"\n"
                since = version

    def is_gone(self, since: int) -> bool:
        """Whether a watch from this version on is refused."""
        return since < self._oldest and not self.gone_in_stream

    def is_away(self) -> bool:
        """Whether nobody is answered."""
        return self._away


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server: Any = self.server
        url = urlsplit(self.path)
        resource = url.path.rpartition("/")[2]
        connection = server.connection  # as it was before a test can know of this request
        query = {key: value for key, (value,) in parse_qs(url.query).items()}
        watches = "watch" in query
        server.asked.append(f"{'watch' if watches else 'list'} {resource}")
        if not watches or server.is_away():
            self._send(*server.answer(resource, query))
        elif server.is_gone(int(query["resourceVersion"])):
            self._send(410, _GONE)
        else:
            self._stream(server.lines(int(query["resourceVersion"]), connection))

    def _send(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, lines: Iterator[bytes]) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for line in lines:  # and no last chunk: the connection breaks
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))

    def log_message(self, *arguments: Any) -> None:
        pass


@contextlib.contextmanager
def namespace_server() -> Iterator[NamespaceServer]:
    """Serve on loopback."""
    server = NamespaceServer()
    with serving(server):
        try:
            yield server
        finally:
            server.break_watches()
