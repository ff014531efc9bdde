"""A file of a cluster that is open."""

from __future__ import annotations

import io
import secrets
from typing import Any

from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from clustrix_prefect.far_side.wire import protocol
from clustrix_prefect.filesystem import urls

_HOW = {"wb": "truncate", "xb": "exclusive", "ab": "append"}


class ClusterFile(AbstractBufferedFile):  # type: ignore[misc]
    """A file that is read in blocks, or written in them.

    As on a local disk, it is made when it is opened, and a path that cannot be written to is
    refused then. Within a transaction it is written beside its place, and moved there at the end.
    """

    fs: AbstractFileSystem
    buffer: io.BytesIO
    forced: bool

    def __init__(self, fs: AbstractFileSystem, path: str, mode: str = "rb", **options: Any) -> None:
        # Files of /proc say that they are empty: what is in them is known once it was read.
        self._content: bytes | None = None
        if mode == "rb" and options.get("size") is None:
            options["size"] = fs.info(path)["size"]
            if not options["size"]:
                self._content = fs.cat_file(path)
                options["size"] = len(self._content)
        super().__init__(fs, path, mode, **options)
        self._target = path
        if mode == "rb":
            return
        if not self.autocommit:
            self._target = f"{path.rpartition('/')[0]}/.{secrets.token_hex(8)}.part"
        try:
            size = self._send(b"", _HOW[mode], parents=fs.auto_mkdir)
        except BaseException:
            self.closed = True  # there is nothing to be finished
            raise
        self._at = self.loc = size if mode == "ab" else 0

    def _send(self, data: bytes, how: str | None, **fields: Any) -> int:
        answer, _ = self.fs._files.request(
            protocol.fs_write(path=urls.far_path(self._target), how=how, **fields),
            data,
            shown=self.path,
        )
        return int(answer["size"])

    def _fetch_range(self, start: int, end: int) -> bytes:
        if self._content is not None:
            return self._content[start:end]
        content: bytes = self.fs.cat_file(self.path, start, end)
        return content

    def flush(self, force: bool = False) -> None:
        """Have the far side write what was written here so far."""
        if self.closed:
            raise ValueError("Flush on closed file")
        if self.mode == "rb":
            return
        self.forced = self.forced or force
        data = self.buffer.getvalue()
        if data:
            how = "append" if self.mode == "ab" else None
            self._send(data, how, offset=self._at)
            self._at += len(data)
            self.buffer = io.BytesIO()

    def commit(self) -> None:
        """Move it to its place."""
        if self._target != self.path:
            self.fs._ask(
                protocol.fs_replace(path=urls.far_path(self._target), to=urls.far_path(self.path)),
                self._target,
            )

    def discard(self) -> None:
        """Remove what was written."""
        if self._target != self.path:
            self.fs.rm_file(self._target)
