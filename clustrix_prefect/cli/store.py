"""The command line's `clustrix-prefect store usage` and `clustrix-prefect store prune`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any

from cyclopts import Parameter, validators
from humanize import naturalsize, naturaltime

from clustrix_prefect.cli.arguments import AsJson, Block
from clustrix_prefect.cli.terminal import print_json, print_table
from clustrix_prefect.validation.ages import seconds_of

_WHAT = {
    "content": "contents: code, arguments, files, returned files",
    "view": "names under which tasks see files (links to contents)",
    "partial": "contents that did not arrive whole",
    "environment": "environments that were built",
    "run": "directories of flow runs",
}


def _verify_age(_: object, text: str) -> None:
    seconds_of(text)


def usage(
    block: Block,
    /,
    *,
    items: Annotated[int, Parameter(validator=validators.Number(gte=0))] = 0,
    as_json: AsJson = False,
) -> int:
    """Say what lies on a cluster.

    Args:
        items: also so many of the largest
    """
    from clustrix_prefect.clusters import load_cluster
    from clustrix_prefect.sessions.store import store_usage

    found = store_usage(load_cluster(block))
    found["items"] = found["items"][:items]
    if as_json:
        print_json(found)
        return 0
    kinds = found["kinds"]
    rows = [
        (_amount(kinds[kind]["size"]), _kind(kind, kinds[kind])) for kind in _WHAT if kind in kinds
    ]
    if not kinds:
        print("There is nothing of ours.")
    rows += [(_amount(item["size"]), _item(item)) for item in found["items"]]
    print_table([*rows, (_amount(found["free_bytes"]), "free")], right=[0])
    return 0


def prune(
    block: Block,
    /,
    *,
    older_than: Annotated[str, Parameter(validator=_verify_age)] = "30d",
    as_json: AsJson = False,
) -> int:
    """Remove what was not used for a while; what unfinished flow runs need stays.

    Args:
        older_than: how long it was not used: 12h, 30d (the default), 8w
    """
    from clustrix_prefect.clusters import load_cluster
    from clustrix_prefect.sessions.store import prune_store

    gone = prune_store(load_cluster(block), seconds_of(older_than))
    if as_json:
        print_json(gone)
    elif gone["count"]:
        print(f"Removed {gone['count']}, {_amount(gone['size'])}.")
    else:
        print("Nothing to remove.")
    return 0


def _kind(name: str, kind: Mapping[str, Any]) -> str:
    needed = f", {kind['needed']} needed by unfinished runs" if kind["needed"] else ""
    return f"{kind['count']} {_WHAT[name]}; the oldest {_ago(kind['oldest'])}{needed}"


def _item(item: Mapping[str, Any]) -> str:
    needed = ", needed" if item["needed"] else ""
    return f"{item['kind']} {item['name'][:16]}, {_ago(item['used'])}{needed}"


def _ago(at: float) -> str:
    return f"used {naturaltime(max(0.0, time.time() - at))}"


def _amount(size: float) -> str:
    return naturalsize(size, binary=True)
