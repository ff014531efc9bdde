"""Nine questions about files, for a cluster or for this machine, with the same answers.

Each takes a cluster last: a block, a block's name, or None for this machine. Relative paths are
meant from the current directory here, and from the home directory on a cluster; `~` is the home
directory. Names that are not text come with lone surrogates for their bytes, as `os.listdir`
gives them. Inside a task the same functions look at the machine that the task runs on.

A missing path raises FileNotFoundError, except where the question is whether it is there. A
directory below the one asked about that cannot be read is left out, with a warning in the log.
"""

from __future__ import annotations

import logging
import os
from typing import Any, TypeAlias, cast

from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.far_side.wire import file_queries as questions
from clustrix_prefect.far_side.wire import protocol
from clustrix_prefect.far_side.wire.file_types import DiskUsage, FileStat
from clustrix_prefect.far_side.wire.walking import to_name, to_text
from clustrix_prefect.filesystem import listings
from clustrix_prefect.filesystem.far_files import far_files
from clustrix_prefect.filesystem.listings import pieces_of
from clustrix_prefect.filesystem.naming import find_cluster

logger = logging.getLogger("prefect.clustrix")

Cluster: TypeAlias = ClusterBlock | str | None
AnyPath: TypeAlias = str | os.PathLike[str]

__all__ = [
    "DiskUsage",
    "FileStat",
    "cluster_count_files",
    "cluster_du",
    "cluster_exists",
    "cluster_find",
    "cluster_glob",
    "cluster_isdir",
    "cluster_isfile",
    "cluster_ls",
    "cluster_stat",
]


def cluster_ls(path: AnyPath = ".", cluster: Cluster = None) -> list[str]:
    """Return the names in a directory, dotfiles among them, sorted."""
    return cast("list[str]", _ask("ls", (path,), cluster))


def cluster_find(pattern: str, path: AnyPath = ".", cluster: Cluster = None) -> list[str]:
    """Return the files below a directory whose names fit a pattern.

    Args:
        pattern: With `*`, `?` and `[...]`; one with a slash is compared with the whole path below
            the directory.
        path: The directory.
        cluster: Where.

    Returns:
        Their paths below the directory, sorted: all that is no directory, dotfiles and links
        among them. Links are not followed.
    """
    return cast("list[str]", _ask("find", (pattern, path), cluster))


def cluster_glob(pattern: str, path: AnyPath = ".", cluster: Cluster = None) -> list[str]:
    """Return what fits a pattern, as in a shell.

    Args:
        pattern: `*` stays within one name and finds no dotfiles; `**` stands for any number of
            directories.
        path: The directory in which it is looked for.
        cluster: Where.

    Returns:
        The paths below the directory, sorted; for an absolute pattern, absolute ones.
    """
    return cast("list[str]", _ask("glob", (pattern, path), cluster))


def cluster_stat(path: AnyPath, cluster: Cluster = None) -> FileStat:
    """Size, time, kind, permissions and name of a file or directory."""
    return FileStat(*_ask("stat", (path,), cluster))


def cluster_exists(path: AnyPath, cluster: Cluster = None) -> bool:
    """Return whether there is something at a path; of a link, whether it leads somewhere."""
    return bool(_ask("exists", (path,), cluster))


def cluster_isdir(path: AnyPath, cluster: Cluster = None) -> bool:
    """Return whether a path leads to a directory."""
    return bool(_ask("isdir", (path,), cluster))


def cluster_isfile(path: AnyPath, cluster: Cluster = None) -> bool:
    """Return whether a path leads to a regular file."""
    return bool(_ask("isfile", (path,), cluster))


def cluster_du(path: AnyPath = ".", cluster: Cluster = None) -> DiskUsage:
    """Return the sizes of all regular files below a path together, and how many there are.

    Sizes are what `ls -l` shows, not what the files occupy. Links are not followed.
    """
    return DiskUsage(*_ask("du", (path,), cluster))


def cluster_count_files(path: AnyPath = ".", pattern: str = "*", cluster: Cluster = None) -> int:
    """Return how many files `cluster_find` would find."""
    return int(_ask("count", (pattern, path), cluster))


def usage_and_gap(path: AnyPath, cluster: Cluster) -> tuple[DiskUsage, str]:
    """What `cluster_du` says, and what stood in the way of a whole answer; "" if nothing did."""
    answer, gap = _answer_and_gap("du", (path,), cluster)
    return DiskUsage(*answer), gap


def count_and_gap(path: AnyPath, pattern: str, cluster: Cluster) -> tuple[int, str]:
    """Return the same for `cluster_count_files`."""
    answer, gap = _answer_and_gap("count", (pattern, path), cluster)
    return int(answer), gap


def _ask(question: str, arguments: tuple[AnyPath, ...], cluster: Cluster) -> Any:
    answer, gap = _answer_and_gap(question, arguments, cluster)
    if gap:
        where = "this machine" if cluster is None else str(getattr(cluster, "description", cluster))
        logger.warning("cluster_%s on %s: %s", question, where, gap)
    return answer


def _answer_and_gap(
    question: str, arguments: tuple[AnyPath, ...], cluster: Cluster
) -> tuple[Any, str]:
    names = [os.fspath(argument) for argument in arguments]
    if cluster is None:
        return _ask_here(question, names)
    return _ask_there(question, names, find_cluster(cluster))


def _ask_here(question: str, arguments: list[str]) -> tuple[Any, str]:
    answer, skipped = questions.ask(question, list(map(to_name, arguments)), os.getcwdb())
    if question == "stat":
        answer[-1] = to_text(answer[-1])
    elif isinstance(answer, list):
        answer = list(map(to_text, answer))
    return answer, questions.incomplete(skipped, to_text)


def _ask_there(question: str, arguments: list[str], cluster: ClusterBlock) -> tuple[Any, str]:
    answer, body = far_files(cluster).request(
        protocol.fs_ask(
            question=question,
            arguments=arguments,
            start=getattr(cluster, "working_directory", None),
        )
    )
    found = answer["answer"] if "names" not in answer else pieces_of(body)
    if question == "ls":
        found = list(map(listings.plain, found))
    elif question == "find" or (question == "glob" and not _leads_up(arguments[0])):
        found = list(map(listings.checked, found))
    return found, str(answer["skipped"])


def _leads_up(pattern: str) -> bool:
    """Return whether what fits a pattern is looked for outside the directory, too."""
    return pattern.startswith("/") or not {".", ".."}.isdisjoint(pattern.split("/"))
