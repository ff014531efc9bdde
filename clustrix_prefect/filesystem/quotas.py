"""What an account may still write where a path is."""

from __future__ import annotations

import re
from dataclasses import dataclass

from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.errors import AgentError
from clustrix_prefect.far_side.wire import protocol
from clustrix_prefect.filesystem import urls
from clustrix_prefect.filesystem.far_files import far_files

_SECONDS = 60.0
_KIB = 1024
# Space and then files: what is used, quota, limit, grace.
_COLUMNS = 8


@dataclass(frozen=True)
class Quota:
    """An account's quota on one file system.

    Attributes:
        used: The bytes that it uses.
        limit: The bytes that it may use; None if there is no limit.
    """

    used: int
    limit: int | None

    @property
    def left(self) -> int | None:
        """The bytes that it may still write; None if there is no limit."""
        return None if self.limit is None else max(0, self.limit - self.used)


def quota_at(path: str, cluster: ClusterBlock) -> Quota:
    """Return the quota of the account that the cluster is reached with, where a path is.

    Raises:
        OSError: The path is not there.
        AgentError: The quota cannot be told.
    """
    far = urls.far_path(urls.plain_path(path))
    answer, _ = far_files(cluster).request(
        protocol.fs_quota(path=far, seconds=_SECONDS), shown=path
    )
    command = " ".join(answer["command"])
    # `quota` ends with a failure for who has used up his, too: what counts is what it says.
    found = parse_quota(answer["stdout"])
    if found is None:
        told = (answer["stderr"] or answer["stdout"]).strip() or "nothing"
        raise AgentError(
            f"The quota is not known: `{command}` says {told!r:.300}.",
            "Ask the administrators how quotas are asked for there; expect `min_free` instead.",
        )
    return found


def parse_quota(text: str) -> Quota | None:
    """Return what `quota -v -w -p -f` and `lfs quota -q` say of one file system, if they do."""
    # The name of the file system may be in a line of its own.
    words = text.split()[-_COLUMNS:]
    if len(words) < _COLUMNS:
        return None
    # A star is behind what is too much. In brackets is what is not certain: servers were down.
    space = [re.fullmatch(r"(\d+)\*?", word) for word in words[:3]]
    if not all(space) or not re.fullmatch(r"(\d+)\*?", words[4]):
        return None
    used, quota, limit = (int(match[1]) * _KIB for match in space if match is not None)
    limits = [one for one in (quota, limit) if one]
    return Quota(used, min(limits) if limits else None)
