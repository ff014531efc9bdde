r"""Check that every reference to a secret in saved blocks resolves; no secret is shown.

    python flows/validate_credentials.py                        every block that holds one
    python flows/validate_credentials.py ssh-credentials/ndoli  these blocks

Each morning at six, from this machine:

    prefect flow serve flows/validate_credentials.py:validate_credentials \
        --name daily --cron "0 6 * * *"

The run fails if one does not resolve. Its page has a table of all of them: what was found beside
the secret, how old it is, whether the token may read it, how long that took, and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from clustrix_prefect.cli.running import run_flow
from clustrix_prefect.credentials.checking import Checked, check_block, saved_blocks
from clustrix_prefect.display.markdown import cell, escape, table
from clustrix_prefect.errors import ClustrixError
from clustrix_prefect.validation.report import now, number, took_words

AT_MOST = 10
HEADER = (
    "result", "block", "field", "reference", "read from", "beside it", "unchanged for",
    "permission", "took:",
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
    futures = check.map(names)
    checked: list[Checked] = []
    for name, future in zip(names, futures, strict=True):
        answer = future.result(raise_on_failure=False)
        checked += [unchecked(name, answer)] if isinstance(answer, BaseException) else answer
    problems = [one for one in checked if not one.is_ok]
    verdict = verdict_on(names, checked, problems)
    create_markdown_artifact(
        report(verdict, checked, problems), key="credentials", description="Credentials"
    )
    if problems:
        get_run_logger().error("%s", verdict)
        told = [f"{one.block} {one.field}: {one.problem} {one.remedy}" for one in problems]
        more = [f"and {len(told) - AT_MOST} more"] * (len(told) > AT_MOST)
        return Failed(message="\n".join([verdict, *told[:AT_MOST], *more]))
    get_run_logger().info("%s", verdict)
    return Completed(message=verdict)


def unchecked(block: str, error: BaseException) -> Checked:
    """What is said of a block whose check an exception ended."""
    if isinstance(error, ClustrixError):
        problem, remedy = error.what, error.remedy
    else:  # not its text: nobody knows what is in it
        problem = f"The check ended with {type(error).__name__}."
        remedy = "Its task run's log has the rest."
    return Checked(block, "", "", result="unknown", problem=problem, remedy=remedy)


def verdict_on(blocks: Sequence[str], checked: list[Checked], problems: list[Checked]) -> str:
    """All of it in one line."""
    where = f"in {number(len(blocks), 'block')}"
    if not checked:
        return f"Passed: no references {where}."
    if problems:
        return f"Failed: {len(problems)} of {len(checked)} credentials {where} cannot be used."
    return f"Passed: all {len(checked)} credentials {where} can be used."


def report(verdict: str, checked: list[Checked], problems: list[Checked]) -> str:
    """The page in the UI."""
    lines = [f"**{escape(verdict)}** {now()}"]
    if problems:
        lines += ["", "### What to do", ""]
        lines += [
            f"- **{escape(f'{one.block} {one.field}'.strip())}**: {escape(one.problem)} "
            f"{escape(one.remedy)}"
            for one in problems
        ]
    if checked:
        order = sorted(checked, key=lambda one: one.is_ok)
        lines += ["", "### Each of them", "", *table(HEADER, map(cells_of, order))]
        lines += ["", "What was read already for another line took next to no time."]
    return "\n".join(lines)


def cells_of(one: Checked) -> list[str]:
    """One line of the table."""
    return [
        escape(one.result if one.is_ok else one.result.upper()),
        escape(one.block),
        escape(one.field),
        cell(one.reference),
        cell(one.store),
        cell(", ".join(one.fields)),
        one.age,
        one.permission,
        took_words(one.seconds or None),
    ]


def main(*blocks: str) -> State[Any]:
    """Check that every reference to a secret in saved blocks resolves; no secret is shown.

    Args:
        blocks: such as ssh-credentials/ndoli; by default every block that holds a reference
    """
    return validate_credentials(list(blocks) or None, return_state=True)


if __name__ == "__main__":
    run_flow(main)
