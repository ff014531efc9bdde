"""The command line's `clustrix-prefect check`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from clustrix_prefect.cli.arguments import AsJson, Block
from clustrix_prefect.cli.terminal import print_json, print_table

if TYPE_CHECKING:
    from clustrix_prefect.validation.check import Check

# The marks and the names.
_WIDTHS = (4, 14)
# What is told of a check as JSON.
_TOLD = ("name", "value", "problem", "remedy", "warning")


def check(block: Block, /, *, as_json: AsJson = False) -> int:
    """Connect to a cluster and say what is there."""
    from clustrix_prefect.clusters import load_cluster
    from clustrix_prefect.validation.cluster_check import check_cluster

    cluster = load_cluster(block)
    findings: list[Check] = []
    if not as_json:
        print(f"{block}: {cluster.description}\n")
    for finding in check_cluster(cluster):
        findings.append(finding)
        if not as_json:
            _print_result(finding)
    problems = sum(not finding.is_ok for finding in findings)
    if as_json:
        print_json(
            {
                "cluster": block,
                "description": cluster.description,
                "ok": problems == 0,
                "findings": [_as_dict(finding) for finding in findings],
            }
        )
    else:
        print(f"\n{problems or 'No'} problem{'' if problems == 1 else 's'}.")
    return 1 if problems else 0


def _as_dict(finding: Check) -> dict[str, object]:
    told = {name: getattr(finding, name) for name in _TOLD}
    return {**told, "ok": finding.is_ok}


def _print_result(finding: Check) -> None:
    mark = Text("ok", "green") if finding.is_ok else Text("FAIL", "bold red")
    mark = Text("warn", "yellow") if finding.is_ok and finding.warning else mark
    told = (finding.value, finding.problem, finding.warning, finding.remedy)
    first, *others = [text for text in told if text] or [""]
    rows: list[tuple[str | Text, ...]] = [
        (mark, finding.name, first),
        *(("", "", text) for text in others),
    ]
    print_table(rows, widths=_WIDTHS)
