"""Calls as SLURM jobs, beside what SLURM itself takes for as many jobs that start Python."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from uuid import UUID

from prefect import flow, runtime

from clustrix_prefect import ClusterTaskRunner, SlurmCluster
from tests.bench.apart import apart
from tests.bench.floors import BareSlurm, Submitit
from tests.bench.flows import at_random_phase, noop
from tests.bench.lab import Lab
from tests.bench.table import Bound, Part, Row, spread

SINGLE_CALLS = 20
ELEMENTS = 200
ROUNDS = 5

_LONGER_SECONDS = 0.3
_ARRAY_SHARE = 1.3


@dataclass
class Times:
    """Seconds that each way took, by its name."""

    one: dict[str, list[float]] = field(default_factory=dict)
    array: dict[str, list[float]] = field(default_factory=dict)
    flow_run_id: UUID | None = None


def measure(lab: Lab) -> Part:
    """One call and an array of calls, in turn with bare jobs and with submitit."""
    lab.prefect  # noqa: B018
    cluster = lab.slurm_cluster()
    scratch = lab.directory("scratch")
    times = apart(lab.log, take_times, cluster, lab.far_python, scratch)
    assert times.flow_run_id is not None
    lab.settle(times.flow_run_id, SINGLE_CALLS + 1 + ROUNDS * ELEMENTS)
    return _part(times)


def take_times(cluster: SlurmCluster, python: str, scratch: Path) -> Times:
    """Time everything within one flow, so that its connection is warm."""
    bare = BareSlurm(python, scratch)
    peer = Submitit(scratch) if find_spec("submitit") else None

    @flow(task_runner=ClusterTaskRunner(cluster))
    def measured() -> Times:
        noop.submit(0).result()
        ones: dict[str, Callable[[], object]] = {
            "floor": bare.one,
            "SlurmCluster": lambda: noop.submit(1).result(),
        }
        arrays: dict[str, Callable[[], object]] = {
            "floor": lambda: bare.array(ELEMENTS),
            "SlurmCluster": lambda: noop.map(range(ELEMENTS)).result(),
        }
        if peer is not None:
            ones["submitit"] = peer.one
        times = Times(flow_run_id=UUID(runtime.flow_run.id))
        times.one = at_random_phase(ones, SINGLE_CALLS)
        times.array = at_random_phase(arrays, ROUNDS)
        if peer is not None:
            times.array |= at_random_phase({"submitit": lambda: peer.array(ELEMENTS)}, 1)
        return times

    return measured()


def _part(times: Times) -> Part:
    part = Part(f"SLURM: one call, and {ELEMENTS} calls as an array")
    floor = times.one["floor"]
    for name, took in times.one.items():
        share = statistics.median(took) / statistics.median(floor)
        longer = statistics.median(took) - statistics.median(floor)
        ours = name == "SlurmCluster"
        cells = (f"{name}: one call", spread(took, " s", 2), spread(floor, " s", 2))
        bound = Bound("<=", _LONGER_SECONDS, " s more") if ours else None
        part.rows.append(Row(*cells, f"{longer:+.2f} s", bound, longer))
        part.rows.append(Row(*cells, f"{share:.2f}", None, share))
    floor = times.array["floor"]
    for name, took in times.array.items():
        # Each beside the floor of its own round: the load may change between.
        shares = [mine / bare for mine, bare in zip(took, floor, strict=False)]
        share = statistics.median(shares)
        part.rows.append(
            Row(
                f"{name}: {ELEMENTS} calls",
                spread(took, " s", 1),
                spread(floor, " s", 1),
                spread(shares, digits=2),
                Bound("<=", _ARRAY_SHARE) if name == "SlurmCluster" else None,
                share,
            )
        )
    part.remarks += [
        "Floor: `sbatch` of a script that starts Python and touches a file, until it is seen; for "
        "the array, the same array of them.",
        f"One call: medians of {SINGLE_CALLS}, in turn, each begun at a random moment, over SSH "
        "(floor and submitit on the machine itself). Much of it is the wait, up to a second, for "
        "the scheduler's next look: what is bounded is how much longer ours takes, not how many "
        f"times as long. Array: {ROUNDS} rounds, in turn.",
    ]
    return part
