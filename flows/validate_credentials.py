"""Check that every reference to a secret in saved blocks resolves; no secret is shown.

    python flows/validate_credentials.py                        every block that holds one
    python flows/validate_credentials.py ssh-credentials/ndoli  these blocks

Each morning at six, from this machine:

    prefect flow serve flows/validate_credentials.py:validate_credentials \\
        --name daily --cron "0 6 * * *"

The run fails if one does not resolve. Its page has a table of all of them: what was found beside
the secret, how old it is, whether the token may read it, how long that took, and what to do.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from clustrix_prefect.credentials.checking import Checked, check_block, saved_blocks

AT_MOST = 10
HEADER = (
    "block", "field", "reference", "result", "read from", "beside it", "unchanged for",
    "permission", "took",
)  # fmt: skip


@task(task_run_name="check {block}", persist_result=False)
def check(block: str) -> list[Checked]:
    """Resolve the references of one block."""
    return check_block(block)


@flow(persist_result=False)
def validate_credentials(blocks: list[str] | None = None) -> State[Any]:
    """Resolve every reference in the given blocks, and report on each.

    Args:
        blocks: Blocks by type and name, such as "ssh-credentials/ndoli" or "slurm-cluster/ndoli".
            Default: all that hold references, and all that lead to 1Password.
    """
    names = list(dict.fromkeys(blocks)) if blocks else saved_blocks()
    checked = [one for future in check.map(names) for one in future.result()]
    problems = [one for one in checked if not one.is_ok]
    verdict = verdict_on(names, checked, problems)
    create_markdown_artifact(
        report(verdict, checked, problems), key="credentials", description=verdict
    )
    if problems:
        get_run_logger().error("%s", verdict)
        told = [f"{one.block} {one.field}: {one.problem} {one.remedy}" for one in problems]
        more = [f"and {len(told) - AT_MOST} more"] * (len(told) > AT_MOST)
        return Failed(message="\n".join([verdict, *told[:AT_MOST], *more]))
    get_run_logger().info("%s", verdict)
    return Completed(message=verdict)


def verdict_on(blocks: Sequence[str], checked: list[Checked], problems: list[Checked]) -> str:
    """All of it in one line."""
    where = f"in {len(blocks)} block{'s' * (len(blocks) != 1)}"
    if not checked:
        return f"No references {where}."
    if problems:
        return f"{len(problems)} of {len(checked)} credentials {where} cannot be used."
    return f"All {len(checked)} credentials {where} can be used."


def report(verdict: str, checked: list[Checked], problems: list[Checked]) -> str:
    """The page in the UI."""
    lines = ["# Credentials", "", verdict, ""]
    if problems:
        lines += ["## What to do", ""]
        lines += [
            f"- **{cell(f'{one.block} {one.field}'.strip())}**: {cell(one.problem)} "
            f"{cell(one.remedy)}"
            for one in problems
        ]
        lines += [""]
    if checked:
        lines += ["## Each of them", "", row(HEADER), row(["---"] * len(HEADER))]
        lines += [row(map(cell, cells_of(one))) for one in checked]
        lines += ["", "What was read already for another line took next to no time."]
    return "\n".join(lines)


def cells_of(one: Checked) -> list[str]:
    """One line of the table."""
    return [
        one.block,
        one.field,
        one.reference,
        one.result if one.is_ok else one.result.upper(),
        one.store,
        ", ".join(one.fields),
        one.age,
        one.permission,
        f"{one.seconds * 1000:.0f} ms" if one.seconds else "",
    ]


def row(cells: Any) -> str:
    """A line of a markdown table."""
    return f"| {' | '.join(cells)} |"


def cell(text: str) -> str:
    """Text that means nothing to markdown: names are the users' own."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{letter}" if letter in "\\`*_[]|" else letter for letter in text)


if __name__ == "__main__":
    ended = validate_credentials(sys.argv[1:] or None, return_state=True)
    print(ended.message)
    sys.exit(0 if ended.is_completed() else 1)
