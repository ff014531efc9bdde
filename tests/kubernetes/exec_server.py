"""The exec stream of an API server, around programs of this machine: TLS, v4.channel.k8s.io."""

from __future__ import annotations

import contextlib
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from typing import IO
from urllib.parse import parse_qs, urlsplit

import trustme
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve


def _status(code: int) -> bytes:
    if code == 0:
        return json.dumps({"status": "Success"}).encode()
    causes = [{"reason": "ExitCode", "message": str(code)}]
    details = {"reason": "NonZeroExitCode", "details": {"causes": causes}}
    return json.dumps({"status": "Failure", **details}).encode()


def _run(connection: ServerConnection) -> None:
    assert connection.request is not None
    command = parse_qs(urlsplit(connection.request.path).query)["command"]
    pipe = subprocess.PIPE
    program = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0)
    sending = threading.Lock()

    def forward(stream: IO[bytes], number: int) -> None:
        while data := stream.read(65536):
            with sending, contextlib.suppress(ConnectionClosed):
                connection.send(bytes([number]) + data)

    def feed(stream: IO[bytes]) -> None:
        with stream, contextlib.suppress(ConnectionClosed, OSError):
            for message in connection:
                assert isinstance(message, bytes)
                rest = memoryview(message)[1:]
                while rest:
                    rest = rest[stream.write(rest) :]

    assert program.stdin
    assert program.stdout
    assert program.stderr
    outputs = [
        threading.Thread(target=forward, args=(program.stdout, 1)),
        threading.Thread(target=forward, args=(program.stderr, 2)),
    ]
    feeder = threading.Thread(target=feed, args=(program.stdin,))
    for thread in (*outputs, feeder):
        thread.start()
    for thread in outputs:
        thread.join()
    with sending, contextlib.suppress(ConnectionClosed):
        connection.send(b"\3" + _status(program.wait()))
    connection.close()
    feeder.join()


@contextlib.contextmanager
def exec_server(ca: trustme.CA) -> Iterator[str]:
    """Serve on loopback; gives the address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    with serve(
        _run,
        "127.0.0.1",
        0,
        ssl=context,
        subprotocols=["v4.channel.k8s.io"],  # type: ignore[list-item]
        compression=None,
    ) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"https://127.0.0.1:{server.socket.getsockname()[1]}"
        server.shutdown()
        thread.join()
