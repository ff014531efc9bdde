"""The agent's operations on files: one message asks, one answers; long listings are streamed.

Names travel as UTF-8, bytes that are not as lone surrogates, whatever the locale here is.
"""

import errno
import os
import shutil
import stat
import threading
import time
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from ..wire import file_queries as questions
from ..wire import protocol
from ..wire.files import write_all
from ..wire.frames import Message
from ..wire.protocol import Attached, answering, on, on_attached, on_numbered
from ..wire.walking import is_directory, resolve, to_name, to_text, walk
from . import quotas

# More than this is asked for piece by piece.
READ_LIMIT = 4 * 1024 * 1024
# Of a file that says that it has no more.
_UNSAID = 64 * 1024
# Parts of a listing that are sent before the client must have taken some.
AHEAD = 16
_PART_BYTES = 64 * 1024
_PART_SECONDS = 0.1


class FileOperations:
    """What the client may ask about files, and have done to them.

    Args:
        send: Sends an event with its body.
    """

    def __init__(self, send: Callable[[Message, bytes], None]) -> None:
        self._send = send
        self._home = os.path.expanduser(b"~")
        self._listings: Dict[int, threading.Semaphore] = {}
        self._stopped: Dict[int, bool] = {}
        self.acts = [
            on(protocol.fs_more, self._more),
            on(protocol.fs_stop, self._stop),
            *map(
                _failing,
                [
                    answering(protocol.fs_ask, self._ask),
                    on(protocol.fs_chmod, self._chmod),
                    on(protocol.fs_copy, self._copy),
                    on(protocol.fs_info, self._info),
                    on(protocol.fs_islink, self._islink),
                    on(protocol.fs_link, self._link),
                    answering(protocol.fs_ls, self._ls),
                    on(protocol.fs_mkdir, self._mkdir),
                    on(protocol.fs_move, self._move),
                    on(protocol.fs_quota, self._quota),
                    answering(protocol.fs_read, self._read),
                    on(protocol.fs_remove, self._remove),
                    on(protocol.fs_replace, self._replace),
                    on(protocol.fs_rm, self._rm),
                    on(protocol.fs_rmdir, self._rmdir),
                    on(protocol.fs_space, self._space),
                    on(protocol.fs_touch, self._touch),
                    on_numbered(protocol.fs_walk, self._walk),
                    on_attached(protocol.fs_write, self._write),
                ],
            ),
        ]

    def _far(self, path: str) -> bytes:
        return resolve(to_name(path), self._home)

    # --- looking ----------------------------------------------------------------------------

    def _ask(
        self, *, question: str, arguments: List[str], start: Optional[str] = None
    ) -> Tuple[protocol.QuestionAnswer, bytes]:
        names = [to_name(text) for text in arguments]
        begin = self._home if start is None else self._far(start)
        answer, skipped = questions.ask(question, names, begin)
        left_out = questions.incomplete(skipped, to_text)
        if question in ("ls", "find", "glob"):
            # Far quicker than JSON where there are many.
            return {"skipped": left_out, "names": len(answer)}, b"\0".join(answer)
        if question == "stat":
            answer[-1] = to_text(answer[-1])
        return {"skipped": left_out, "answer": answer}, b""

    def _info(self, *, path: str) -> protocol.Info:
        return _info(self._far(path))

    def _islink(self, *, path: str) -> protocol.IsLink:
        return {"islink": os.path.islink(self._far(path))}

    def _ls(self, *, path: str, detail: bool = False) -> Tuple[protocol.ListingAnswer, bytes]:
        directory = self._far(path)
        facts = _info(directory)
        if facts["type"] != "directory":
            return {"info": facts}, b""
        tokens: List[bytes] = []
        with os.scandir(directory) as entries:
            for entry in entries:
                _describe(entry, detail, tokens)
        return {}, b"\0".join(tokens)

    def _space(self, *, path: str) -> protocol.Space:
        facts = os.statvfs(self._far(path))
        return {
            "total": facts.f_blocks * facts.f_frsize,
            "free": facts.f_bfree * facts.f_frsize,
            "available": facts.f_bavail * facts.f_frsize,
            "files": facts.f_files,
            "files_available": facts.f_favail,
        }

    def _quota(self, *, path: str, seconds: float) -> protocol.QuotaAnswer:
        return quotas.ask(self._far(path), seconds)

    # --- long listings ------------------------------------------------------------------------

    def _walk(
        self, number: int, *, path: str, maxdepth: Optional[int] = None, detail: bool = False
    ) -> protocol.FileAnswer:
        """Send every directory as it is read, as far ahead of the client as it allows."""
        ahead = self._listings.setdefault(number, threading.Semaphore(AHEAD))
        try:
            for part in self._parts(self._far(path), maxdepth, detail):
                ahead.acquire()
                if number in self._stopped:
                    break
                self._send({"part_of": number}, part)
        finally:
            self._listings.pop(number, None)
            self._stopped.pop(number, None)
        return {}

    def _parts(self, path: bytes, maxdepth: Optional[int], detail: bool) -> Iterator[bytes]:
        tokens: List[bytes] = []
        size, sent = 0, time.monotonic()
        for inside, error, entries in walk(path, maxdepth):
            tokens.append(b"/" + inside)
            if error is not None:
                tokens.append(b"!%d" % (error.errno or 0))
            for entry in entries:
                size += _describe(entry, detail, tokens)
                if size > _PART_BYTES:
                    yield b"\0".join(tokens)
                    # The next part begins with the directory that it goes on with.
                    tokens, size, sent = [b"/" + inside], 0, time.monotonic()
            size += len(inside)
            # A part too large to go in one piece would be overtaken by the answer.
            if size > _PART_BYTES or time.monotonic() - sent > _PART_SECONDS:
                yield b"\0".join(tokens)
                tokens, size, sent = [], 0, time.monotonic()
        if tokens:
            yield b"\0".join(tokens)

    def _more(self, *, listing: int, parts: int) -> protocol.Nothing:
        ahead = self._listings.get(listing)
        if ahead is not None:
            for _ in range(min(parts, AHEAD)):
                ahead.release()
        return {}

    def _stop(self, *, listing: int) -> protocol.Nothing:
        ahead = self._listings.get(listing)
        if ahead is not None:
            self._stopped[listing] = True
            ahead.release()
        return {}

    # --- contents -----------------------------------------------------------------------------

    def _read(
        self, *, path: str, start: Optional[int] = None, end: Optional[int] = None
    ) -> Tuple[protocol.FilePiece, bytes]:
        """Read from `start` up to `end`, between which there may be more than comes at once."""
        # Not waiting for the other end, should it be a pipe.
        descriptor = os.open(self._far(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
                raise OSError(
                    errno.EINVAL, "it is a pipe, a socket or a device, not a file", self._far(path)
                )
            size = status.st_size
            begin, stop = _range(start, end, size)
            limit = READ_LIMIT if stop is None else min(READ_LIMIT, max(0, stop - begin))
            pieces: List[bytes] = []
            at = begin
            while at < begin + limit:
                # Beyond what a file says it has, as those of /proc: some are read into memory of
                # the kernel, which has not as much as that.
                most = limit if at < size else _UNSAID
                piece = os.pread(descriptor, min(most, begin + limit - at), at)
                if not piece:
                    break
                pieces.append(piece)
                at += len(piece)
        finally:
            os.close(descriptor)
        last = size if stop is None else min(size, stop)
        facts: protocol.FilePiece = {
            "size": size,
            "start": begin,
            "end": max(last, at),
            # Some files, such as those of /proc, have more in them than they say.
            "more": at == begin + READ_LIMIT and at >= size and (stop is None or at < stop),
            "identity": _identity(status),
        }
        return facts, b"".join(pieces)

    def _write(
        self,
        attached: Attached,
        *,
        path: str,
        how: Optional[str] = None,
        offset: int = 0,
        parents: bool = False,
        whole: bool = False,
        source: Optional[List[int]] = None,
    ) -> protocol.Written:
        file = self._far(path)
        if parents:
            os.makedirs(os.path.dirname(file), exist_ok=True)
        if how == "replace":
            return _replace_with(file, attached.body, offset, whole, source)
        return _write_to(file, how, attached.body, offset)

    def _touch(
        self, *, path: str, truncate: bool = False, parents: bool = False
    ) -> protocol.FileAnswer:
        file = self._far(path)
        if parents:
            os.makedirs(os.path.dirname(file), exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            os.utime(descriptor, None)
            if truncate:
                os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)
        return {}

    # --- the tree -----------------------------------------------------------------------------

    def _mkdir(
        self, *, path: str, parents: bool = False, exist_ok: bool = False
    ) -> protocol.FileAnswer:
        if parents:
            os.makedirs(self._far(path), exist_ok=exist_ok)
        else:
            os.mkdir(self._far(path))
        return {}

    def _rmdir(self, *, path: str) -> protocol.FileAnswer:
        os.rmdir(self._far(path))
        return {}

    def _rm(self, *, path: str) -> protocol.FileAnswer:
        os.unlink(self._far(path))
        return {}

    def _remove(self, *, paths: List[str], recursive: bool = False) -> protocol.FileAnswer:
        for path in map(self._far, paths):
            if os.path.isdir(path) and not os.path.islink(path):
                if not recursive:
                    raise IsADirectoryError(21, os.strerror(21), path)
                if os.path.realpath(path) in (b"/", os.path.realpath(self._home)):
                    raise PermissionError(1, "this is never removed as a whole", path)
                shutil.rmtree(path)
            else:
                os.unlink(path)
        return {}

    def _move(self, *, path: str, to: str, parents: bool = False) -> protocol.FileAnswer:
        target = self._far(to)
        if parents:
            os.makedirs(os.path.dirname(target), exist_ok=True)
        # As text, which is all that older Pythons take here.
        shutil.move(os.fsdecode(self._far(path)), os.fsdecode(target))
        return {}

    def _replace(self, *, path: str, to: str) -> protocol.FileAnswer:
        os.replace(self._far(path), self._far(to))
        return {}

    def _copy(self, *, path: str, to: str, parents: bool = False) -> protocol.FileAnswer:
        source, target = self._far(path), self._far(to)
        if parents:
            os.makedirs(os.path.dirname(target), exist_ok=True)
        if stat.S_ISDIR(os.stat(source).st_mode):
            os.makedirs(target, exist_ok=True)
        else:
            shutil.copyfile(os.fsdecode(source), os.fsdecode(target))
        return {}

    def _link(self, *, path: str, to: str, symbolic: bool = False) -> protocol.FileAnswer:
        if symbolic:
            # What a symbolic link says is not ours to resolve.
            os.symlink(to_name(path), self._far(to))
        else:
            os.link(self._far(path), self._far(to))
        return {}

    def _chmod(self, *, path: str, mode: int) -> protocol.FileAnswer:
        os.chmod(self._far(path), mode)
        return {}


_HOW = {
    None: 0,
    "truncate": os.O_CREAT | os.O_TRUNC,
    "exclusive": os.O_CREAT | os.O_EXCL,
    "append": os.O_CREAT | os.O_APPEND,
}


def _write_to(path: bytes, how: Optional[str], body: Any, offset: int = 0) -> protocol.Written:
    """Write into a file, from an offset on."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | _HOW[how], 0o666)
    try:
        if how != "append":
            os.lseek(descriptor, offset, os.SEEK_SET)
        if len(body):
            write_all(descriptor, body)
        size = os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)
    return {"size": size}


def _replace_with(
    path: bytes, body: Any, offset: int, whole: bool, source: Optional[List[int]]
) -> protocol.Written:
    """Write beside a file what will take its place, so that it is never half there.

    A file that is `whole` with this takes its place at once. For any other, the answer says what
    the `draft` is, to which the rest is written, and the `target` that it replaces at the end. What
    cannot be replaced without becoming something else, such as a device, is written into.

    Raises:
        SameFileError: The file is the one whose content is being sent.
    """
    target = os.path.realpath(path)
    before: Optional[os.stat_result] = None
    try:
        before = os.stat(target)
    except FileNotFoundError:
        pass
    if before is not None:
        if source == _identity(before):
            raise shutil.SameFileError("{} is the file that is sent".format(to_text(path)))
        if stat.S_ISDIR(before.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        mine = os.geteuid() in (before.st_uid, 0)
        beside = os.access(os.path.dirname(target), os.W_OK | os.X_OK)
        if not stat.S_ISREG(before.st_mode) or not mine or not beside:
            return _write_to(target, "truncate", body, offset)
    draft = os.path.join(os.path.dirname(target), b"." + os.urandom(8).hex().encode() + b".part")
    try:
        size = _write_to(draft, "exclusive", body, offset)["size"]
        if before is not None:
            _own_as(before, draft)
            os.chmod(draft, stat.S_IMODE(before.st_mode))
        if whole:
            os.replace(draft, target)
            return {"size": size}
    except BaseException:
        _unlink(draft)
        raise
    return {"size": size, "draft": to_text(draft), "target": to_text(target)}


def _own_as(before: os.stat_result, path: bytes) -> None:
    """Give a file to the owner and group of another one, as far as that is allowed."""
    for uid, gid in ((before.st_uid, -1), (-1, before.st_gid)):
        try:
            os.chown(path, uid, gid)
        except PermissionError:
            pass  # a group that this account is not in


def _unlink(path: bytes) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass


def _identity(status: os.stat_result) -> List[int]:
    """What tells a file from every other, also for who sees it over another mount or host."""
    return [status.st_ino, status.st_ctime_ns, status.st_size]


def _range(start: Optional[int], end: Optional[int], size: int) -> Tuple[int, Optional[int]]:
    """Return where to read, given places that may be counted from the end."""
    start = 0 if start is None else start
    if start < 0:
        start = max(0, size + start)
    if end is not None and end < 0:
        end = max(0, size + end)
    if end is not None and end < start:
        raise ValueError("the range ends before it begins")
    return start, end


def _failing(handler: "Tuple[str, protocol.Act]") -> "Tuple[str, protocol.Act]":
    """Have an operation answer with what went wrong, so that the client can raise the very same."""
    name, act = handler

    def answer(message: Message, body: Any) -> Any:
        try:
            return act(message, body)
        except (OSError, ValueError) as error:
            return {"failed": _failure(error)}

    return name, answer


def _failure(error: Exception) -> protocol.Failed:
    facts: protocol.Failed = {"type": type(error).__name__, "text": str(error)}
    if isinstance(error, OSError) and error.errno is not None:
        facts["errno"], facts["strerror"] = error.errno, error.strerror or ""
        if error.filename is not None:
            facts["filename"] = _name(error.filename)
        if error.filename2 is not None:
            facts["filename2"] = _name(error.filename2)
    return facts


def _name(name: Any) -> str:
    return to_text(name if isinstance(name, bytes) else os.fsencode(str(name)))


def _describe(entry: Any, detail: bool, tokens: List[bytes]) -> int:
    """Return an entry of a directory: a letter, facts if wanted, a slash and the name.

    A link's facts are followed by another piece, `>` and where it leads.

    Returns:
        About how many bytes that takes.
    """
    try:
        is_link = entry.is_symlink()
        if is_link:
            kind = b"l"
        elif is_directory(entry):
            kind = b"d"
        else:
            kind = b"f" if entry.is_file(follow_symlinks=False) else b"o"
        if not detail:
            tokens.append(kind + b"/" + entry.name)
            return len(entry.name) + 3
        facts = entry.stat(follow_symlinks=False)
        size, leads = facts.st_size, b""
        if is_link:
            leads = os.readlink(entry.path)
            try:
                size = entry.stat().st_size
            except OSError:
                size = 0
    except FileNotFoundError:
        return 0  # it vanished
    text = "%d %d %d %d %r %r %d %d" % (
        size,
        facts.st_mode,
        facts.st_uid,
        facts.st_gid,
        facts.st_mtime,
        facts.st_ctime,
        facts.st_ino,
        facts.st_nlink,
    )
    tokens.append(kind + text.encode("ascii") + b"/" + entry.name)
    if is_link:
        tokens.append(b">" + leads)
    return len(text) + len(entry.name) + len(leads) + 3


def _info(path: bytes) -> protocol.Info:
    """Return what is known of a path; of a link, what is known of where it leads."""
    facts = os.lstat(path)
    is_link = stat.S_ISLNK(facts.st_mode)
    if is_link:
        facts = os.stat(path)
    kind = "other"
    if stat.S_ISDIR(facts.st_mode):
        kind = "directory"
    elif stat.S_ISREG(facts.st_mode):
        kind = "file"
    found: protocol.Info = {
        "size": facts.st_size,
        "type": kind,
        "created": facts.st_ctime,
        "islink": is_link,
        "mode": facts.st_mode,
        "uid": facts.st_uid,
        "gid": facts.st_gid,
        "mtime": facts.st_mtime,
        "ino": facts.st_ino,
        "nlink": facts.st_nlink,
    }
    if is_link:
        found["destination"] = to_text(os.readlink(path))
    return found
