"""What 1,000 calls ask of a scheduler, and what goes over the connection."""

from __future__ import annotations

from functools import partial

from clustrix_prefect import ClusterTaskRunner
from clustrix_prefect.clusters.cluster import ClusterBlock
from tests.bench.apart import apart
from tests.bench.flows import Mapped, map_noops
from tests.bench.lab import Lab
from tests.bench.table import Bound, Part, Row

CALLS = 1000

_MOST_COMMANDS = 10
_STATUS = "squeue"


def measure(lab: Lab) -> Part:
    """Scheduler commands, connections, round trips and bytes of one large map each."""
    lab.prefect  # noqa: B018
    part = Part(f"What {CALLS:,} mapped calls ask of the cluster")
    clusters = {"SSHCluster": lab.ssh_cluster(), "SlurmCluster": lab.slurm_cluster()}
    for name, cluster in clusters.items():
        _measure(lab, part, name, cluster)
    part.remarks += [
        "Commands are counted by wrappers on the account's PATH, from connecting to the end; "
        f"status commands (`{_STATUS}`) apart, one a poll for all jobs.",
        "Round trips are requests that wait for an answer; calls and results need none.",
    ]
    return part


def _measure(lab: Lab, part: Part, name: str, cluster: ClusterBlock) -> None:
    commands, logins = lab.scheduler_commands(), lab.ssh_logins()
    runner = partial(ClusterTaskRunner, cluster)
    mapped: Mapped = apart(lab.log, map_noops, runner, CALLS, warm_up=0, cluster=cluster)
    lab.settle(mapped.flow_run_id, mapped.task_runs)
    logins = lab.ssh_logins() - logins
    run = {
        command: count - commands.get(command, 0)
        for command, count in lab.scheduler_commands().items()
    }
    traffic = mapped.traffic
    assert traffic is not None
    part.rows += [
        Row(f"{name}: SSH connections", str(logins), bound=Bound("==", 1), figure=logins),
        Row(
            f"{name}: network round trips",
            str(traffic.round_trips),
            "",
            f"{traffic.round_trips / CALLS:.3f} a call",
        ),
        Row(
            f"{name}: sent and received",
            f"{traffic.sent / 1024:,.0f} and {traffic.received / 1024:,.0f} KiB",
            "",
            f"{traffic.sent / CALLS:,.0f} and {traffic.received / CALLS:,.0f} bytes a call",
        ),
    ]
    if any(run.values()):
        polls = run.pop(_STATUS, 0)
        others = sum(run.values())
        shown = ", ".join(f"{count} {command}" for command, count in run.items() if count)
        part.rows += [
            Row(
                f"{name}: scheduler commands",
                f"{others} ({shown})",
                bound=Bound("<=", _MOST_COMMANDS),
                figure=others,
            ),
            Row(f"{name}: status commands", f"{polls} in {mapped.seconds:.0f} s"),
        ]
