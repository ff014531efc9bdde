"""The command line's `clustrix-prefect check`."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clustrix_prefect.validation.inspection import Finding


def add_check_command(
    commands: Any, cluster: argparse.ArgumentParser, as_json: argparse.ArgumentParser
) -> None:
    """Add `check` to the command line.

    Args:
        commands: The commands that there are.
        cluster: A parser for the cluster's name.
        as_json: A parser for `--json`.
    """
    check = commands.add_parser(
        "check", parents=[cluster, as_json], help="connect to a cluster and say what is there"
    )
    check.set_defaults(run=_check)


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
    mark = ("warn", "yellow") if finding.is_ok and finding.warning else mark
    indent = " " * 22
    told = (finding.value, finding.problem, finding.warning, finding.remedy)
    texts = [text for text in told if text]
    line = f"  {finding.name:<14}  {texts[0] if texts else ''}".rstrip()
    # Colours on a terminal only, and not where NO_COLOR is set.
    Console(soft_wrap=True, highlight=False).print(Text.assemble(mark, line))
    for text in texts[1:]:
        print(f"{indent}{text}")
