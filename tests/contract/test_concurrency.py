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

from tests.contract.conftest import Cluster

pytestmark = pytest.mark.engine


@task
def span(_: int, seconds: float) -> tuple[float, float]:
    start = time.time()
    time.sleep(seconds)
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


def test_a_tags_limit_holds(cluster: Cluster, runner: TaskRunner[Any], one_at_a_time: str) -> None:
    @flow(task_runner=runner)
    def spans(tag: str, seconds: float) -> list[tuple[float, float]]:
        return span.with_options(tags=[tag]).map(range(3), seconds).result()

    # The first pod would otherwise have run them all before there is a second one.
    seconds = 10 if cluster.name == "kubernetes" else 0.4
    assert overlaps(spans("unlimited", seconds)), "they would not overlap without a limit"
    assert not overlaps(spans(one_at_a_time, 0.4))
