"""A helper's module, with tasks, blocks and state of its own beside the helper."""

from __future__ import annotations

import functools
from typing import Any

from prefect import flow, get_run_logger, task

REGISTRY: dict[str, Any] = {}
LIMIT = 7
_cache: dict[int, int] = {}


class Item:
    def __init__(self, n: int) -> None:
        self.n = n

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Item) and other.n == self.n

    def __repr__(self) -> str:
        return f"Item({self.n})"


@task(retries=1, name="fetched")
def fetch(x: int) -> int:
    return x + LIMIT


@flow
def unused() -> None:
    get_run_logger().info("never")


def closure(factor: int) -> Any:
    def scale(x: int) -> int:
        _cache[x] = x * factor
        return _cache[x] + LIMIT

    return scale


def where() -> str:
    return __name__


def where_called(x: int) -> tuple[int, str]:
    return x + LIMIT, __name__.rpartition(".")[2]


def counted_elsewhere(function: Any) -> Any:
    calls = {"n": 0}

    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        calls["n"] += 1
        return calls["n"], function(*args)

    return wrapper
