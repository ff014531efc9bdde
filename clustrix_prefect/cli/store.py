"""The command line's `clustrix-prefect store usage` and `clustrix-prefect store prune`."""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from clustrix_prefect.errors import ConfigurationError

if TYPE_CHECKING:
    from clustrix_prefect.clusters.cluster import ClusterBlock
    from clustrix_prefect.sessions.opened import OpenedCluster

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_AGE = re.compile(r"(\d+)\s*([smhdw])\Z")
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
# Looking at every file of a large store takes its time.
_TIMEOUT = 3600.0
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
        type=age,
        default="30d",
        metavar="AGE",
        help="how long it was not used: 12h, 30d (the default), 8w",
    )
    prune.set_defaults(run=_prune)


def age(text: str) -> float:
    """Seconds, from a text such as "30d"."""
    match = _AGE.match(text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not an age; write for example 12h or 30d")
    return float(match[1]) * _SECONDS[match[2]]


def store_usage(cluster: ClusterBlock) -> dict[str, Any]:
    """What lies in a cluster's work directory.

    Returns:
        `kinds`: for each kind the `count`, the `size` in bytes, when the `oldest` was used
        last, and how many are `needed` by unfinished runs; `items`: the largest;
        `free_bytes`.

    Raises:
        ConfigurationError: The cluster keeps nothing that one could look at.
        ConnectionFailed: The cluster cannot be reached.
    """
    with _opened(cluster) as there:
        return there.agent.request("store_usage", timeout=_TIMEOUT)


def prune_store(cluster: ClusterBlock, seconds: float) -> dict[str, Any]:
    """Remove what was not used for so long, and what no unfinished flow run needs.

    Returns:
        The `count` of what was removed, its `size` in bytes, and the `items`.

    Raises:
        ConfigurationError: The cluster keeps nothing that one could look at.
        ConnectionFailed: The cluster cannot be reached.
    """
    with _opened(cluster) as there:
        return there.agent.request("store_prune", timeout=_TIMEOUT, seconds=seconds)


def _opened(cluster: ClusterBlock) -> AbstractContextManager[OpenedCluster]:
    from clustrix_prefect.sessions.opened import opened

    if not cluster.keeps_store:
        raise ConfigurationError(
            f"{cluster.description}: each pod has a store of its own, which goes with it.",
            "Nothing is left to clean up; for a store that stays, set `work_volume_claim`.",
        )
    return opened(cluster)


def _cluster_of(options: argparse.Namespace) -> ClusterBlock:
    from clustrix_prefect.clusters import load_cluster

    return load_cluster(options.block)


def _usage(options: argparse.Namespace) -> int:
    if options.items < 0:
        raise ConfigurationError("--items is not a count.", "Write for example --items 10.")
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
    gone = prune_store(_cluster_of(options), options.older_than)
    if options.json:
        print(json.dumps(gone, indent=2))
    elif gone["count"]:
        print(f"Removed {gone['count']}, {_amount(gone['size'])}.")
    else:
        print("Nothing to remove.")
    return 0


def _ago(at: float) -> str:
    seconds = max(0.0, time.time() - at)
    for unit, name in (("d", "days"), ("h", "hours"), ("m", "minutes")):
        if seconds >= 2 * _SECONDS[unit]:
            return f"used {seconds / _SECONDS[unit]:.0f} {name} ago"
    return "used just now"


def _amount(size: float) -> str:
    for unit in _UNITS:
        if size < 1024 or unit == _UNITS[-1]:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError("the last unit fits all")
