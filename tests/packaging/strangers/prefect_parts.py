"""What tasks do with Prefect while they run."""

from __future__ import annotations

import time
from typing import Any

from prefect import allow_failure, flow, get_run_logger, tags, task, unmapped
from prefect.context import TagsContext
from prefect.futures import as_completed, wait

TRIED: dict[int, int] = {}


@task
def double(x: int) -> int:
    return 2 * x


@task(retries=2)
def flaky(x: int) -> int:
    TRIED[x] = TRIED.get(x, 0) + 1
    if TRIED[x] < 3:
        raise ValueError(x)
    return TRIED[x]


@task(timeout_seconds=0.2)
def slow() -> None:
    time.sleep(5)


@task
def failing(x: int) -> None:
    raise KeyError(x)


@task
def add(a: int, b: int = 1) -> int:
    return a + b


@task
async def later(x: int) -> int:
    return x + 1


@flow
def inside(x: int = 3) -> int:
    return double.submit(x).result() + add(x)


def failed() -> Any:
    state = failing.submit(1).state
    future = failing.submit(2)
    future.wait()
    return future.state.is_failed(), state is not None, type(future.result(raise_on_failure=False))


def logged() -> str:
    logger = get_run_logger()
    logger.info("x %d", 3)
    print("printed")
    return "said"


def tagged() -> Any:
    with tags("a", "b"):
        return sorted(TagsContext.get().current_tags)


CASES: list[Any] = [
    lambda: double.submit(4).result(),
    lambda: double.map([1, 2, 3]).result(),
    lambda: [f.result() for f in add.map([1, 2], b=unmapped(5))],
    lambda: add.submit(double.submit(2), b=double.submit(3)).result(),
    lambda: flaky.submit(1).result(),
    lambda: flaky(2),
    lambda: sorted(f.result() for f in as_completed(double.map(range(4)))),
    lambda: len(wait(double.map(range(3))).done),
    lambda: failing.submit(7).result(),
    lambda: failing(8),
    failed,
    lambda: add.submit(1, wait_for=[double.submit(1)]).result(),
    lambda: double.with_options(name="other").submit(5).result(),
    lambda: double(6) + add(1, b=2),
    lambda: later.submit(1).result(),
    inside.fn,
    tagged,
    lambda: add.submit(1, b=allow_failure(double.submit(1))).result(),
]
