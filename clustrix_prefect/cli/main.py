"""The command line, `clustrix-prefect`: `check`, `jobs`, `store`, `prices`, `blocks` and more."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

from clustrix_prefect.cli.apply import add_apply_commands
from clustrix_prefect.cli.prices import add_price_commands
from clustrix_prefect.cli.store import add_store_commands
from clustrix_prefect.errors import ClustrixError

if TYPE_CHECKING:
    from clustrix_prefect.sessions.job_listing import OurJob
    from clustrix_prefect.validation.inspection import Finding


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the process's exit status."""
    commands = parser()
    if "_ARGCOMPLETE" in os.environ:  # a shell asks how the line may go on
        import argcomplete

        argcomplete.autocomplete(commands)
    options = commands.parse_args(arguments)
    # Prefect takes a second to import: `--help`, which has ended by now, does without.
    from clustrix_prefect.display.terminal import send_silently

    send_silently()
    try:
        status: int = options.run(options)
    except ClustrixError as error:
        print(f"clustrix-prefect: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    made = argparse.ArgumentParser(
        prog="clustrix-prefect",
        description="Look at clusters, at our jobs and files on them, and at prices;"
        " save blocks and automations from files.",
    )
    made.add_argument("--version", action="version", version=version("clustrix-prefect"))
    commands = made.add_subparsers(required=True, metavar="COMMAND")

    cluster = argparse.ArgumentParser(add_help=False)
    cluster.add_argument("block", help="type and name of the cluster's block: slurm-cluster/ndoli")
    as_json = argparse.ArgumentParser(add_help=False)
    as_json.add_argument("--json", action="store_true", help="print JSON")

    check = commands.add_parser(
        "check", parents=[cluster, as_json], help="connect to a cluster and say what is there"
    )
    check.set_defaults(run=_check)

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
    add_store_commands(commands, cluster, as_json)
    add_price_commands(commands, as_json)
    add_apply_commands(commands)
    return made


def _check(options: argparse.Namespace) -> int:
    from clustrix_prefect.clusters import load_cluster
    from clustrix_prefect.validation.inspection import inspect_cluster

    cluster = load_cluster(options.block)
    findings: list[Finding] = []
    if not options.json:
        print(f"{options.block}: {cluster.description}\n")
    for finding in inspect_cluster(cluster):
        findings.append(finding)
        if not options.json:
            _print_finding(finding)
    problems = sum(not finding.is_ok for finding in findings)
    if options.json:
        report = {
            "cluster": options.block,
            "description": cluster.description,
            "ok": problems == 0,
            "findings": [finding.as_dict() for finding in findings],
        }
        print(json.dumps(report, indent=2))
    else:
        print(f"\n{problems or 'No'} problem{'' if problems == 1 else 's'}.")
    return 1 if problems else 0


def _print_finding(finding: Finding) -> None:
    from rich.console import Console
    from rich.text import Text

    mark = ("ok  ", "green") if finding.is_ok else ("FAIL", "bold red")
    indent = " " * 22
    texts = [text for text in (finding.value, finding.problem, finding.remedy) if text]
    line = f"  {finding.name:<14}  {texts[0] if texts else ''}".rstrip()
    # Colours on a terminal only, and not where NO_COLOR is set.
    Console(soft_wrap=True, highlight=False).print(Text.assemble(mark, line))
    for text in texts[1:]:
        print(f"{indent}{text}")


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
