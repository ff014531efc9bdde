"""`clustrix-prefect login`: one login for everything that goes over the system's OpenSSH."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Group, Parameter
from cyclopts.validators import mutually_exclusive

from clustrix_prefect.cli.arguments import AsJson, Block, at_most
from clustrix_prefect.cli.terminal import print_json
from clustrix_prefect.connections.control_master import DEFAULT_IDLE_SECONDS, ControlMaster

_DEFAULT_HOURS = DEFAULT_IDLE_SECONDS / 3600
_Instead = Parameter(group=("Parameters", Group(validator=mutually_exclusive)))


def login(
    block: Block,
    /,
    *,
    hours: Annotated[
        float,
        at_most(24 * 365),
        Parameter(help=f"for how long it lasts when nobody uses it; by default {_DEFAULT_HOURS:g}"),
    ] = _DEFAULT_HOURS,
    status: Annotated[bool, _Instead] = False,
    logout: Annotated[bool, _Instead] = False,
    as_json: AsJson = False,
) -> int:
    """Log in where that needs a person, for blocks with connection="openssh" or "auto".

    Args:
        status: say whether somebody is logged in
        logout: end the login, and what goes over it
    """
    from clustrix_prefect.clusters import load_cluster
    from clustrix_prefect.clusters.host import host_of
    from clustrix_prefect.errors import ConfigurationError

    host = host_of(load_cluster(block), block)
    master = host.master
    if status:
        return _status(master, block, as_json)
    if logout:
        was_open = master.close()
        said = f"Logged out at {master}." if was_open else f"Not logged in at {master}."
        _print(master, False, said, as_json)
        return 0
    if host.connection == "paramiko":
        raise ConfigurationError(
            f'{block} has connection="paramiko", which logs in by itself.',
            'Save the block with connection="openssh", or "auto", to use a login of yours.',
        )
    already = " already" if master.is_live else ""
    if not already:
        master.open_by_hand(int(hours * 3600))
    _print(master, True, f"Logged in at {master}{already}: {master.shown}.", as_json)
    return 0


def _status(master: ControlMaster, block: str, as_json: bool) -> int:
    is_open = master.is_live
    if is_open:
        said = f"Logged in at {master}: {master.shown}."
    else:
        said = f"Not logged in at {master}. Type: clustrix-prefect login {block}"
    _print(master, is_open, said, as_json)
    return 0 if is_open else 1


def _print(master: ControlMaster, is_open: bool, said: str, as_json: bool) -> None:
    if as_json:
        print_json({"host": str(master), "logged_in": is_open, **_opened(master, is_open)})
    else:
        print(said)


def _opened(master: ControlMaster, is_open: bool) -> dict[str, Any]:
    from clustrix_prefect.display.markdown import utc

    opened = master.opened if is_open else None
    if opened is None:
        return dict.fromkeys(("by_hand", "opened", "idle_seconds"))
    return {
        "by_hand": opened.by_hand,
        "opened": utc(opened.at),
        "idle_seconds": opened.idle_seconds,
    }
