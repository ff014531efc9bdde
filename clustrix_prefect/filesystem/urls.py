"""URLs of files on clusters.

    cluster://slurm-cluster.ndoli/scratch/ana/x.csv     block type, block name, path
    cluster://ndoli/scratch/ana/x.csv                   where the name alone is unique
    cluster://ndoli/~/x.csv                             from the home directory on
    cluster:///scratch/ana/x.csv                        where the filesystem is given a block

In a URL every character of a path may be written as `%` and its hexadecimal code, and those
that URLs mangle have to be: newlines, `%` itself, and the `::` by which fsspec chains URLs.
"""

from __future__ import annotations

from urllib.parse import quote, unquote

from clustrix_prefect.errors import ConfigurationError

SCHEME = "cluster://"
HOW_TO_NAME_ONE = (
    f"Write {SCHEME}<block type>.<block name>/path, such as "
    f"{SCHEME}slurm-cluster.ndoli/scratch/x.csv, or give the block: "
    'storage_options={"block": "slurm-cluster/ndoli"}.'
)
HOME = "/~"


def is_url(path: str) -> bool:
    """Return whether this is a URL of a cluster and not a path."""
    return path.startswith(SCHEME)


def parse(url: str) -> tuple[str | None, str]:
    """Return the cluster that a URL names ("slurm-cluster/ndoli", "ndoli", or none), and the path.

    Raises:
        ConfigurationError: It is not such a URL.
    """
    where, slash, path = url.removeprefix(SCHEME).partition("/")
    if "::" in url:
        raise ConfigurationError(
            f"{url!r} holds `::`, by which fsspec chains URLs.",
            "If it is part of the name, write it as %3A%3A.",
        )
    if where in ("~", ".", "..") or not (where or path):
        raise ConfigurationError(f"{url!r} names no cluster.", HOW_TO_NAME_ONE)
    there = plain_path(slash + unquote(path, errors="surrogateescape"))
    if not where:
        return None, there
    kind, dot, name = unquote(where).partition(".")
    return f"{kind}/{name}" if dot else kind, there


def make(cluster: str, path: str) -> str:
    """Return the URL of a path on the cluster "slurm-cluster/ndoli"."""
    kind, _, name = cluster.partition("/")
    return f"{SCHEME}{kind}.{name}{quote(path, safe='/~', errors='surrogateescape')}"


def plain_path(path: str) -> str:
    """Return a path as the filesystem writes it: absolute, `/~` standing for the home directory."""
    if path == "~" or path.startswith("~/"):
        path = f"/{path}"
    elif path in ("", "/"):
        return "/"
    elif not path.startswith("/"):
        while path.startswith("./"):
            path = path[2:].lstrip("/")
        path = HOME if path in ("", ".") else f"{HOME}/{path}"
    return path.rstrip("/") or "/"


def far_path(path: str) -> str:
    """Return a path of the filesystem as the far side understands it."""
    return path[1:] if path == HOME or path.startswith(f"{HOME}/") else path
