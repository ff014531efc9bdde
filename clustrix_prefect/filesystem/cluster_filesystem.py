"""The files of a cluster as an fsspec filesystem.

ClusterFileSystem("slurm-cluster/ndoli").ls("/scratch/ana")
pandas.read_csv("cluster://ndoli/scratch/ana/x.csv")
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Set
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

from fsspec.callbacks import DEFAULT_CALLBACK, Callback
from fsspec.core import has_magic
from fsspec.implementations.local import LocalFileSystem
from fsspec.spec import AbstractFileSystem
from fsspec.utils import isfilelike, stringify_path

from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.errors import ConfigurationError, ConnectionFailed
from clustrix_prefect.far_side.wire import protocol
from clustrix_prefect.far_side.wire.protocol import FileAnswer, Request
from clustrix_prefect.filesystem import listings, urls
from clustrix_prefect.filesystem.cluster_file import ClusterFile
from clustrix_prefect.filesystem.far_files import FarFiles, far_files
from clustrix_prefect.filesystem.listings import Info
from clustrix_prefect.filesystem.naming import find_cluster
from clustrix_prefect.filesystem.transfers import identity_of, read_all, write_all
from clustrix_prefect.transfer.drafts import replacing

A = TypeVar("A")


class ClusterFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """The files of a cluster, reached over its connection.

    Every operation is one round trip; long listings arrive while they are made. All instances of
    a process that mean the same cluster share one connection. Paths are taken as they are,
    whatever they hold; those that are relative, or begin with `~`, are meant from the home
    directory. A `cluster://` URL may be given instead of a path.

    Args:
        block: A cluster block, its type and name ("slurm-cluster/ndoli"), or its name alone
            where that is unique. A URL may name it instead.
        auto_mkdir: Whether writing a file makes the directories above it.

    Raises:
        ConfigurationError: There is no such block.
    """

    protocol = "cluster"
    root_marker = "/"
    # Two blocks that differ in nothing but a secret would look the same to fsspec's cache.
    cachable = False

    def __init__(
        self, block: ClusterBlock | str | None = None, *, auto_mkdir: bool = True, **options: Any
    ) -> None:
        if block is None:
            raise ConfigurationError("No cluster is named.", urls.HOW_TO_NAME_ONE)
        if chained := {"fo", "target_protocol", "target_options"} & set(options):
            raise ConfigurationError(
                f"Nothing can be looked for in a cluster by {' and '.join(sorted(chained))}.",
                "If `::` is part of a name, write it as %3A%3A in the URL.",
            )
        super().__init__(**options)
        self.cluster = find_cluster(block)
        self.auto_mkdir = auto_mkdir
        self._name = block if isinstance(block, str) else block.saved_as
        self._opened: tuple[int, FarFiles] | None = None

    # --- which filesystem this is ---------------------------------------------------------------

    @property
    def fsid(self) -> str:
        """A text that is the same for filesystems of the same cluster; no secret is in it."""
        return f"cluster:{self.cluster.public_identity}"

    @property
    def _fs_token(self) -> str:
        return self.cluster.public_identity.rpartition(":")[2]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self.cluster.identity == other.cluster.identity

    def __hash__(self) -> int:
        return hash(self.cluster.identity)

    @property
    def storage_options(self) -> dict[str, Any]:
        """What makes this filesystem anew: the block's name, never the block."""
        if self._name is None:
            raise ConfigurationError(
                f"The block of {self.cluster.description} is not saved, so the filesystem cannot "
                "be pickled or written down.",
                'Save it with cluster.save("name"), and make the filesystem with that name.',
            )
        return {"block": self._name, "auto_mkdir": self.auto_mkdir}

    @storage_options.setter
    def storage_options(self, options: dict[str, Any]) -> None:
        """Keep nothing; fsspec would keep the block, with its secrets included."""

    @property
    def storage_args(self) -> tuple[Any, ...]:
        """Everything that makes this filesystem anew has a name."""
        return ()

    @storage_args.setter
    def storage_args(self, args: tuple[Any, ...]) -> None:
        """As for `storage_options`."""

    def __reduce__(self) -> Any:
        return partial(type(self), **self.storage_options), ()

    @property
    def _files(self) -> FarFiles:
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), far_files(self.cluster))
        return self._opened[1]

    def _ask(self, request: Request[A], path: str) -> A:
        """Ask for one operation, whose exceptions show this path."""
        return self._files.request(request, shown=path)[0]

    # --- paths ----------------------------------------------------------------------------------

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(each) for each in path]
        text = stringify_path(path)
        return urls.parse(text)[1] if urls.is_url(text) else urls.plain_path(text)

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, Any]:
        cluster = urls.parse(path)[0] if urls.is_url(path) else None
        return {} if cluster is None else {"block": cluster}

    def unstrip_protocol(self, name: str) -> str:
        """Return the URL of a path.

        Raises:
            ConfigurationError: The block is not saved, so it has no name.
        """
        if urls.is_url(name):
            return name
        saved = self.cluster.saved_as or self.storage_options["block"]
        return urls.make(saved, self._strip_protocol(name))

    # --- looking --------------------------------------------------------------------------------

    def info(self, path: str, **_: Any) -> Info:
        """Return what is known of a path; of a link, what is known of where it leads."""
        path = self._strip_protocol(path)
        facts = self._ask(protocol.fs_info(path=urls.far_path(path)), path)
        return {**facts, "name": path}

    def exists(self, path: str, **_: Any) -> bool:
        """Return whether there is something at a path, and where it leads if it is a link."""
        return self._type(path) is not None

    def lexists(self, path: str, **_: Any) -> bool:
        """Return whether there is something at a path, be it a link that leads nowhere."""
        try:
            self.info(path)
        except FileNotFoundError:
            return self.islink(path)
        return True

    def isdir(self, path: str) -> bool:
        """Return whether a path leads to a directory."""
        return self._type(path) == "directory"

    def isfile(self, path: str) -> bool:
        """Return whether a path leads to a regular file."""
        return self._type(path) == "file"

    def _type(self, path: str) -> str | None:
        try:
            return cast("str", self.info(path)["type"])
        except ConnectionFailed:
            raise
        except OSError:
            return None

    def islink(self, path: str) -> bool:
        """Return whether there is a symbolic link at a path."""
        path = self._strip_protocol(path)
        return bool(self._ask(protocol.fs_islink(path=urls.far_path(path)), path)["islink"])

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """Return what is in a directory, as paths or with what is known of each."""
        path = self._strip_protocol(path)
        answer, body = self._files.request(
            protocol.fs_ls(path=urls.far_path(path), detail=detail), shown=path
        )
        if "info" in answer:
            return [{**answer["info"], "name": path}] if detail else [path]
        pieces = listings.pieces_of(body)
        if not detail:
            return [
                listings.below(path, listings.plain(piece[2:]))
                for piece in pieces
                if piece[0] != ">"
            ]
        return list(listings.entries_of(path, pieces).values())

    def _walk(self, path: str, maxdepth: int | None, detail: bool) -> Iterator[str]:
        """Yield the pieces of the listing of everything below a directory, as they arrive."""
        for pieces in self._files.walk(
            urls.far_path(path), maxdepth=maxdepth, detail=detail, shown=path
        ):
            yield from pieces

    def walk(
        self,
        path: str,
        maxdepth: int | None = None,
        topdown: bool = True,
        on_error: str | Callable[[OSError], Any] = "omit",
        detail: bool = False,
        **options: Any,
    ) -> Iterator[tuple[str, Any, Any]]:
        """Yield every directory below one with what is in it, as `os.walk` gives them.

        With `topdown`, it is one streamed answer; what is removed from the names of a
        directory's subdirectories is left out.
        """
        if maxdepth is not None and maxdepth < 1:
            raise ValueError("maxdepth must be at least 1")
        path = self._strip_protocol(path)
        if not topdown:
            yield from super().walk(
                path, maxdepth, topdown=False, on_error=on_error, detail=detail, **options
            )
            return
        wanted = {path}
        try:
            for listing in listings.directories(path, self._walk(path, maxdepth, detail=True)):
                if listing.path not in wanted:
                    continue
                wanted.discard(listing.path)
                if listing.error is not None:
                    _tell(listing.error, on_error)
                    continue
                dirs = _of_type(listing.entries, directory=True)
                files = _of_type(listing.entries, directory=False)
                shown = (dirs, files) if detail else (list(dirs), list(files))
                yield listing.path, *shown
                wanted.update(listings.below(listing.path, name) for name in shown[0])
        except ConnectionFailed:
            raise
        except OSError as error:
            _tell(error, on_error)

    def iter_find(
        self, path: str, maxdepth: int | None = None, withdirs: bool = False
    ) -> Iterator[str]:
        """The paths of all files below a directory, in no order, each as soon as it is known.

        Raises:
            OSError: The directory is not there, or cannot be read.
        """
        path = self._strip_protocol(path)
        pieces = self._walk(path, maxdepth, detail=False)
        return listings.paths(path, pieces, directories_too=withdirs)

    def find(
        self,
        path: str,
        maxdepth: int | None = None,
        withdirs: bool = False,
        detail: bool = False,
        **_: Any,
    ) -> Any:
        """Return the paths of all files below a directory, sorted; with what is known of each.

        A path that is not there gives none, as fsspec has it everywhere.
        """
        if maxdepth is not None and maxdepth < 1:
            raise ValueError("maxdepth must be at least 1")
        path = self._strip_protocol(path)
        try:
            if detail:
                found = self._find_with_facts(path, maxdepth, withdirs)
            else:
                found = dict.fromkeys(self.iter_find(path, maxdepth, withdirs))
                if withdirs:
                    found[path] = None
        except NotADirectoryError:
            found = {path: self.info(path)} if self.isfile(path) else {}
        except ConnectionFailed:
            raise
        except OSError:
            found = {path: self.info(path)} if withdirs and self.isdir(path) else {}
        return {name: found[name] for name in sorted(found)} if detail else sorted(found)

    def _find_with_facts(self, path: str, maxdepth: int | None, withdirs: bool) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for listing in listings.directories(path, self._walk(path, maxdepth, detail=True)):
            for info in listing.entries.values():
                if withdirs or info["type"] != "directory":
                    found[info["name"]] = info
        if withdirs:
            found[path] = self.info(path)
        return found

    def du(
        self,
        path: str,
        total: bool = True,
        maxdepth: int | None = None,
        withdirs: bool = False,
        **_: Any,
    ) -> Any:
        """Return the sizes of the files below a path, together or each."""
        found = self.find(path, maxdepth, withdirs, detail=True)
        sizes = {name: info["size"] for name, info in found.items()}
        return sum(sizes.values()) if total else sizes

    def space(self, path: str = "/") -> dict[str, int]:
        """Return the size of the file system that a path is on, and what is left of it, in bytes.

        Returns:
            `total`, `free`, `available` (to this account), `files` and `files_available`.
        """
        path = self._strip_protocol(path)
        return dict(self._ask(protocol.fs_space(path=urls.far_path(path)), path))  # type: ignore[arg-type]

    def created(self, path: str) -> datetime:
        """Return when a file's description last changed, which is as near as Linux comes."""
        return datetime.fromtimestamp(self.info(path)["created"], tz=timezone.utc)

    def modified(self, path: str) -> datetime:
        """Return when a file was last written to."""
        return datetime.fromtimestamp(self.info(path)["mtime"], tz=timezone.utc)

    # --- contents -------------------------------------------------------------------------------

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        **options: Any,
    ) -> ClusterFile:
        return ClusterFile(
            self,
            path,
            mode,
            block_size=block_size or "default",
            autocommit=autocommit,
            cache_options=cache_options,
            **options,
        )

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        """Return the bytes of a file, or some of them; places may be counted from its end."""
        path = self._strip_protocol(path)
        return b"".join(read_all(self._files, path, start, end))

    def pipe_file(self, path: str, value: Any, mode: str = "overwrite", **_: Any) -> None:
        """Write a file."""
        view = memoryview(value).cast("B")
        self._write(self._strip_protocol(path), view, mode, parents=self.auto_mkdir)

    def _write(
        self,
        path: str,
        source: Any,
        mode: str = "overwrite",
        *,
        parents: bool,
        callback: Callback = DEFAULT_CALLBACK,
    ) -> None:
        how = "exclusive" if mode == "create" else "replace"
        write_all(self._files, path, source, how=how, parents=parents, callback=callback)

    def get_file(
        self,
        rpath: str,
        lpath: Any,
        callback: Callback = DEFAULT_CALLBACK,
        outfile: Any = None,
        roots: Set[str] | None = None,
        **_: Any,
    ) -> None:
        """Bring a file to this machine; of a directory, make one.

        What is there under this name stays until the whole file has come.

        Raises:
            SameFileError: It is the same file.
        """
        rpath = self._strip_protocol(rpath)
        if outfile is None and isfilelike(lpath):
            outfile = lpath
        target = None if outfile is not None else Path(stringify_path(lpath))

        def check(identity: list[int]) -> None:
            if target is not None and target.exists() and identity_of(target.stat()) == identity:
                raise shutil.SameFileError(f"{rpath!r} and {str(target)!r} are the same file")

        pieces = read_all(self._files, rpath, None, None, callback=callback, check=check)
        try:
            first = next(pieces, b"")
        except IsADirectoryError:
            if roots is not None and rpath not in roots and self.islink(rpath):
                raise _linked_directory(rpath) from None
            os.makedirs(lpath, exist_ok=True)
            return
        if target is None:
            _write_pieces(outfile, first, pieces)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as file:
            _write_pieces(file, first, pieces)

    def get(
        self,
        rpath: Any,
        lpath: Any,
        recursive: bool = False,
        callback: Callback = DEFAULT_CALLBACK,
        maxdepth: int | None = None,
        **options: Any,
    ) -> None:
        """Bring files to this machine.

        Raises:
            IsADirectoryError: Below a directory there is a link to another one: it is neither
                followed, which might never end, nor left out without a word.
        """
        if recursive:
            options["roots"] = self._roots(rpath)
        super().get(rpath, lpath, recursive, callback, maxdepth, **options)

    def put(
        self,
        lpath: Any,
        rpath: Any,
        recursive: bool = False,
        callback: Callback = DEFAULT_CALLBACK,
        maxdepth: int | None = None,
        **options: Any,
    ) -> None:
        """Send files; links to directories are refused as by `get`."""
        if recursive:
            here = LocalFileSystem()
            roots: set[str] = set()
            for path in lpath if isinstance(lpath, list) else [lpath]:
                text = here._strip_protocol(path)
                roots.update(here.glob(text) if has_magic(text) else [text])
            options["roots"] = roots
        super().put(lpath, rpath, recursive, callback, maxdepth, **options)

    def copy(
        self,
        path1: Any,
        path2: Any,
        recursive: bool = False,
        maxdepth: int | None = None,
        on_error: str | None = None,
        **options: Any,
    ) -> None:
        """Copy files on the cluster; links to directories are refused as by `get`."""
        if recursive:
            options["roots"] = self._roots(path1)
        super().copy(path1, path2, recursive, maxdepth, on_error, **options)

    def _roots(self, paths: Any) -> set[str]:
        """Return the paths that somebody named, and not those that were found below them."""
        roots: set[str] = set()
        for path in map(self._strip_protocol, paths if isinstance(paths, list) else [paths]):
            roots.update(self.glob(path) if has_magic(path) else [path])
        return roots

    def put_file(
        self,
        lpath: Any,
        rpath: str,
        callback: Callback = DEFAULT_CALLBACK,
        mode: str = "overwrite",
        roots: Set[str] | None = None,
        **_: Any,
    ) -> None:
        """Send a file, making the directories above it; of a directory, make one.

        What is there under this name stays until the whole file has come.

        Raises:
            SameFileError: It is the same file.
        """
        source, rpath = Path(stringify_path(lpath)), self._strip_protocol(rpath)
        if source.is_dir():
            if roots is not None and str(source) not in roots and source.is_symlink():
                raise _linked_directory(str(source))
            self.makedirs(rpath, exist_ok=True)
            return
        with source.open("rb") as file:
            self._write(rpath, file, mode, parents=True, callback=callback)

    def cp_file(self, path1: str, path2: str, roots: Set[str] | None = None, **_: Any) -> None:
        """Copy a file on the cluster; of a directory, make one."""
        path1 = self._strip_protocol(path1)
        if roots is not None and path1 not in roots and self.islink(path1) and self.isdir(path1):
            raise _linked_directory(path1)
        self._from_to(protocol.fs_copy, path1, path2)

    def mv(self, path1: str, path2: str, recursive: bool = True, **_: Any) -> None:
        """Move a file or directory on the cluster, into `path2` if that is a directory."""
        self._from_to(protocol.fs_move, path1, path2)

    def _from_to(
        self, operation: Callable[..., Request[FileAnswer]], path1: str, path2: str
    ) -> None:
        path1 = self._strip_protocol(path1)
        request = operation(
            path=urls.far_path(path1),
            to=urls.far_path(self._strip_protocol(path2)),
            parents=self.auto_mkdir,
        )
        self._ask(request, path1)

    def touch(self, path: str, truncate: bool = True, **_: Any) -> None:
        """Make an empty file, or say that one was written to just now."""
        path = self._strip_protocol(path)
        self._ask(
            protocol.fs_touch(path=urls.far_path(path), truncate=truncate, parents=self.auto_mkdir),
            path,
        )

    # --- the tree -------------------------------------------------------------------------------

    def mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:
        """Make a directory.

        Raises:
            FileExistsError: It is there.
        """
        self._ask(
            protocol.fs_mkdir(
                path=urls.far_path(self._strip_protocol(path)), parents=create_parents
            ),
            self._strip_protocol(path),
        )

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Make a directory and those above it."""
        self._ask(
            protocol.fs_mkdir(
                path=urls.far_path(self._strip_protocol(path)), parents=True, exist_ok=exist_ok
            ),
            self._strip_protocol(path),
        )

    def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        self._ask(
            protocol.fs_rmdir(path=urls.far_path(self._strip_protocol(path))),
            self._strip_protocol(path),
        )

    def rm_file(self, path: str) -> None:
        """Remove a file."""
        self._ask(
            protocol.fs_rm(path=urls.far_path(self._strip_protocol(path))),
            self._strip_protocol(path),
        )

    def _rm(self, path: str) -> None:
        self.rm_file(path)

    def rm(
        self, path: str | list[str], recursive: bool = False, maxdepth: int | None = None
    ) -> None:
        """Remove files, and with `recursive` directories with all that is in them.

        Paths are taken literally: `*` is a character.

        Raises:
            ValueError: A directory without `recursive`.
        """
        paths = [self._strip_protocol(each) for each in ([path] if isinstance(path, str) else path)]
        try:
            far = [urls.far_path(each) for each in paths]
            self._files.request(protocol.fs_remove(paths=far, recursive=recursive))
        except IsADirectoryError as error:
            raise ValueError(f"{error.filename} is a directory; set recursive=True") from error

    def link(self, src: str, dst: str, **_: Any) -> None:
        """Make a hard link at `dst`."""
        to = urls.far_path(self._strip_protocol(dst))
        self._ask(
            protocol.fs_link(path=urls.far_path(self._strip_protocol(src)), to=to),
            self._strip_protocol(src),
        )

    def symlink(self, src: str, dst: str, **_: Any) -> None:
        """Make a symbolic link at `dst` that says `src`, as it is written."""
        to = urls.far_path(self._strip_protocol(dst))
        self._files.request(protocol.fs_link(path=src, to=to, symbolic=True), shown=src)

    def chmod(self, path: str, mode: int) -> None:
        """Set the permissions of a file."""
        self._ask(
            protocol.fs_chmod(path=urls.far_path(self._strip_protocol(path)), mode=mode),
            self._strip_protocol(path),
        )


def _tell(error: OSError, on_error: str | Callable[[OSError], Any]) -> None:
    """What becomes of a directory that cannot be read."""
    if on_error == "raise":
        raise error
    if callable(on_error):
        on_error(error)


def _of_type(entries: dict[str, Info], *, directory: bool) -> dict[str, Info]:
    return {
        name: info for name, info in entries.items() if (info["type"] == "directory") is directory
    }


def _linked_directory(path: str) -> IsADirectoryError:
    """Return what is said of a link that a copy of a directory cannot hold."""
    return IsADirectoryError(
        errno.EISDIR, "it is a link to a directory; copy what it leads to by itself", path
    )


def _write_pieces(file: Any, first: bytes, rest: Iterator[bytes]) -> None:
    file.write(first)
    for piece in rest:
        file.write(piece)
