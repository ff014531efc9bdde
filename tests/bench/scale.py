"""10,000 calls in one flow process: its memory, and whether every task run ends in the API."""

from __future__ import annotations

import time
from functools import partial

from prefect.client.orchestration import get_client

from clustrix_prefect import ClusterTaskRunner, resources
from clustrix_prefect.clusters.cluster import ClusterBlock
from tests.bench.apart import apart
from tests.bench.floors import scontrol
from tests.bench.flows import Mapped, map_noops, measured_flow, noop
from tests.bench.lab import Lab
from tests.bench.table import Bound, Part, Row
from tests.live.slurm import PARTITION

CALLS = 10_000
# One job runs this many calls, or the queue would take longer to empty than all of the rest.
CALLS_PER_JOB = 100

_MEMORY_GIB = 1.5
_GIB = 2**30


def measure(lab: Lab) -> Part:
    """A map on this machine."""
    lab.prefect  # noqa: B018
    part = Part(f"{CALLS:,} calls in one flow process")
    runner = partial(ClusterTaskRunner, lab.local_cluster())
    _add_rows(part, lab, "LocalCluster", apart(lab.log, map_noops, runner, CALLS))
    part.remarks.append(
        "Task runs are paced to what Prefect's server takes in, which decides the rate."
    )
    return part


def measure_queue(lab: Lab) -> Part:
    """A map that waits in SLURM's queue, all of it, until let go."""
    lab.prefect  # noqa: B018
    part = Part(f"{CALLS:,} calls in the queue at once")
    cluster = lab.slurm_cluster()
    held = apart(lab.log, map_held_back, cluster, lab.slurm.environment)
    _add_rows(part, lab, "SlurmCluster", held)
    part.remarks.append(
        f"The partition is down until the API shows all {CALLS:,} as `Queued`; "
        f"{CALLS_PER_JOB} calls a job."
    )
    return part


def _add_rows(part: Part, lab: Lab, name: str, mapped: Mapped) -> None:
    ended = time.monotonic()
    counts = lab.settle(mapped.flow_run_id, mapped.task_runs)
    later = time.monotonic() - ended
    gib = mapped.peak_memory / _GIB
    part.rows += [
        Row(
            f"{name}: peak memory of the flow's process",
            f"{gib:.2f} GiB",
            bound=Bound("<", _MEMORY_GIB, " GiB"),
            figure=gib,
        ),
        Row(
            f"{name}: task runs that ended in the API",
            f"{counts.final:,} of {counts.shown:,}",
            f"{mapped.task_runs:,} submitted",
            bound=Bound("==", mapped.task_runs),
            figure=counts.final,
        ),
        Row(
            f"{name}: from map to the last result",
            f"{mapped.seconds:.0f} s",
            f"all ended in the API {later:.0f} s after the process",
            f"{mapped.rate:.0f}/s",
        ),
    ]


def map_held_back(cluster: ClusterBlock, slurm_environment: dict[str, str]) -> Mapped:
    """Map no-ops onto a cluster that starts nothing until all of them wait there."""

    @measured_flow(partial(ClusterTaskRunner, cluster))
    def measured(mapped: Mapped) -> None:
        scontrol(slurm_environment, "update", f"partitionname={PARTITION}", "state=down")
        try:
            with resources(calls_per_job=CALLS_PER_JOB):
                began = time.perf_counter()
                futures = noop.map(range(CALLS))
                mapped.submit_seconds = time.perf_counter() - began
            _await_queued(mapped)
        finally:
            scontrol(slurm_environment, "update", f"partitionname={PARTITION}", "state=up")
        assert futures.result() == list(range(CALLS))
        mapped.seconds = time.perf_counter() - began
        mapped.calls = mapped.task_runs = CALLS

    return measured()


def _await_queued(mapped: Mapped, patience: float = 600.0) -> None:
    """Wait until the API shows every call as waiting in the cluster's queue."""
    queued = {
        "flow_run_id": {"any_": [str(mapped.flow_run_id)]},
        "state": {"name": {"any_": ["Queued"]}},
    }
    deadline = time.monotonic() + patience
    with get_client(sync_client=True) as client:
        while time.monotonic() < deadline:
            answer = client.request("POST", "/task_runs/count", json={"task_runs": queued})
            if answer.json() >= CALLS:
                return
            time.sleep(1)
    raise AssertionError(f"after {patience:.0f} s {answer.json()} of {CALLS} were queued")
