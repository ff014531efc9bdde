"""Secrets that were read already: each is read once per flow run, and forgotten with it."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Hashable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar, cast

from prefect.context import FlowRunContext

T = TypeVar("T")


class SecretCache:
    """What was read, by what it was read from. It does not travel, and does not show itself."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Any] = {}
        self._reading: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def once(self, key: Hashable, read: Callable[[], T]) -> T:
        """Return what `read` returned the first time; others who ask meanwhile wait for it."""
        with self._lock:
            reading = self._reading.setdefault(key, threading.Lock())
        with reading:
            if key not in self._known:
                self._known[key] = read()
            return cast("T", self._known[key])

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self._known)} things>"

    def __reduce__(self) -> str:
        raise TypeError("secrets that were read do not travel to other processes")


_given: ContextVar[SecretCache | None] = ContextVar("clustrix_credentials_memory", default=None)
_memories: dict[int, SecretCache] = {}
_lock = threading.Lock()


def current_cache() -> SecretCache:
    """The memory of the flow run that this is called in; a fresh one outside of flow runs."""
    if (memory := _given.get()) is not None:
        return memory
    context = FlowRunContext.get()
    return memory_of(context.task_runner) if context is not None else SecretCache()


def memory_of(task_runner: object) -> SecretCache:
    """Return the memory of the flow run that has this task runner.

    Each flow run has a task runner of its own. It is there, and connects to its cluster, before
    Prefect has made the flow run's context. The memory lives as long as it does.
    """
    key = id(task_runner)
    with _lock:
        if key not in _memories:
            _memories[key] = SecretCache()
            weakref.finalize(task_runner, _memories.pop, key, None).atexit = False
        return _memories[key]


@contextlib.contextmanager
def remembering(memory: SecretCache) -> Iterator[None]:
    """Use this memory for a while, whatever flow run this is."""
    token = _given.set(memory)
    try:
        yield
    finally:
        _given.reset(token)
