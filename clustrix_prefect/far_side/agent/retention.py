"""What lies in a work directory, and what of it can go.

Whatever a flow run's calls need is written down in the run's directory before it is sent, so
it can be told from any agent what must stay.
"""

import os
import shutil
import time
from typing import Any, Dict, Iterator, List, Optional, Set, Tuple

from ..environments.environments import Environment
from ..store.store import CHUNKS, NEEDED, PARTIAL, VIEWS, Store
from ..store.views import content_of_view, remove_tree
from ..wire.files import DRAFT, remove
from .workdir import WorkDir

_NAME_LENGTH = 64
# What is being written right now looks like what was left behind.
_GRACE_SECONDS = 3600.0
# What removing an environment left behind when it was interrupted.
_REMOVED = ".removed"


def end_run(work_dir: WorkDir, run: str) -> None:
    """Forget what a run needed, unless calls of it go on without their client."""
    top = work_dir.run(run)
    if not any(batch.may_go_on() for batch in work_dir.batches(run)):
        remove(os.path.join(top, NEEDED))
        try:
            os.rmdir(top)
        except OSError:  # job files are kept in it, or it was never made
            pass


class Item:
    """One thing in the work directory.

    Attributes:
        kind: "content", "view", "partial", "environment" or "run".
        name: Its name there.
        paths: The files and directories that it consists of.
        size: In bytes, on the disk.
        used: When it was used last.
        needed: Whether an unfinished run may need it.
    """

    def __init__(
        self, kind: str, name: str, paths: List[str], size: int, used: float, needed: bool
    ) -> None:
        self.kind = kind
        self.name = name
        self.paths = paths
        self.size = size
        self.used = used
        self.needed = needed

    def facts(self) -> Dict[str, Any]:
        """This, for a reply."""
        return {
            "kind": self.kind,
            "name": self.name,
            "size": self.size,
            "used": self.used,
            "needed": self.needed,
        }


class Retention:
    """What a work directory holds.

    Args:
        work_dir: The work directory.
    """

    def __init__(self, work_dir: WorkDir) -> None:
        self._work_dir = work_dir
        self._store: Store = work_dir.store

    def usage(self) -> List[Item]:
        """Everything that lies there."""
        needed = self._needed()
        of_store = list(self._contents(needed)) + list(self._views(needed))
        return list(self._runs()) + of_store + list(self._environments())

    def prune(self, seconds: float) -> List[Item]:
        """Remove what was not used for so long and is not needed; what that was."""
        now = time.time()
        gone = []
        for run in self._runs():
            if not run.needed and now - run.used > max(seconds, _GRACE_SECONDS):
                shutil.rmtree(run.paths[0], ignore_errors=True)
                gone.append(run)
        for environment in self._environments():
            # A flow that was told that it is there may be about to submit.
            if not environment.needed and now - environment.used > max(seconds, _GRACE_SECONDS):
                # All at once: half of one would be taken for a whole.
                gone_path = environment.paths[0] + _REMOVED
                remove_tree(gone_path)  # of a removal that was interrupted
                os.rename(environment.paths[0], gone_path)
                remove_tree(gone_path)
                gone.append(environment)
        needed = self._needed()
        for item in list(self._views(needed)) + list(self._contents(needed)):
            limit = max(seconds, _GRACE_SECONDS) if item.kind == "partial" else seconds
            if item.needed or now - item.used < limit:
                continue
            # Somebody may have begun to use it while we looked at the others.
            if item.kind == "content" and now - _last_use(item.paths[0]) < limit:
                continue
            for path in item.paths:
                if os.path.isdir(path):
                    remove_tree(path)
                else:
                    remove(path)
            gone.append(item)
        return gone

    def _needed(self) -> Set[str]:
        names: Set[str] = set()
        for run in _list(self._work_dir.runs):
            try:
                with open(os.path.join(self._work_dir.runs, run, NEEDED)) as file:
                    names.update(file.read().split())
            except OSError:
                pass
        return names

    def _contents(self, needed: Set[str]) -> Iterator[Item]:
        for name in _list(self._store.path):
            path = os.path.join(self._store.path, name)
            status = _stat(path)
            if status is None or os.path.isdir(path):
                continue
            if len(name) == _NAME_LENGTH:
                paths = [path, path + CHUNKS] if os.path.exists(path + CHUNKS) else [path]
                size = status.st_blocks * 512
                yield Item("content", name, paths, size, status.st_atime, name in needed)
            elif name.endswith((PARTIAL, DRAFT)):
                size = status.st_blocks * 512
                yield Item("partial", name, [path], size, status.st_mtime, False)

    def _views(self, needed: Set[str]) -> Iterator[Item]:
        top = os.path.join(self._store.path, VIEWS)
        for key in _list(top):
            path = os.path.join(top, key)
            status = _stat(path)
            if status is not None:
                # Its files are those of contents: it takes up nothing but names.
                in_use = content_of_view(key) in needed
                yield Item("view", key, [path], 0, status.st_mtime, in_use)

    def _environments(self) -> Iterator[Item]:
        in_use = any(self._is_open(run) for run in _list(self._work_dir.runs))
        for name in _list(self._work_dir.environments):
            path = os.path.join(self._work_dir.environments, name)
            environment = Environment(path)
            try:
                used = environment.last_use()
            except OSError:  # somebody else removed it
                continue
            needed = in_use or environment.is_being_built()
            yield Item("environment", name, [path], _tree_size(path)[0], used, needed)

    def _is_open(self, run: str) -> bool:
        """Return whether calls of a run may be about to be submitted, waiting or running.

        Which environment they use is written in their jobs' scripts only: it could be any.
        """
        if os.path.exists(os.path.join(self._work_dir.runs, run, NEEDED)):
            return True
        return any(batch.may_go_on() for batch in self._work_dir.batches(run))

    def _runs(self) -> Iterator[Item]:
        for run in _list(self._work_dir.runs):
            top = os.path.join(self._work_dir.runs, run)
            size, used = _tree_size(top)
            unfinished = any(batch.may_go_on() for batch in self._work_dir.batches(run))
            yield Item("run", run, [top], size, used, unfinished)


def _list(directory: str) -> List[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def _stat(path: str) -> Optional[os.stat_result]:
    try:
        return os.stat(path)
    except OSError:
        return None


def _last_use(path: str) -> float:
    status = _stat(path)
    return status.st_atime if status is not None else time.time()


def _tree_size(top: str) -> Tuple[int, float]:
    size, used = 0, 0.0
    for directory, _, files in os.walk(top):
        for path in [directory] + [os.path.join(directory, name) for name in files]:
            status = _stat(path)
            if status is not None:
                size += status.st_blocks * 512
                used = max(used, status.st_mtime)
    return size, used
