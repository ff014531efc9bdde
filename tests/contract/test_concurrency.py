"""Concurrency limits of tags, which the Prefect server keeps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.task_runners import TaskRunner


@task
def span(_: int) -> tuple[float, float]:
    start = time.time()
    time.sleep(0.4)
    return start, time.time()


@pytest.fixture
def one_at_a_time() -> Iterator[str]:
    """A tag whose task runs the server lets run one at a time."""
    tag = f"limited-{uuid4()}"
    with get_client(sync_client=True) as client:
        client.create_concurrency_limit(tag=tag, concurrency_limit=1)
        yield tag
        client.delete_concurrency_limit_by_tag(tag)


def overlaps(spans: list[tuple[float, float]]) -> bool:
    ordered = sorted(spans)
    return any(start < end for (_, end), (start, _) in pairwise(ordered))


def test_a_tags_limit_holds(runner: TaskRunner[Any], one_at_a_time: str) -> None:
    @flow(task_runner=runner)
    def spans(*tags: str) -> list[tuple[float, float]]:
        return span.with_options(tags=tags).map(range(3)).result()

    assert overlaps(spans("unlimited")), "they would not overlap without a limit"
    assert not overlaps(spans(one_at_a_time))
