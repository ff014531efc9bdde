"""What the acceptance cases come to on a cluster, and whether that is right."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from prefect import flow
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from clustrix_prefect import ClusterTaskRunner
from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.errors import NotPortable
from tests.packaging.cases import CASES


def outcomes_on(cluster: ClusterBlock, cases: Sequence[tuple[Any, ...]] = CASES) -> dict[str, Any]:
    """What each case came to, all in one flow: its value, or the exception."""

    @flow(task_runner=ClusterTaskRunner(cluster))
    def run_all() -> dict[str, Any]:
        futures = {name: tried.submit(*args, **kw) for name, tried, args, kw, _ in cases}
        return {name: future.result(raise_on_failure=False) for name, future in futures.items()}

    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        return run_all()


def wrong_ones(outcomes: Mapping[str, Any], facts: set[str]) -> dict[str, Any]:
    """The outcomes that are neither the value here nor a refusal where there has to be one.

    Args:
        outcomes: By the names of the cases.
        facts: What is to be known of the far Python: its version, and what it lacks.
    """
    return {case[0]: outcomes[case[0]] for case in CASES if not is_right(case, outcomes, facts)}


def is_right(case: tuple[Any, ...], outcomes: Mapping[str, Any], facts: set[str]) -> bool:
    """Whether a case came to its value here, or to the refusal that it has to come to."""
    outcome = outcomes[case[0]]
    refusals = [text for fact, text in case[-1].items() if fact in facts]
    if refusals:
        return isinstance(outcome, NotPortable) and any(
            re.search(text, str(outcome)) for text in refusals
        )
    return not isinstance(outcome, BaseException) and is_same(expected(case), outcome)


def expected(case: tuple[Any, ...]) -> Any:
    """What the case gives here."""
    value = case[1].fn(*case[2], **case[3])
    return asyncio.run(value) if inspect.iscoroutine(value) else value


def is_same(one: Any, other: Any) -> bool:
    """Whether both type and value are equal."""
    if isinstance(one, np.ndarray):
        return type(other) is np.ndarray and one.dtype == other.dtype and (one == other).all()
    if type(one) is dict is type(other):
        return one.keys() == other.keys() and all(is_same(one[key], other[key]) for key in one)
    return type(one) is type(other) and one == other
