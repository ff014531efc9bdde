"""Files and folders as arguments and results of tasks.

    @task
    def train(data: Path, weights: Path) -> File:
        ...
        return File("model.pt")

    model = train.submit(Folder("data/"), File("weights.pt"))
    score = evaluate.submit(model)           # stays on the cluster
    model.result().download("model.pt")

A task receives a `pathlib.Path`, which it must not write to. What it returns stays on the
cluster until it is downloaded.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.errors import ConfigurationError, NotPortable
from clustrix_prefect.far_side.wire.chunks import is_digest


class _Local:
    """A path of this machine, or one of a cluster, that a task is to receive."""

    kind: ClassVar[str]

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser().absolute()
        self.remote_path: str | None = None

    @classmethod
    def remote(cls, path: str | os.PathLike[str]) -> _Local:
        """Return what is at this path of the cluster already; nothing is sent or copied.

        Args:
            path: An absolute path there; `~` and `$VARIABLES` are expanded there.

        Raises:
            ConfigurationError: The path is not absolute.
        """
        text = os.fspath(path)
        if text[:1] not in ("/", "~", "$"):
            raise ConfigurationError(
                f"{cls.__name__}.remote({text!r}) is not absolute.",
                f'Write for example {cls.__name__}.remote("/scratch/{text}").',
            )
        there = cls(".")
        there.remote_path = text
        return there

    def __fspath__(self) -> str:
        """Return the path, for tasks that run on this machine."""
        return self.remote_path or str(self.path)

    def __repr__(self) -> str:
        if self.remote_path is not None:
            return f"{type(self).__name__}.remote({self.remote_path!r})"
        return f"{type(self).__name__}({str(self.path)!r})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash((type(self), self.path, self.remote_path))


class File(_Local):
    """A file that a task receives, as a `pathlib.Path` to a copy on the cluster.

    It is sent once: as long as the cluster has its content, no byte of it travels again, and
    of a large file that was changed only the chunks that differ do.

    Args:
        path: The file.
    """

    kind = "file"


class Folder(_Local):
    """A folder that a task receives, as a `pathlib.Path` to a copy on the cluster.

    Its files are sent as `File` sends them. Links to other parts of the folder stay links;
    links to files elsewhere become those files; links to directories elsewhere are refused.

    Args:
        path: The folder.
    """

    kind = "folder"


class StoredFile:
    """What a task returned, and where it is.

    Attributes:
        name: Its name.
        size: Of all files, in bytes.
        content: What it is, as the cluster's store names it; None if it is known by path only.
        path: Where it is, if it was returned by `File.remote` or `Folder.remote`.
    """

    kind: ClassVar[str]

    def __init__(self, facts: dict[str, Any], cluster: ClusterBlock | None) -> None:
        self._facts = facts
        self._cluster = cluster
        self._block: str | None = cluster.saved_as if cluster else None
        self.name: str = facts["name"]
        self.size: int = facts.get("total", facts["size"])
        self.content: str | None = facts.get("content")
        if self.content is not None and not is_digest(self.content):
            raise ValueError(f"{self.content!r} does not name a content")
        self.path: PurePosixPath | None = PurePosixPath(facts["path"]) if facts["path"] else None

    @property
    def store(self) -> str:
        """The store that it is in."""
        return str(self._facts["store"])

    @property
    def facts(self) -> dict[str, Any]:
        """What the far side said of it."""
        return dict(self._facts)

    def home(self) -> ClusterBlock | str | None:
        """Return the cluster that it is on, or its name, as far as that is known."""
        return self._cluster or self._block

    def __getstate__(self) -> dict[str, Any]:
        # A block may hold secrets; its name is enough to find it again.
        return {**vars(self), "_cluster": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StoredFile) and self._facts == other._facts

    def __hash__(self) -> int:
        return hash((self.store, self.content, self.path))

    def __repr__(self) -> str:
        where = self._block or (self._cluster.description if self._cluster else "a cluster")
        return f"<{type(self).__name__} {self.name!r} on {where}, {self.size} bytes>"


def on_another_cluster(what: StoredFile) -> NotPortable:
    """Return what is said when a cluster gets what another one has."""
    return NotPortable(
        f"{what!r} is not on the cluster that the task runs on.",
        f"Bring it there through this machine: {what.kind.capitalize()}(it.download(...)).",
    )
