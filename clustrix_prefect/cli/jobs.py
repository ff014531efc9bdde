"""The command line's `clustrix-prefect jobs`: list them, read their logs, cancel them."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clustrix_prefect.sessions.job_listing import OurJob


def add_job_commands(
    commands: Any, cluster: argparse.ArgumentParser, as_json: argparse.ArgumentParser
) -> None:
    """Add `jobs` and what it can do to the command line.

    Args:
        commands: The commands that there are.
        cluster: A parser for the cluster's name.
        as_json: A parser for `--json`.
    """
    jobs = commands.add_parser("jobs", help="list or cancel our jobs on a cluster")
    actions = jobs.add_subparsers(required=True, metavar="ACTION")
    listing = actions.add_parser("list", parents=[cluster, as_json], help="list our jobs")
    listing.add_argument("--all", action="store_true", help="those that have ended, too")
    listing.set_defaults(run=_list_jobs)
    logs = actions.add_parser("logs", parents=[cluster], help="show what a call writes and logs")
    logs.add_argument("call", metavar="CALL", help="its task run's name, or its job: 268_19")
    logs.add_argument("-f", "--follow", action="store_true", help="until its job has ended")
    logs.set_defaults(run=_show_logs)
    cancel = actions.add_parser("cancel", parents=[cluster], help="cancel our jobs")
    cancel.add_argument("jobs", nargs="*", metavar="JOB", help="only these; by default all")
    cancel.add_argument("--yes", action="store_true", help="do not ask")
    cancel.set_defaults(run=_cancel_jobs)


def _list_jobs(options: argparse.Namespace) -> int:
    from clustrix_prefect.clusters import load_cluster
    from clustrix_prefect.sessions.job_listing import cluster_jobs

    with cluster_jobs(load_cluster(options.block)) as jobs:
        found = [job for job in jobs.find() if options.all or job.queued or job.running]
    if options.json:
        print(json.dumps([job.as_dict() for job in found], indent=2))
    elif not found:
        print("No jobs of ours.")
    else:
        _print_jobs(found, ended=options.all)
    return 0


def _show_logs(options: argparse.Namespace) -> int:
    from clustrix_prefect.clusters import load_cluster
    from clustrix_prefect.sessions.job_listing import cluster_jobs

    with cluster_jobs(load_cluster(options.block)) as jobs:
        for line in jobs.logs(options.call, options.follow):
            print(line, flush=True)
    return 0


def _cancel_jobs(options: argparse.Namespace) -> int:
    from clustrix_prefect.clusters import load_cluster
    from clustrix_prefect.sessions.job_listing import cluster_jobs

    with cluster_jobs(load_cluster(options.block)) as jobs:
        alive = [job for job in jobs.find() if job.queued or job.running]
        chosen = [job for job in alive if not options.jobs or job.id in options.jobs]
        unknown = set(options.jobs) - {job.id for job in chosen}
        if unknown:
            names = ", ".join(sorted(unknown))
            print(f"Not jobs of ours that are queued or running: {names}", file=sys.stderr)
            return 1
        if not chosen:
            print("No jobs of ours are queued or running.")
            return 0
        _print_jobs(chosen)
        if not options.yes and not _confirmed(len(chosen)):
            print("Nothing was cancelled.")
            return 1
        jobs.cancel(chosen)
        print(f"Cancelled {len(chosen)}.")
    return 0


def _print_jobs(jobs: Sequence[OurJob], ended: bool = False) -> None:
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
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        cells = (text.ljust(width) for text, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def _ago(at: float | None) -> str:
    from clustrix_prefect.dispatch.progress import in_words

    return "" if at is None else f"{in_words(time.time() - at)} ago"


def _confirmed(number: int) -> bool:
    from clustrix_prefect.display.terminal import confirmed

    return confirmed(f"Cancel {'this job' if number == 1 else f'these {number} jobs'}?")
