"""How many calls a second, and how long one call takes, beside Prefect's own runners."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

from prefect.task_runners import ThreadPoolTaskRunner

from clustrix_prefect import ClusterTaskRunner
from tests.bench.apart import apart
from tests.bench.flows import Mapped, map_noops
from tests.bench.lab import Lab
from tests.bench.table import Bound, Part, Row, milliseconds, spread

CALLS = 1000
SINGLE_CALLS = 20
ROUNDS = 3
# prefect-dask takes a tenth of a second for each call.
DASK_CALLS = 100

_LONGER_MS = 10
_LONGER_OVER_OPENSSH_MS = 1
_PARAMIKO, _OPENSSH = "SSHCluster over loopback", "the same over OpenSSH"
_SHARE = {"LocalCluster": 0.6, _PARAMIKO: 0.5, _OPENSSH: 0.5}


def measure(lab: Lab) -> Part:
    """No-op calls in threads, on this machine and over SSH, in turn."""
    lab.prefect  # noqa: B018
    local, ssh = lab.local_cluster(), lab.ssh_cluster()
    over_openssh = lab.ssh_cluster(connection="openssh")
    runners: dict[str, Callable[[], Any]] = {
        "ThreadPoolTaskRunner(16)": partial(ThreadPoolTaskRunner, max_workers=16),
        "LocalCluster": partial(ClusterTaskRunner, local),
        _PARAMIKO: partial(ClusterTaskRunner, ssh),
        _OPENSSH: partial(ClusterTaskRunner, over_openssh),
    }
    found: dict[str, list[Mapped]] = {name: [] for name in runners}
    for _ in range(ROUNDS):
        for name, make in runners.items():
            found[name].append(_map(lab, make, CALLS))
    over_openssh.master.close()
    if find_spec("prefect_dask"):
        found["prefect-dask, 4 local workers"] = [_map(lab, dask_runner, DASK_CALLS)]
    return _part(found)


def _map(lab: Lab, make: Callable[[], Any], calls: int) -> Mapped:
    mapped = apart(lab.log, map_noops, make, calls, single_calls=SINGLE_CALLS)
    lab.settle(mapped.flow_run_id, mapped.task_runs)
    return mapped


def dask_runner() -> Any:
    """prefect-dask as its documentation shows it, with one thread for each worker process."""
    from prefect_dask import DaskTaskRunner

    return DaskTaskRunner(cluster_kwargs={"n_workers": 4, "threads_per_worker": 1})


def _part(found: dict[str, list[Mapped]]) -> Part:
    part = Part(f"{CALLS:,} no-op calls mapped, and one call on a warm connection")
    threads = found["ThreadPoolTaskRunner(16)"]
    for name, runs in found.items():
        # Each run beside the one in threads of the same round: the load may change between.
        shares = [run.rate / beside.rate for run, beside in zip(runs, threads, strict=False)]
        share = statistics.median(shares)
        bound = Bound(">=", _SHARE[name]) if name in _SHARE else None
        part.rows.append(
            Row(
                f"{name}: {runs[0].calls:,} calls",
                spread([run.rate for run in runs], "/s"),
                spread([run.rate for run in threads], "/s"),
                spread(shares, digits=2),
                bound,
                share,
            )
        )
    beside = [second for run in threads for second in run.one_call]
    for name, runs in found.items():
        one_call = [second for run in runs for second in run.one_call]
        longer = 1000 * (statistics.median(one_call) - statistics.median(beside))
        part.rows.append(
            Row(
                f"{name}: one call",
                milliseconds(one_call),
                milliseconds(beside),
                f"{longer:+.1f} ms",
                Bound("<=", _LONGER_MS, " ms more") if name in _SHARE else None,
                longer,
            )
        )
    calls = {
        name: [second for run in found[name] for second in run.one_call]
        for name in (_OPENSSH, _PARAMIKO)
    }
    longer = 1000 * (statistics.median(calls[_OPENSSH]) - statistics.median(calls[_PARAMIKO]))
    part.rows.append(
        Row(
            "one call over OpenSSH, beside paramiko",
            milliseconds(calls[_OPENSSH]),
            milliseconds(calls[_PARAMIKO]),
            f"{longer:+.1f} ms",
            Bound("<=", _LONGER_OVER_OPENSSH_MS, " ms more"),
            longer,
        )
    )
    part.remarks.append(
        f"Medians (lowest to highest) of {ROUNDS} rounds, in turn, each flow in a new process; "
        "beside it: ThreadPoolTaskRunner(16) of the same rounds."
    )
    return part
