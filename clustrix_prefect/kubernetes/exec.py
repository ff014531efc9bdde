"""Programs in a pod, reached over the exec stream of the API server."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from clustrix_prefect.connections.connection import ChannelsOnly
from clustrix_prefect.connections.tail import Tail

T = TypeVar("T")

# The first byte of each message: which stream it belongs to (v4.channel.k8s.io).
_STDIN, _STDOUT, _STDERR, _STATUS = range(4)
_PROTOCOL = "v4.channel.k8s.io"
# Each message is held in memory whole, here, by the API server and by the node.
_SLICE = 256 * 1024
_OPEN_TIMEOUT = 30.0


class _SharedSocket:
    """A socket that one thread reads while another one writes.

    OpenSSL allows one of them at a time. So neither blocks inside: both wait outside the lock.
    """

    def __init__(self, inner: socket.socket) -> None:
        inner.setblocking(False)
        self._inner = inner
        self._lock = threading.Lock()

    def recv(self, size: int) -> bytes:
        return self._when_ready(lambda: self._inner.recv(size), for_reading=True)

    def send(self, data: bytes) -> int:
        return self._when_ready(lambda: self._inner.send(data), for_reading=False)

    def _when_ready(self, step: Callable[[], T], for_reading: bool) -> T:
        while True:
            wait_to_read = for_reading
            try:
                with self._lock:
                    return step()
            except ssl.SSLWantReadError:
                wait_to_read = True
            except ssl.SSLWantWriteError:
                wait_to_read = False
            except BlockingIOError:
                pass
            # Not select(): it fails beyond 1024 open files. The other thread may have read
            # what this one waits for, hence the limit.
            poll = select.poll()
            poll.register(self._inner, select.POLLIN if wait_to_read else select.POLLOUT)
            poll.poll(1000)

    def shutdown(self, how: int = socket.SHUT_RDWR) -> None:
        with contextlib.suppress(OSError):  # the other side has gone first
            # Of the socket below TLS: a goodbye could block, and would need the lock.
            socket.socket.shutdown(self._inner, how)

    def close(self) -> None:
        self._inner.close()

    def gettimeout(self) -> float | None:
        return None

    def settimeout(self, timeout: float | None) -> None:
        pass

    def fileno(self) -> int:
        return self._inner.fileno()


class ExecChannel:
    """A program in a pod.

    Args:
        websocket: A `websocket.WebSocket` on which the exec stream is open.
    """

    def __init__(self, websocket: Any) -> None:
        self._socket = _SharedSocket(websocket.sock)
        websocket.sock = self._socket
        self._websocket = websocket
        self._tail = Tail()
        self._rest = memoryview(b"")
        self._status: int | None = None
        self._ended = False

    def read(self, size: int) -> bytes:
        while not self._rest:
            if self._ended or not self._receive():
                return b""
        data, self._rest = self._rest[:size], self._rest[size:]
        return bytes(data)

    def _receive(self) -> bool:
        """Take in one message; False at the end of the stream."""
        import websocket

        try:
            message = self._websocket.recv()
        except (OSError, websocket.WebSocketException):
            message = b""
        if isinstance(message, str):
            message = message.encode()
        if not message:  # closed: every message of the stream has at least its first byte
            self._ended = True
            self._socket.shutdown()
            return False
        stream, data = message[0], memoryview(message)[1:]
        if stream == _STDOUT:
            self._rest = data
        elif stream == _STDERR:
            self._tail.append(bytes(data))
        elif stream == _STATUS:
            self._status, said = _outcome(bytes(data))
            self._tail.append(said.encode())
        return True

    def write(self, data: bytes | memoryview) -> None:
        import websocket

        view = memoryview(data).cast("B")
        for start in range(0, len(view), _SLICE):
            try:
                self._websocket.send_binary(bytes([_STDIN]) + view[start : start + _SLICE])
            except websocket.WebSocketException as error:
                raise OSError(f"the stream to the pod is closed: {error}") from error

    def stderr_tail(self) -> str:
        return self._tail.text()

    def exit_status(self) -> int | None:
        return self._status

    def close(self) -> None:
        self._socket.shutdown()


def _outcome(data: bytes) -> tuple[int, str]:
    """Return the exit status, and what there is to say beyond it, of a v4 status message."""
    try:
        status = json.loads(data)
        if status["status"] == "Success":
            return 0, ""
        if status.get("reason") == "NonZeroExitCode":
            return int(status["details"]["causes"][0]["message"]), ""
        return 1, str(status.get("message", ""))
    except (ValueError, KeyError, IndexError, TypeError):
        return 1, data.decode("utf-8", "replace")


class PodConnection(ChannelsOnly):
    """The way into one running container.

    Args:
        open_stream: Opens the exec stream of a command.
        description: Where this leads: "pod NAME in NAMESPACE".
    """

    def __init__(self, open_stream: Callable[[list[str]], Any], description: str) -> None:
        def run(command: str) -> ExecChannel:
            return ExecChannel(open_stream(["/bin/sh", "-c", command]))

        super().__init__(run, description)


def open_websocket(configuration: Any, url: str, headers: Iterable[tuple[str, str]]) -> Any:
    """Return an exec stream: TLS and proxies as the official client's configuration says.

    Raises:
        websocket.WebSocketException: The server refused it.
        OSError: It cannot be reached.
    """
    import websocket
    from kubernetes.stream import ws_client

    options: dict[str, Any] = {"cert_reqs": ssl.CERT_NONE}
    if configuration.verify_ssl:
        options = {"cert_reqs": ssl.CERT_REQUIRED}
        if configuration.ssl_ca_cert:
            options["ca_certs"] = configuration.ssl_ca_cert
        if configuration.assert_hostname is not None:
            options["check_hostname"] = configuration.assert_hostname
    if configuration.cert_file:
        options["certfile"] = configuration.cert_file
    if configuration.key_file:
        options["keyfile"] = configuration.key_file
    if configuration.tls_server_name:
        options["server_hostname"] = configuration.tls_server_name
    connect: dict[str, Any] = {
        "header": [f"{name}: {value}" for name, value in headers],
        "subprotocols": [_PROTOCOL],
        "timeout": _OPEN_TIMEOUT,
        "suppress_origin": True,
    }
    if configuration.proxy or configuration.proxy_headers:
        connect = ws_client.websocket_proxycare(connect, configuration, url, None)
    opened = websocket.WebSocket(sslopt=options, skip_utf8_validation=True)
    opened.connect(url.replace("http", "ws", 1), **connect)
    return opened
