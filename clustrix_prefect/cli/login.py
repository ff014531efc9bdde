"""`clustrix-prefect login`: one login for everything that goes over the system's OpenSSH."""

from __future__ import annotations

import argparse
from typing import Any

from clustrix_prefect.connections.control_master import DEFAULT_IDLE_SECONDS, ControlMaster


def add_login_command(
    commands: argparse._SubParsersAction[Any], cluster: argparse.ArgumentParser
) -> None:
    """Add `login` to the commands.

    Args:
        commands: What to add it to.
        cluster: What each command says of the block.
    """
    login = commands.add_parser(
        "login",
        parents=[cluster],
        help='log in where that needs a person, for blocks with connection="openssh" or "auto"',
    )
    login.add_argument(
        "--hours",
        type=_hours,
        default=DEFAULT_IDLE_SECONDS / 3600,
        help="for how long it lasts when nobody uses it; by default %(default)g",
    )
    what = login.add_mutually_exclusive_group()
    what.add_argument("--status", action="store_true", help="say whether somebody is logged in")
    what.add_argument("--logout", action="store_true", help="end the login, and what goes over it")
    login.set_defaults(run=_login)


def _hours(text: str) -> float:
    hours = float(text)
    if not 0 < hours <= 24 * 365:
        raise argparse.ArgumentTypeError(f"{text} is not a number of hours")
    return hours


def _login(options: argparse.Namespace) -> int:
    from clustrix_prefect.clusters import load_cluster
    from clustrix_prefect.clusters.host import SSHHost
    from clustrix_prefect.errors import ConfigurationError

    cluster = load_cluster(options.block)
    if not isinstance(cluster, SSHHost) or cluster.host is None:
        raise ConfigurationError(
            f"{options.block} is not reached over SSH, so there is nothing to log in to.",
            f"`clustrix-prefect check {options.block}` shows how it is reached.",
        )
    if options.status:
        return _status(cluster.master, options.block)
    if options.logout:
        return _logout(cluster.master)
    if cluster.connection == "paramiko":
        raise ConfigurationError(
            f'{options.block} has connection="paramiko", which logs in by itself.',
            'Save the block with connection="openssh", or "auto", to use a login of yours.',
        )
    return _open(cluster.master, options.hours)


def _open(master: ControlMaster, hours: float) -> int:
    if master.is_live:
        print(f"Logged in at {master} already: {master.shown}.")
        return 0
    master.open_by_hand(int(hours * 3600))
    print(f"Logged in at {master}: {master.shown}.")
    return 0


def _status(master: ControlMaster, block: str) -> int:
    if master.is_live:
        print(f"Logged in at {master}: {master.shown}.")
        return 0
    print(f"Not logged in at {master}. Type: clustrix-prefect login {block}")
    return 1


def _logout(master: ControlMaster) -> int:
    print(f"Logged out at {master}." if master.close() else f"Not logged in at {master}.")
    return 0
