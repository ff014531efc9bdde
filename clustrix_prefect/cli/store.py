"""The command line's `clustrix-prefect store usage` and `clustrix-prefect store prune`."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from humanize import naturalsize, naturaltime

from clustrix_prefect.errors import ConfigurationError
from clustrix_prefect.validation.ages import seconds_of

if TYPE_CHECKING:
    from clustrix_prefect.clusters.cluster import ClusterBlock

_WHAT = {
    "content": "contents: code, arguments, files, returned files",
    "view": "names under which tasks see files (links to contents)",
    "partial": "contents that did not arrive whole",
    "environment": "environments that were built",
    "run": "directories of flow runs",
}


def add_store_commands(
    commands: Any, cluster: argparse.ArgumentParser, as_json: argparse.ArgumentParser
) -> None:
    """Add `store` and what it can do to the command line.

    Args:
        commands: The commands that there are.
        cluster: A parser for the cluster's name.
        as_json: A parser for `--json`.
    """
    store = commands.add_parser("store", help="look at, or clean up, our files on a cluster")
    actions = store.add_subparsers(required=True, metavar="ACTION")
    usage = actions.add_parser("usage", parents=[cluster, as_json], help="what lies there")
    usage.add_argument("--items", type=int, default=0, metavar="N", help="also the N largest")
    usage.set_defaults(run=_usage)
    prune = actions.add_parser(
        "prune",
        parents=[cluster, as_json],
        help="remove what was not used for a while; what unfinished flow runs need stays",
    )
    prune.add_argument(
        "--older-than",
        type=_age,
        default="30d",
        metavar="AGE",
        help="how long it was not used: 12h, 30d (the default), 8w",
    )
    prune.set_defaults(run=_prune)


def _age(text: str) -> float:
    try:
        return seconds_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _cluster_of(options: argparse.Namespace) -> ClusterBlock:
    from clustrix_prefect.clusters import load_cluster

    return load_cluster(options.block)


def _usage(options: argparse.Namespace) -> int:
    if options.items < 0:
        raise ConfigurationError("--items is not a count.", "Write for example --items 10.")
    from clustrix_prefect.sessions.store import store_usage

    found = store_usage(_cluster_of(options))
    found["items"] = found["items"][: options.items]
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    for kind, what in _WHAT.items():
        if kind in found["kinds"]:
            _print_kind(found["kinds"][kind], what)
    if not found["kinds"]:
        print("There is nothing of ours.")
    for item in found["items"]:
        needed = ", needed" if item["needed"] else ""
        used = _ago(item["used"])
        print(f"  {_amount(item['size']):>10}  {item['kind']} {item['name'][:16]}, {used}{needed}")
    print(f"{_amount(found['free_bytes']):>10}  free")
    return 0


def _print_kind(kind: Mapping[str, Any], what: str) -> None:
    needed = f", {kind['needed']} needed by unfinished runs" if kind["needed"] else ""
    oldest = f"the oldest {_ago(kind['oldest'])}"
    print(f"{_amount(kind['size']):>10}  {kind['count']} {what}; {oldest}{needed}")


def _prune(options: argparse.Namespace) -> int:
    from clustrix_prefect.sessions.store import prune_store

    gone = prune_store(_cluster_of(options), options.older_than)
    if options.json:
        print(json.dumps(gone, indent=2))
    elif gone["count"]:
        print(f"Removed {gone['count']}, {_amount(gone['size'])}.")
    else:
        print("Nothing to remove.")
    return 0


def _ago(at: float) -> str:
    return f"used {naturaltime(max(0.0, time.time() - at))}"


def _amount(size: float) -> str:
    return naturalsize(size, binary=True)
