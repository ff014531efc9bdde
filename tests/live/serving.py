"""A server of the standard library, in a thread of the test's own process."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from socketserver import BaseServer


@contextlib.contextmanager
def serving(server: BaseServer, poll_seconds: float = 0.01) -> Iterator[None]:
    """Serve until the end of the block, and close the server."""
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(poll_seconds,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
