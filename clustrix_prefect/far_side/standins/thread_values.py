"""What each thread of a call has for itself."""

import contextlib
import importlib
from typing import Any, Dict, Iterator


class _Variable:
    """What a thread of the call has for itself; in 3.6 all have the same."""

    def __init__(self) -> None:
        self._value: Any = None

    def get(self) -> Any:
        return self._value

    def set(self, value: Any) -> Any:
        before, self._value = self._value, value
        return before

    def reset(self, before: Any) -> None:
        self._value = before


try:
    _ContextVar: Any = importlib.import_module("contextvars").ContextVar
    inner_runs: Any = _ContextVar("inner_run", default=None)
    tags: Any = _ContextVar("tags", default=None)
except ImportError:  # Python 3.6
    inner_runs, tags = _Variable(), _Variable()


@contextlib.contextmanager
def inner_run(facts: Dict[str, Any]) -> Iterator[None]:
    """Have `prefect.runtime.task_run` tell of this run of an inner task."""
    token = inner_runs.set(facts)
    try:
        yield
    finally:
        inner_runs.reset(token)
