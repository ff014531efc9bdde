"""Threads for the steps of task runs: few while they are quick, more when some block.

The steps are mostly Python and hold the interpreter's lock, so a handful of threads is the
fastest. But a step also runs the user's hooks and writes results, which may take long, so
threads that have been busy with one step for a while no longer count, and others take
their place.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable

from clustrix_prefect.dispatch.timers import Timers

logger = logging.getLogger(__name__)

_QUICK_SECONDS = 0.1
_IDLE_SECONDS = 5.0


class StepPool:
    """An elastic pool of threads.

    Args:
        name: Of its threads.
        timers: Looks every 50 ms whether threads are needed in place of busy ones.
        core: Threads that are not blocked, at most.
        limit: Threads in all, at most.
        gate: Called before each step; blocks while the step has to wait.
    """

    def __init__(
        self,
        name: str,
        timers: Timers,
        *,
        core: int = 4,
        limit: int = 1000,
        gate: Callable[[], None] | None = None,
    ) -> None:
        self._name = name
        self._core = core
        self._limit = limit
        self._gate = gate
        self._steps: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._busy_since: dict[int, float] = {}
        self._threads: set[threading.Thread] = set()
        self._lock = threading.Lock()
        self._closed = False
        timers.every(0.05, self._replace_blocked)

    def submit(self, step: Callable[[], None]) -> None:
        """Run a step in some thread, soon. A step must not raise."""
        self._steps.put(step)
        if len(self._threads) < self._core:
            with self._lock:
                if len(self._threads) < self._core:
                    self._add_thread()

    def close(self) -> None:
        """Let the threads end once the steps that are queued have run."""
        self._closed = True
        for _ in range(len(self._threads)):
            self._steps.put(None)

    def _replace_blocked(self) -> None:
        if self._steps.empty() or self._closed:
            return
        long_ago = time.monotonic() - _QUICK_SECONDS
        with self._lock:
            blocked = sum(since < long_ago for since in tuple(self._busy_since.values()))
            wanted = min(self._core + blocked, self._limit, len(self._threads) + self._core)
            for _ in range(wanted - len(self._threads)):
                self._add_thread()

    def _add_thread(self) -> None:
        thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._threads.add(thread)
        thread.start()

    def _run(self) -> None:
        me = threading.current_thread()
        try:
            while True:
                try:
                    step = self._steps.get(timeout=_IDLE_SECONDS)
                except queue.Empty:
                    with self._lock:
                        if len(self._threads) > self._core or self._closed:
                            self._threads.discard(me)
                            return
                    continue
                if step is None:
                    return
                if self._gate is not None:
                    self._gate()
                self._busy_since[id(me)] = time.monotonic()
                try:
                    step()
                except BaseException:
                    logger.exception("A step of a task run failed")
                finally:
                    self._busy_since.pop(id(me), None)
                    del step
        finally:
            with self._lock:
                self._threads.discard(me)
