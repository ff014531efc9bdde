"""A flow that prints how many copies of a large value it held at most, for each kind of value."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from clustrix_prefect import ClusterTaskRunner, LocalCluster
from tests.bench.apart import peak_memory

SIZE = 96 * 1024 * 1024
# The longest that an element of the containers is, so that they are mostly their elements.
ELEMENT = 8 * 1024


# Prefect makes a copy of its own of what it looks for in its cache.
@task(cache_policy=NO_CACHE)
def make(kind: str, size: int) -> Any:
    if kind == "array":
        import numpy

        return numpy.ones(size // 8)
    return {"bytes": b"x" * size, "text": "x" * size, "nothing": None}[kind]


@task(cache_policy=NO_CACHE)
def length(value: Any) -> int:
    return len(value)


def copies(step: Callable[[], object]) -> float:
    """How much memory a step takes at its peak, in sizes of the value."""
    length.submit("").result()  # after which nobody has hold of the call before
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_memory()
    step()
    return (peak_memory() - before) / SIZE


@flow
def measure() -> dict[str, float]:
    make.submit("nothing", 0).result()
    found = {}
    for kind in ("bytes", "text", "array"):
        found[f"{kind} returned"] = copies(lambda kind=kind: make.submit(kind, SIZE).result())  # type: ignore[misc]
    elements = [f"{number:>{ELEMENT}}" for number in range(SIZE // ELEMENT)]
    for name, value in {
        "bytes": b"x" * SIZE,
        "array": numpy.ones(SIZE // 8),
        "list": elements,
        "set": set(elements),
    }.items():
        # The value itself is there already.
        found[f"{name} passed"] = 1 + copies(lambda value=value: length.submit(value).result())  # type: ignore[misc]
    return found


if __name__ == "__main__":
    runner = ClusterTaskRunner(LocalCluster(remote_work_dir=sys.argv[1], python=sys.executable))
    print(json.dumps(measure.with_options(task_runner=runner)()))
