"""The command line's `clustrix-prefect blocks apply` and `clustrix-prefect automations apply`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def add_apply_commands(commands: Any) -> None:
    """Add `blocks` and `automations` to the command line.

    Args:
        commands: The commands that there are.
    """
    for what, run in (("blocks", _blocks), ("automations", _automations)):
        actions = commands.add_parser(what, help=f"make {what} as files describe them")
        apply = actions.add_subparsers(required=True, metavar="ACTION").add_parser(
            "apply", help=f"save the {what} that differ from their files"
        )
        apply.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="file or directory")
        apply.add_argument("--dry-run", action="store_true", help="only show what would change")
        if what == "blocks":
            apply.add_argument(
                "--overwrite",
                action="store_true",
                help="do not ask before blocks are replaced that were not made from files",
            )
        apply.set_defaults(run=run)


def _blocks(options: argparse.Namespace) -> int:
    from clustrix_prefect.applying.blocks import apply_blocks, made_by_others, plan_blocks

    planned = plan_blocks(options.paths)
    for one in planned:
        _print(one.name, one.is_new, one.differences)
    if options.dry_run:
        changed = [one.name for one in planned if one.is_new or one.differences]
    else:
        others = made_by_others(planned)
        if others and not options.overwrite and not _may_replace(others):
            print("Nothing was saved; --overwrite replaces them.", file=sys.stderr)
            return 1
        changed = apply_blocks(planned)
    _print_summary(len(changed), len(planned), "block", options.dry_run)
    return 0


def _may_replace(names: Sequence[str]) -> bool:
    from clustrix_prefect.display.terminal import confirmed

    what = f"{', '.join(names)} {'was' if len(names) == 1 else 'were'} not made from a file."
    return confirmed(f"{what} Replace {'it' if len(names) == 1 else 'them'}?")


def _automations(options: argparse.Namespace) -> int:
    from clustrix_prefect.applying.automations import apply_automations, plan_automations

    planned = plan_automations(options.paths)
    for one in planned:
        _print(one.name, one.is_new, one.differences)
    if options.dry_run:
        changed = [one.name for one in planned if one.is_new or one.differences]
    else:
        changed = apply_automations(planned)
    _print_summary(len(changed), len(planned), "automation", options.dry_run)
    return 0


def _print(name: str, is_new: bool, differences: list[str]) -> None:
    print(f"{name}: {'new' if is_new else 'changed' if differences else 'as in the file'}")
    for line in differences:
        print(f"  {line}")


def _print_summary(changed: int, total: int, thing: str, dry_run: bool) -> None:
    would = "would be " if dry_run else ""
    plural = "" if total == 1 else "s"
    print(f"{changed} of {total} {thing}{plural} {would}saved.")
