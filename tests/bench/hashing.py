"""What a large argument that every call gets costs, in Prefect's cache keys and in ours."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from prefect import task, unmapped
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import ThreadPoolTaskRunner

from clustrix_prefect import ClusterTaskRunner
from tests.bench.apart import apart
from tests.bench.flows import MakeRunner, Mapped, measured_flow
from tests.bench.lab import Lab
from tests.bench.table import Part, Row

CALLS = 50
MEBIBYTES = 64


@task
def size_of(number: int, data: bytes) -> int:
    """The size of the data, under Prefect's default cache policy."""
    return len(data)


def measure(lab: Lab) -> Part:
    """A map with a large unmapped argument, with and without Prefect's default cache policy."""
    lab.prefect  # noqa: B018
    part = Part(f"{CALLS} calls with the same {MEBIBYTES} MiB argument")
    runners: dict[str, Callable[[], Any]] = {
        "ThreadPoolTaskRunner(16)": partial(ThreadPoolTaskRunner, max_workers=16),
        "LocalCluster": partial(ClusterTaskRunner, lab.local_cluster()),
    }
    for name, make in runners.items():
        seconds = {}
        for policy in ("default", "none"):
            mapped = apart(lab.log, map_large, make, cached=policy == "default")
            lab.settle(mapped.flow_run_id, mapped.task_runs)
            seconds[policy] = mapped.seconds
        part.rows.append(
            Row(
                f"{name}: map to results, default cache policy",
                f"{seconds['default']:.1f} s",
                f"{seconds['none']:.1f} s with NO_CACHE",
                f"{seconds['default'] - seconds['none']:+.1f} s",
            )
        )
    part.remarks.append(
        "Prefect's default policy hashes every argument for each call; `cache_policy=NO_CACHE` "
        "on a task with large arguments saves it."
    )
    return part


def map_large(make_runner: MakeRunner, *, cached: bool) -> Mapped:
    """Map over numbers, with the same large argument for all."""
    subject = size_of if cached else size_of.with_options(cache_policy=NO_CACHE)

    @measured_flow(make_runner)
    def measured(mapped: Mapped) -> None:
        subject.submit(0, b"").result()
        data = bytes(range(256)) * (MEBIBYTES * 4096)
        began = time.perf_counter()
        sizes = subject.map(range(CALLS), unmapped(data)).result()
        mapped.seconds = time.perf_counter() - began
        assert sizes == [len(data)] * CALLS
        mapped.calls, mapped.task_runs = CALLS, CALLS + 1

    return measured()
