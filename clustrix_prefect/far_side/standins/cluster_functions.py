"""The `cluster_*` functions inside a task: they look at the machine that the task runs on.

Naming the task's own cluster is the same as naming none; another one cannot be reached from
here.
"""

import logging
import os
from typing import Any, Dict, List

from ..wire import file_queries as questions
from ..wire.file_types import DiskUsage, FileStat
from ..wire.walking import to_name, to_text
from . import context
from .tasks import NotAvailableFarAway


def _here(cluster: Any) -> None:
    """Refuse any cluster but this one."""
    if cluster is None:
        return
    ours = context.cluster_name()
    name = cluster if isinstance(cluster, str) else getattr(cluster, "_block_name", None)
    if name and ours and name in (ours, ours.partition("/")[2]):
        return
    raise NotAvailableFarAway(
        "{} cannot be reached from inside a task that runs on {}; leave the cluster out to look "
        "at the files here, or ask from the flow.".format(
            repr(name) if name else "another cluster", ours or "a cluster"
        )
    )


def _ask(cluster: Any, question: str, *arguments: Any) -> Any:
    _here(cluster)
    names = [to_name(argument) for argument in arguments]
    answer, skipped = questions.ask(question, names, os.getcwdb())
    warning = questions.incomplete(skipped, to_text)
    if warning:
        logging.getLogger("prefect.clustrix").warning("cluster_%s: %s", question, warning)
    return answer


def cluster_ls(path: Any = ".", cluster: Any = None) -> List[str]:
    """Return the names in a directory."""
    return [to_text(name) for name in _ask(cluster, "ls", path)]


def cluster_find(pattern: Any, path: Any = ".", cluster: Any = None) -> List[str]:
    """Return the files below a directory whose names fit a pattern."""
    return [to_text(name) for name in _ask(cluster, "find", pattern, path)]


def cluster_glob(pattern: Any, path: Any = ".", cluster: Any = None) -> List[str]:
    """Return what fits a pattern, as in a shell."""
    return [to_text(name) for name in _ask(cluster, "glob", pattern, path)]


def cluster_stat(path: Any, cluster: Any = None) -> FileStat:
    """Return what is known of a file or directory."""
    facts = _ask(cluster, "stat", path)
    return FileStat(*(facts[:-1] + [to_text(facts[-1])]))


def cluster_exists(path: Any, cluster: Any = None) -> bool:
    """Return whether there is something at a path."""
    return bool(_ask(cluster, "exists", path))


def cluster_isdir(path: Any, cluster: Any = None) -> bool:
    """Return whether a path leads to a directory."""
    return bool(_ask(cluster, "isdir", path))


def cluster_isfile(path: Any, cluster: Any = None) -> bool:
    """Return whether a path leads to a regular file."""
    return bool(_ask(cluster, "isfile", path))


def cluster_du(path: Any = ".", cluster: Any = None) -> DiskUsage:
    """Return what the files below a path amount to."""
    return DiskUsage(*_ask(cluster, "du", path))


def cluster_count_files(path: Any = ".", pattern: Any = "*", cluster: Any = None) -> int:
    """Return how many files below a directory fit a pattern."""
    return int(_ask(cluster, "count", pattern, path))


# What the stand-in for `clustrix_prefect` gets from here.
OFFERED: Dict[str, Any] = {
    function.__name__: function
    for function in (
        cluster_ls,
        cluster_find,
        cluster_glob,
        cluster_stat,
        cluster_exists,
        cluster_isdir,
        cluster_isfile,
        cluster_du,
        cluster_count_files,
    )
}
OFFERED.update(FileStat=FileStat, DiskUsage=DiskUsage)
