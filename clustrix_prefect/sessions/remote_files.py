"""Brings what tasks have returned by name: to this machine, or through it to other pods."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from clustrix_prefect.clusters import load_cluster
from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.connections.agent import AgentClient
from clustrix_prefect.errors import ConfigurationError, TamperedResult
from clustrix_prefect.far_side.wire import protocol, trees
from clustrix_prefect.far_side.wire.chunks import ChunkList
from clustrix_prefect.files import StoredFile
from clustrix_prefect.packaging.blobs import Blob
from clustrix_prefect.packaging.identity import sha256
from clustrix_prefect.sessions.session import Session, sessions
from clustrix_prefect.transfer.download import describe, fetch, fetch_file, read
from clustrix_prefect.transfer.drafts import name_of_draft, open_draft_directory

T = TypeVar("T")
OnProgress = Callable[..., None]
_SCANNING_SECONDS = 600.0


@dataclass
class Opening:
    """A result that is being opened.

    Attributes:
        cluster: Where it is from.
        names_files: Whether it names files or folders that are there.
    """

    cluster: ClusterBlock
    names_files: bool = False


being_opened: ContextVar[Opening | None] = ContextVar("being_opened", default=None)


class _Downloadable(StoredFile):
    """What a task returned, and how it is brought to this machine."""

    def download(
        self,
        to: str | os.PathLike[str],
        *,
        cluster: ClusterBlock | str | None = None,
        progress: bool = True,
    ) -> Path:
        """Bring it to this machine.

        Args:
            to: A path, or an existing directory, in which it gets its own name.
            cluster: The cluster that it is on, for the case that it is not known any more: a
                block or its name.
            progress: Whether to show a progress bar.

        Returns:
            Where it is.

        Raises:
            AgentError: It is not there any more, or was changed.
            ConnectionFailed: The cluster cannot be reached.
            FileExistsError: A folder would have to replace something.
        """
        return _download(self, Path(to).expanduser(), cluster, progress)


class RemoteFile(_Downloadable):
    """A file that a task returned; it is on the cluster until `download`."""

    kind = "file"


class RemoteFolder(_Downloadable):
    """A folder that a task returned; it is on the cluster until `download`."""

    kind = "folder"


# Under these names they are pickled, wherever they are defined.
RemoteFile.__module__ = RemoteFolder.__module__ = "clustrix_prefect"


def arrived(facts: dict[str, Any]) -> RemoteFile | RemoteFolder:
    """Return what a result says of a file or folder that its task returned."""
    kinds: dict[str, type[RemoteFile | RemoteFolder]] = {"file": RemoteFile, "folder": RemoteFolder}
    opening = being_opened.get()
    if opening is None:
        return kinds[facts["kind"]](facts, None)
    opening.names_files = True
    return kinds[facts["kind"]](facts, opening.cluster)


def _download(
    what: StoredFile,
    to: Path,
    cluster: ClusterBlock | str | None,
    progress: bool,
) -> Path:
    """Bring what a task returned to a path here; see `RemoteFile.download`."""
    target = (to / _checked_name(what) if to.is_dir() else to).absolute()
    with _session_of(what, cluster) as session, _progress_bar(what, progress) as on_progress:
        if what.kind == "folder":
            session.with_agent(lambda agent: _folder(agent, what, target, on_progress))
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            session.with_agent(lambda agent: _file(agent, what, target, on_progress))
    return target


def _checked_name(what: StoredFile) -> str:
    """Return the name that the cluster gave it, if it is one.

    Raises:
        TamperedResult: It would lead out of the directory that it is brought to.
    """
    name = what.name
    if not isinstance(name, str) or name in ("", ".", "..") or "/" in name or "\0" in name:
        raise TamperedResult(
            f"The cluster gave what a task returned the name {name!r}, which is none.",
            "Name a file to bring it to, once you know how that came about.",
        )
    return name


def _file(agent: AgentClient, what: StoredFile, target: Path, on_progress: OnProgress) -> None:
    executable = bool(what.facts.get("executable"))
    if what.content is not None:
        fetch_file(
            agent, target, executable=executable, on_progress=on_progress, content=what.content
        )
    else:
        fetch_file(agent, target, on_progress=on_progress, path=str(what.path))


def _folder(agent: AgentClient, what: StoredFile, target: Path, on_progress: OnProgress) -> None:
    if target.exists():
        raise FileExistsError(f"{target} is there already")
    entries = _entries(agent, what)
    on_progress(0, sum(entry[2] for entry in entries if entry[0] == trees.FILE))
    done = 0
    name = what.content or sha256(str(what.path).encode())
    # Files that an earlier attempt brought are found by name in here.
    ending = f".{name[:16]}.partial"
    files = open_draft_directory(target.with_name(name_of_draft(target.name, f"{ending}.files")))
    draft = files / "folder"

    def place(entry: trees.Entry, destination: str) -> None:
        nonlocal done
        _, inside, length, content, executable = entry
        before = done
        here = files / f"{content or sha256(inside.encode())}{'.x' if executable else ''}"
        # What is known by its path may have changed since that attempt.
        if not content or not here.is_file():
            fetch_file(
                agent,
                here,
                executable=executable,
                on_progress=lambda piece: on_progress(before + piece),
                **({"content": content} if content else {"path": f"{what.path}/{inside}"}),
            )
        done += length
        shutil.copy2(here, destination)

    shutil.rmtree(draft, ignore_errors=True)
    trees.make(entries, str(draft), place)
    for path in (draft, *(path for path in draft.rglob("*") if path.is_dir())):
        if not path.is_symlink():
            path.chmod(0o755)
    draft.replace(target)
    shutil.rmtree(files, ignore_errors=True)


def _entries(agent: AgentClient, what: StoredFile) -> list[trees.Entry]:
    """Return what the folder consists of."""
    return trees.parse(_description(agent, what))


def _description(agent: AgentClient, what: StoredFile) -> bytes:
    """Return the list of what is in a folder."""
    if what.content is None:
        return agent.begin(protocol.describe(folder=str(what.path))).wait(_SCANNING_SECONDS)[1]
    size = int(what.facts["size"])
    return b"".join(piece for _, piece in fetch(agent, size, content=what.content))


def blobs_of(what: StoredFile) -> list[Blob]:
    """Return what a task returned, as blobs that are read from where it is while they are sent.

    Raises:
        ClustrixError: It cannot be reached.
    """
    assert what.content is not None
    with _session_of(what, None) as session:
        if what.kind != "folder":
            executable = bool(what.facts["executable"])
            return [_blob(session, what, what.content, what.size, executable)]
        description = session.with_agent(partial(_description, what=what))
        blobs = [Blob.of_bytes(description, f"list of {what.name}")]
        for kind, _, *facts in trees.parse(description):
            if kind == trees.FILE:
                size, content, executable = facts
                blobs.append(_blob(session, what, content, size, executable))
        return blobs


def _blob(
    session: Session,
    what: StoredFile,
    content: str,
    size: int,
    executable: bool,
) -> Blob:
    chunks = ChunkList(size, [content])
    if chunks.is_long:
        chunks = session.with_agent(partial(describe, content=content))

    @contextmanager
    def source() -> Iterator[_FarSource]:
        with _session_of(what, None) as session:
            yield _FarSource(session, content, size, executable)

    return Blob(content, size, what.name, chunks, source, is_file=True)


@dataclass
class _FarSource:
    """A content of a store, as what is sent to another one."""

    session: Session
    content: str
    size: int
    executable: bool

    def read(self, offset: int, size: int) -> bytes:
        return self.session.with_agent(
            lambda agent: read(agent, offset, size, content=self.content)
        )


@contextmanager
def _session_of(what: StoredFile, cluster: ClusterBlock | str | None) -> Iterator[Session]:
    """A connection to the cluster that something is on; an open one if there is."""
    session = sessions.with_store(what.store)
    if session is None:
        home = cluster or what.home()
        if home is None:
            raise ConfigurationError(
                f"It is not known any more on which cluster {what.name!r} is.",
                "Pass the cluster: download(to, cluster=...).",
            )
        block = load_cluster(home) if isinstance(home, str) else home
        if not block.keeps_store:
            raise ConfigurationError(
                f"The pod that has {what.name!r} is gone, or this process does not run its flow.",
                "Use it while the flow runs, or give the block a `work_volume_claim`.",
            )
        session = sessions.acquire(block)
    try:
        if session.store != what.store:
            raise ConfigurationError(
                f"{what.name!r} is not in the work directory of {session.cluster.description}.",
                "Pass the cluster on which its task ran, with the same remote_work_dir.",
            )
        yield session
    finally:
        sessions.release(session)


@contextmanager
def _progress_bar(what: StoredFile, shown: bool) -> Iterator[OnProgress]:
    if not shown:
        yield lambda done, total=None: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, TransferSpeedColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(what.name, total=what.size)
        yield lambda done, total=None: bar.update(task, completed=done, total=total)
