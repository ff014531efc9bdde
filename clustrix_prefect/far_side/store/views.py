"""Contents of the store under the names that tasks see them by.

A view is a hard link to a content, in a directory of its own, so that a task gets
`model.pt` and not a digest; a folder's view is a tree of such links. Views are shared by all
calls and cannot be written to. Where a filesystem has no hard links they are symbolic ones.
"""

import hashlib
import os
import shutil
from typing import Any, Callable, Dict, List

from ..wire import trees
from ..wire.failures import Failure
from ..wire.files import draft_beside, make_dir
from .store import VIEWS, Store, allow_running, checked_name, is_intact

_CLOSED = 0o500
_LONGEST_NAME = 255


def plain_file_name(name: Any) -> str:
    """Return a name that came from somewhere else and will be that of a file or folder."""
    usable = isinstance(name, str) and 0 < len(os.fsencode(name)) <= _LONGEST_NAME
    if not usable or name in (".", "..") or "/" in name or "\0" in name:
        raise Failure("ValueError", "{!r} cannot be the name of a file".format(name))
    return str(name)


class Views:
    """The views of a store, made when first asked for.

    Args:
        store: The store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._directory = os.path.join(store.path, VIEWS)
        self._known: Dict[str, bool] = {}

    def file(self, content: str, size: int, name: str, executable: bool) -> str:
        """Return the path of a file with this content and name."""
        source = self._store.verify(content, size)
        if executable:
            allow_running(source)

        def build(target: str) -> None:
            _link(source, target)

        return self._provide(content, name, build, lambda path: is_intact(path, size))

    def folder(self, content: str, size: int, name: str) -> str:
        """Return the path of a folder with this description and name."""
        with open(self._store.verify(content, size), "rb") as file:
            entries = trees.parse(file.read())

        def place(entry: trees.Entry, target: str) -> None:
            _, _, length, part, executable = entry
            source = self._store.verify(part, length)
            if executable:
                allow_running(source)
            _link(source, target)

        def build(target: str) -> None:
            trees.make(entries, target, place)
            _close(target)

        return self._provide(content, name, build, lambda path: _is_whole(path, entries))

    def _provide(
        self,
        content: str,
        name: str,
        build: Callable[[str], None],
        is_good: Callable[[str], bool],
    ) -> str:
        top = os.path.join(self._directory, view_key(content, name))
        path = os.path.join(top, plain_file_name(name))
        if not (self._known.get(path) and os.path.exists(path)) and not is_good(path):
            draft = make_dir(draft_beside(top))
            try:
                build(os.path.join(draft, name))
                self._put(draft, top, path, is_good)
            finally:
                remove_tree(draft)
        self._known[path] = True
        os.utime(top, None)
        return path

    @staticmethod
    def _put(draft: str, top: str, path: str, is_good: Callable[[str], bool]) -> None:
        for _ in range(2):
            try:
                os.rename(draft, top)
                return
            except OSError:
                if is_good(path):
                    return  # another worker was faster
                remove_tree(top)  # it was tampered with
        os.rename(draft, top)


def view_key(content: str, name: str) -> str:
    """Return the directory of a view: which content it shows, and as what."""
    shown_as = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
    return "{}.{}".format(checked_name(content), shown_as[:8])


def content_of_view(key: str) -> str:
    """Return the content that a view's directory shows."""
    return key.partition(".")[0]


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        os.symlink(source, target)


def _is_whole(path: str, entries: List[trees.Entry]) -> bool:
    if not os.path.isdir(path):
        return False
    for kind, inside, *rest in entries:
        place = os.path.join(path, *inside.split("/"))
        if kind == trees.FILE and not is_intact(place, rest[0]):
            return False
        if kind == trees.LINK and not os.path.islink(place):
            return False
    return True


def _close(path: str) -> None:
    for directory, _, _ in os.walk(path, topdown=False):
        os.chmod(directory, _CLOSED)


def remove_tree(path: str) -> None:
    """Remove a directory, also one with closed directories in it."""
    for directory, _, _ in os.walk(path):
        try:
            os.chmod(directory, 0o700)
        except OSError:
            pass
    shutil.rmtree(path, ignore_errors=True)
