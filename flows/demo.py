"""Count the primes below one million on this machine's cores: `make demo`.

The smallest complete use of the package: a task with a helper function, mapped over a range,
run in worker processes instead of in this one. It says that it worked only after it has
checked every result, where each was computed, and what the Prefect server recorded.
"""

from __future__ import annotations

import logging
import os
import platform
import shlex
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TypedDict
from uuid import UUID

from prefect import flow, get_client, runtime, task
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.sorting import TaskRunSort
from prefect.futures import as_completed
from prefect.logging.handlers import PrefectConsoleHandler
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, PREFECT_UI_URL
from rich.console import Console
from rich.progress import Progress

from clustrix_prefect import ClusterTaskRunner, LocalCluster

SLICES = 25
LENGTH = 40_000
PRIMES_BELOW_ONE_MILLION = 78_498


class Slice(TypedDict):
    """What one call found, and where it ran."""

    primes: int
    host: str
    pid: int


def is_prime(number: int) -> bool:
    """Whether no smaller number divides this one."""
    if number < 4:
        return number > 1
    if number % 2 == 0:
        return False
    return all(number % divisor for divisor in range(3, int(number**0.5) + 1, 2))


@task(log_prints=True, task_run_name="primes from {start}")
def count_primes(start: int) -> Slice:
    """Count the primes of one slice."""
    primes = sum(is_prime(number) for number in range(start, start + LENGTH))
    print(f"{primes} primes from {start:,} to {start + LENGTH - 1:,}")
    return {"primes": primes, "host": platform.node(), "pid": os.getpid()}


@flow(task_runner=ClusterTaskRunner(LocalCluster()))
def primes_below_one_million() -> tuple[UUID, list[Slice]]:
    """Map the slices over this machine's cores and wait for all of them."""
    futures = count_primes.map([LENGTH * number for number in range(SLICES)])
    with Progress(console=_log_console(), redirect_stdout=False) as progress:
        bar = progress.add_task("slices counted", total=SLICES)
        for _ in as_completed(futures):
            progress.advance(bar)
    return UUID(runtime.flow_run.id), [future.result() for future in futures]


def primes_by_sieve() -> list[int]:
    """The same counts, found here and by another method."""
    sieve = bytearray([1]) * (SLICES * LENGTH)
    sieve[:2] = b"\0\0"
    for number in range(2, int(len(sieve) ** 0.5) + 1):
        if sieve[number]:
            sieve[number * number :: number] = bytes(len(sieve[number * number :: number]))
    return [sum(sieve[LENGTH * number : LENGTH * (number + 1)]) for number in range(SLICES)]


def faults_in(results: list[Slice]) -> list[str]:
    """What is wrong with the results, or with where they were computed."""
    expected = primes_by_sieve()
    faults = [
        f"slice {number}: {result['primes']} primes, but there are {right}"
        for number, (result, right) in enumerate(zip(results, expected, strict=True))
        if result["primes"] != right
    ]
    if sum(expected) != PRIMES_BELOW_ONE_MILLION:
        faults.append(f"the check itself is wrong: it finds {sum(expected)} primes")
    if any(result["pid"] == os.getpid() for result in results):
        faults.append(f"calls ran in process {os.getpid()}, which is the flow's own")
    return faults


def faults_in_record(flow_run_id: UUID, patience: float = 20) -> list[str]:
    """What the Prefect server lacks: it records states and logs a little later."""
    deadline = time.monotonic() + patience
    while True:
        with get_client(sync_client=True) as client:
            this_run = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
            task_runs = client.read_task_runs(
                flow_run_filter=this_run, sort=TaskRunSort.NAME_ASC, limit=200
            )
            logs = client.read_logs(
                LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run_id])), limit=200, offset=0
            )
        completed = sum(run.state is not None and run.state.is_completed() for run in task_runs)
        printed = sum(" primes from " in log.message for log in logs)
        if completed == printed == SLICES:
            return []
        if time.monotonic() > deadline:
            return [
                f"the server has {completed} completed task runs and {printed} printed lines, "
                f"not {SLICES} of each"
            ]
        time.sleep(0.25)


def where_to_look(flow_run_id: UUID) -> str:
    """How to open the run in the UI."""
    page = f"runs/flow-run/{flow_run_id}"
    if PREFECT_API_URL.value():
        return f"Open it in the UI: {PREFECT_UI_URL.value()}/{page}"
    prefect = Path(sys.executable).with_name("prefect")
    home = shlex.quote(str(PREFECT_HOME.value()))
    return (
        "Open it in the UI:\n"
        f"  PREFECT_HOME={home} {shlex.quote(str(prefect))} server start\n"
        f"  http://127.0.0.1:4200/{page}"
    )


def main() -> int:
    """Run the flow and check all of it."""
    flow_run_id, results = primes_below_one_million()

    workers = Counter((result["host"], result["pid"]) for result in results)
    print(f"\n{sum(result['primes'] for result in results):,} primes below one million.")
    print(f"The flow ran on {platform.node()} in process {os.getpid()}; its calls ran on")
    for (host, pid), calls in sorted(workers.items()):
        print(f"  {host} in process {pid}: {calls} calls")

    faults = faults_in(results) + faults_in_record(flow_run_id)
    for fault in faults:
        print(f"FAILED: {fault}")
    if not faults:
        print(f"It works: all {SLICES} results, states and printed lines were checked.")
    print(where_to_look(flow_run_id))
    return 1 if faults else 0


def _log_console() -> Console | None:
    """The console that Prefect logs to, so that its lines go above the bar, not through it."""
    handlers = logging.getLogger("prefect").handlers
    return next((h.console for h in handlers if isinstance(h, PrefectConsoleHandler)), None)


if __name__ == "__main__":
    sys.exit(main())
