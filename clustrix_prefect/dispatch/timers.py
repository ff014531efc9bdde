"""One thread that calls functions at their time."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)


class Timer:
    """A function that will be called once, unless it is cancelled."""

    __slots__ = ("action",)

    def __init__(self, action: Callable[[], None]) -> None:
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        self.action = None


class Timers:
    """Calls functions at their time, one after another, so they must be quick."""

    def __init__(self, name: str) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def after(self, seconds: float, action: Callable[[], None]) -> Timer:
        """Call the function once, this many seconds from now."""
        timer = Timer(action)
        with self._changed:
            entry = (time.monotonic() + seconds, next(self._order), timer)
            heapq.heappush(self._heap, entry)
            if self._heap[0] is entry:
                self._changed.notify()
        return timer

    def every(self, seconds: float, action: Callable[[], None]) -> None:
        """Call the function again and again, this many seconds apart, until closed."""

        def again() -> None:
            try:
                action()
            finally:
                self.after(seconds, again)

        self.after(seconds, again)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._closed and (
                    not self._heap or (wait := self._heap[0][0] - time.monotonic()) > 0
                ):
                    self._changed.wait(wait if self._heap else None)
                if self._closed:
                    return
                timer = heapq.heappop(self._heap)[2]
            if timer.action is not None:
                try:
                    timer.action()
                except Exception:
                    logger.exception("A timer's function failed")
