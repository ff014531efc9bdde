"""The command line, `clustrix-prefect`: `check`, `login`, `jobs`, `store`, `prices` and more."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cyclopts import App

from clustrix_prefect import __version__
from clustrix_prefect.cli.apply import apply_automations, apply_blocks
from clustrix_prefect.cli.check import check
from clustrix_prefect.cli.jobs import cancel_jobs, list_jobs, show_logs
from clustrix_prefect.cli.login import login
from clustrix_prefect.cli.prices import prices
from clustrix_prefect.cli.running import new_app, run
from clustrix_prefect.cli.store import prune, usage

EXIT_STATUSES = (
    "Exit status: 0 if all is well; 1 if what was looked at is not, or something went wrong; 2 if"
    " the command line is wrong; 3 if `prices` could not ask every provider; 130 after Ctrl-C."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the process's exit status."""
    return run(command_line(), sys.argv[1:] if arguments is None else arguments)


def command_line() -> App:
    """Return all commands."""
    commands = new_app(
        "clustrix-prefect",
        "Look at clusters, at our jobs and files on them, and at prices; save blocks and"
        " automations from files.",
        EXIT_STATUSES,
    )
    commands.version, commands.version_flags = __version__, ("--version",)
    commands.command(check)
    commands.command(login)
    jobs = App(name="jobs", help="List our jobs on a cluster, read their logs, cancel them.")
    jobs.command(list_jobs, name="list")
    jobs.command(show_logs, name="logs")
    jobs.command(cancel_jobs, name="cancel")
    store = App(name="store", help="Look at, or clean up, our files on a cluster.")
    store.command(usage)
    store.command(prune)
    blocks = App(name="blocks", help="Make blocks as files describe them.")
    blocks.command(apply_blocks, name="apply")
    automations = App(name="automations", help="Make automations as files describe them.")
    automations.command(apply_automations, name="apply")
    for one in (jobs, store, prices, blocks, automations):
        commands.command(one)
    commands.register_install_completion_command(
        help="Have a shell complete commands, options and their values with TAB."
    )
    return commands
