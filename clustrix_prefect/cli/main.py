"""The command line, `clustrix-prefect`: `check`, `login`, `jobs`, `store`, `prices` and more."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from clustrix_prefect.cli.apply import add_apply_commands
from clustrix_prefect.cli.check import add_check_command
from clustrix_prefect.cli.jobs import add_job_commands
from clustrix_prefect.cli.login import add_login_command
from clustrix_prefect.cli.prices import add_price_commands
from clustrix_prefect.cli.store import add_store_commands
from clustrix_prefect.errors import ClustrixError


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

    add_check_command(commands, cluster, as_json)
    add_login_command(commands, cluster)
    add_job_commands(commands, cluster, as_json)
    add_store_commands(commands, cluster, as_json)
    add_price_commands(commands, as_json)
    add_apply_commands(commands)
    return made
