"""A package index that takes connections and never answers."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def stalling_index() -> Iterator[tuple[dict[str, str], threading.Event]]:
    """Environment variables that make pip ask it, and an event for when it does."""
    asked = threading.Event()
    kept: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    kept.append(server.accept()[0])
                    asked.set()

        threading.Thread(target=serve, daemon=True).start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}/simple"
        try:
            yield {"PIP_CONFIG_FILE": "/dev/null", "PIP_INDEX_URL": address}, asked
        finally:
            for connection in kept:
                connection.close()
