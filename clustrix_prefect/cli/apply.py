"""The command line's `clustrix-prefect blocks apply` and `clustrix-prefect automations apply`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

from cyclopts import Parameter

from clustrix_prefect.cli.arguments import AsJson
from clustrix_prefect.cli.terminal import confirmed, print_json

if TYPE_CHECKING:
    from clustrix_prefect.applying.automations import PlannedAutomation
    from clustrix_prefect.applying.blocks import PlannedBlock

Paths = Annotated[list[Path], Parameter(name="PATH", help="files or directories")]
DryRun = Annotated[bool, Parameter(help="only show what would change")]


def apply_blocks(
    paths: Paths, /, *, dry_run: DryRun = False, overwrite: bool = False, as_json: AsJson = False
) -> int:
    """Save the blocks that differ from their files.

    Args:
        overwrite: do not ask before blocks are replaced that were not made from files
    """
    from clustrix_prefect.applying import blocks

    planned = blocks.plan_blocks(paths)
    others = [] if dry_run or overwrite else blocks.made_by_others(planned)
    if others or not as_json:
        _print_plan(planned, sys.stderr if as_json else sys.stdout)
    if others and not _may_replace(others):
        print("Nothing was saved; --overwrite replaces them.", file=sys.stderr)
        if as_json:
            _print_outcome(planned, [], "block", as_json)
        return 1
    saved = None if dry_run else blocks.apply_blocks(planned)
    _print_outcome(planned, saved, "block", as_json)
    return 0


def apply_automations(paths: Paths, /, *, dry_run: DryRun = False, as_json: AsJson = False) -> int:
    """Save the automations that differ from their files."""
    from clustrix_prefect.applying import automations

    planned = automations.plan_automations(paths)
    if not as_json:
        _print_plan(planned, sys.stdout)
    saved = None if dry_run else automations.apply_automations(planned)
    _print_outcome(planned, saved, "automation", as_json)
    return 0


def _may_replace(names: Sequence[str]) -> bool:
    what = f"{', '.join(names)} {'was' if len(names) == 1 else 'were'} not made from a file."
    return confirmed(f"{what} Replace {'it' if len(names) == 1 else 'them'}?")


def _print_plan(
    planned: Sequence[PlannedBlock] | Sequence[PlannedAutomation], file: TextIO
) -> None:
    for one in planned:
        state = "new" if one.is_new else "changed" if one.differences else "as in the file"
        print(f"{one.name}: {state}", file=file)
        for line in one.differences:
            print(f"  {line}", file=file)


def _print_outcome(
    planned: Sequence[PlannedBlock] | Sequence[PlannedAutomation],
    saved: Sequence[str] | None,
    thing: str,
    as_json: bool,
) -> None:
    """Print what was saved, or what would have been if nothing was."""
    if as_json:
        plan = [
            {"name": one.name, "new": one.is_new, "differences": one.differences} for one in planned
        ]
        print_json({f"{thing}s": plan, "saved": saved})
        return
    would = "would be " if saved is None else ""
    count = sum(one.is_new or bool(one.differences) for one in planned)
    count = count if saved is None else len(saved)
    print(f"{count} of {len(planned)} {thing}{'' if len(planned) == 1 else 's'} {would}saved.")
