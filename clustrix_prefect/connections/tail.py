"""The end of a stream that somebody may want to quote later."""

from __future__ import annotations

import threading

TAIL_BYTES = 8192
# A program's last words may come after its exit status, and are often the reason for it.
LAST_WORDS_SECONDS = 2.0


class Tail:
    """Keeps the last few kilobytes of what is appended; threads may share it."""

    def __init__(self, size: int = TAIL_BYTES) -> None:
        self._size = size
        self._kept = bytearray()
        self._lock = threading.Lock()

    def append(self, data: bytes) -> None:
        with self._lock:
            self._kept += data
            del self._kept[: -self._size]

    def text(self) -> str:
        with self._lock:
            return self._kept.decode("utf-8", "replace")
