"""The command line's `clustrix-prefect jobs`: list them, read their logs, cancel them."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, TextIO

from cyclopts import Parameter
from humanize import naturaltime

from clustrix_prefect.cli.arguments import AsJson, Block
from clustrix_prefect.cli.terminal import confirmed, print_json, print_table

if TYPE_CHECKING:
    from clustrix_prefect.sessions.job_listing import OurJob


def list_jobs(
    block: Block,
    /,
    *,
    ended: Annotated[bool, Parameter(name="--all")] = False,
    as_json: AsJson = False,
) -> int:
    """List our jobs on a cluster.

    Args:
        ended: those that have ended, too
    """
    from clustrix_prefect.clusters import load_cluster
    from clustrix_prefect.sessions.job_listing import cluster_jobs

    with cluster_jobs(load_cluster(block)) as jobs:
        found = [job for job in jobs.find() if ended or job.queued or job.running]
    if as_json:
        print_json([job.as_dict() for job in found])
    elif not found:
        print("No jobs of ours.")
    else:
        _print_jobs(found, ended)
    return 0


def show_logs(
    block: Block,
    call: str,
    /,
    *,
    follow: Annotated[bool, Parameter(name=("--follow", "-f"))] = False,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> int:
    """Show what a call writes and logs.

    Args:
        call: its task run's name, or its job: 268_19
        follow: until its job has ended
        as_json: print JSON, an object a line
    """
    from clustrix_prefect.clusters import load_cluster
    from clustrix_prefect.sessions.job_listing import cluster_jobs

    with cluster_jobs(load_cluster(block)) as jobs:
        for line in jobs.logs(call, follow):
            print(json.dumps({"line": line}) if as_json else line, flush=True)
    return 0


def cancel_jobs(
    block: Block,
    /,
    *jobs: Annotated[str, Parameter(name="JOB")],
    yes: bool = False,
    as_json: AsJson = False,
) -> int:
    """Cancel our jobs on a cluster.

    Args:
        jobs: only these; by default all
        yes: do not ask
    """
    from clustrix_prefect.clusters import load_cluster
    from clustrix_prefect.sessions.job_listing import cluster_jobs

    with cluster_jobs(load_cluster(block)) as ours:
        alive = [job for job in ours.find() if job.queued or job.running]
        chosen = [job for job in alive if not jobs or job.id in jobs]
        unknown = set(jobs) - {job.id for job in chosen}
        if unknown:
            names = ", ".join(sorted(unknown))
            print(f"Not jobs of ours that are queued or running: {names}", file=sys.stderr)
            return 1
        if chosen and not (as_json and yes):
            _print_jobs(chosen, file=sys.stderr if as_json else sys.stdout)
        may = not chosen or yes or confirmed(_question(len(chosen)))
        if chosen and may:
            ours.cancel(chosen)
    if as_json:
        print_json({"cancelled": [job.as_dict() for job in chosen if may]})
    elif not chosen:
        print("No jobs of ours are queued or running.")
    else:
        print(f"Cancelled {len(chosen)}." if may else "Nothing was cancelled.")
    return 0 if may else 1


def _question(number: int) -> str:
    return f"Cancel {'this job' if number == 1 else f'these {number} jobs'}?"


def _print_jobs(jobs: Sequence[OurJob], ended: bool = False, file: TextIO | None = None) -> None:
    columns = ["JOB", "FLOW", "FLOW RUN", "TASK", "SUBMITTED", "QUEUED", "RUNNING"]
    header = (*columns, *(["ENDED"] if ended else []), "STARTS", "REASON")
    rows = [
        (
            job.id,
            job.flow,
            job.flow_run,
            job.task or job.name,
            _ago(job.submitted),
            *map(str, (job.queued, job.running)),
            *([str(job.ended)] if ended else []),
            job.starts,
            job.reason,
        )
        for job in jobs
    ]
    print_table(rows, header, file=file)


def _ago(at: float | None) -> str:
    return "" if at is None else naturaltime(max(0.0, time.time() - at))
