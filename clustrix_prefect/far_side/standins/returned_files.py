"""`File` and `Folder` as a task returns them: what they name stays on the cluster.

When the value that a task returns is pickled, the content of each `File` and `Folder` in it
is copied into the store, where later calls of the same code cannot overwrite it; what travels
is its name. `File.remote(path)` is left where it is.
"""

import os
from typing import Any, Callable, Dict, List, Optional

from ..store.store import Store, note_needed
from ..wire import trees
from ..wire.chunks import ChunkList
from ..wire.failures import Failure
from ..wire.files import draft_beside, write_whole
from . import context

_ID_FILE = "id"
Note = Callable[[str], None]


def store_id(store: Store) -> str:
    """Return a name for this store that no other store has."""
    path = os.path.join(store.path, _ID_FILE)
    for _ in range(2):
        try:
            with open(path, encoding="ascii") as file:
                return file.read().strip()
        except FileNotFoundError:
            draft = draft_beside(path)
            write_whole(draft, os.urandom(16).hex().encode("ascii"))
            try:
                os.link(draft, path)
            except FileExistsError:
                pass  # another agent was faster
            except OSError:  # no hard links here
                os.rename(draft, path)
                continue
            os.unlink(draft)
    raise Failure("ValueError", "{} cannot be made".format(path))


class _Output:
    """A path whose content a task returns."""

    kind = ""

    def __init__(self, path: Any) -> None:
        # The task's working directory counts, not the one at the time of pickling.
        self.path: str = os.path.abspath(os.path.expanduser(os.fspath(path)))
        self._in_place = False

    @classmethod
    def remote(cls, path: Any) -> "_Output":
        """Return what lies at a path of the cluster, without a copy."""
        output = cls(path)
        output._in_place = True
        return output

    def __fspath__(self) -> str:
        return self.path

    def __repr__(self) -> str:
        return "{}({!r})".format(type(self).__name__, self.path)

    def __reduce__(self) -> Any:
        place = context.place()
        if place is None:
            return type(self), (self.path,)
        store = Store(place["store"])
        facts: Dict[str, Any] = {
            "kind": self.kind,
            "name": os.path.basename(self.path),
            "store": store_id(store),
            "path": self.path if self._in_place else None,
        }
        if self._in_place:
            facts["size"] = os.stat(self.path).st_size if self.kind == "file" else 0
        else:
            facts.update(self._keep(store, _noting(store, place)))
        return arrived, (facts,)

    def _keep(self, store: Store, note: Note) -> Dict[str, Any]:
        raise NotImplementedError


class File(_Output):
    """A file that a task returns."""

    kind = "file"

    def _keep(self, store: Store, note: Note) -> Dict[str, Any]:
        chunks = store.add(self.path, note)
        return {
            "content": chunks.name,
            "size": chunks.size,
            "executable": os.access(self.path, os.X_OK),
        }


class Folder(_Output):
    """A folder that a task returns."""

    kind = "folder"

    def _keep(self, store: Store, note: Note) -> Dict[str, Any]:
        chunks, total = _keep_folder(store, self.path, note)
        return {"content": chunks.name, "size": chunks.size, "total": total}


def _noting(store: Store, place: Dict[str, Any]) -> Note:
    """Writes down which contents the flow run needs: they stay until it has ended."""
    if not place.get("run"):
        return lambda name: None
    run = os.path.join(store.path, "..", "runs", os.path.basename(place["run"]))
    return lambda name: note_needed(run, [name])


def _keep_folder(store: Store, path: str, note: Note) -> Any:
    """Copy a folder into the store: the chunk list of its description, and its size in all."""
    entries: List[trees.Entry] = []
    total = 0
    for kind, inside, source in trees.scan(path):
        if kind == trees.FILE:
            found = store.add(source, note)
            total += found.size
            executable = os.access(source, os.X_OK)
            entries.append([kind, inside, found.size, found.name, executable])
        else:
            entries.append([kind, inside] + ([source] if kind == trees.LINK else []))
    return _add_bytes(store, trees.describe(entries), note), total


def _add_bytes(store: Store, data: bytes, note: Note) -> ChunkList:
    draft = draft_beside(os.path.join(store.path, "added"))
    write_whole(draft, data)
    try:
        return store.add(draft, note)
    finally:
        os.unlink(draft)


def arrived(facts: Dict[str, Any]) -> Optional[Any]:
    """Named in the pickle; where that is opened it makes a `RemoteFile` or `RemoteFolder`."""
    raise TypeError("a returned file cannot be opened where it was returned")


# So that it is pickled as the name of the client's function.
arrived.__module__, arrived.__qualname__ = (
    "clustrix_prefect.sessions.remote_files",
    "arrived",
)

# What the stand-in for `clustrix_prefect` gets from here. The latter two only for annotations:
# such an argument arrives as a path.
OFFERED: Dict[str, Any] = {
    "File": File,
    "Folder": Folder,
    "arrived": arrived,
    "RemoteFile": type("RemoteFile", (), {}),
    "RemoteFolder": type("RemoteFolder", (), {}),
}
