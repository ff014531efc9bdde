"""The agent's operations on files: one message asks, one answers; long listings are streamed.

Names travel as UTF-8, bytes that are not as lone surrogates, whatever the locale here is.
"""

import errno
import os
import shutil
import stat
import threading
import time
from typing import Any, Callable, Dict, List, Optional, Tuple

from ..wire import file_queries as questions
from ..wire.files import write_all
from ..wire.frames import Message
from ..wire.walking import is_directory, resolve, to_name, to_text, walk
from . import quotas

Act = Callable[[Message, Any], Any]
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
        self.in_order: Dict[str, Act] = {"fs_more": self._more, "fs_stop": self._stop}
        actions: Dict[str, Act] = {
            "fs_ask": self._ask,
            "fs_chmod": self._chmod,
            "fs_copy": self._copy,
            "fs_info": self._info,
            "fs_islink": self._islink,
            "fs_link": self._link,
            "fs_ls": self._ls,
            "fs_mkdir": self._mkdir,
            "fs_move": self._move,
            "fs_quota": self._quota,
            "fs_read": self._read,
            "fs_remove": self._remove,
            "fs_replace": self._replace,
            "fs_rm": self._rm,
            "fs_rmdir": self._rmdir,
            "fs_space": self._space,
            "fs_touch": self._touch,
            "fs_walk": self._walk,
            "fs_write": self._write,
        }
        self.aside: Dict[str, Act] = {name: _answering(act) for name, act in actions.items()}

    def _path(self, message: Message, key: str = "path") -> bytes:
        return resolve(to_name(message[key]), self._home)

    # --- looking ----------------------------------------------------------------------------

    def _ask(self, message: Message, body: Any) -> Any:
        arguments = [to_name(text) for text in message["arguments"]]
        start = message.get("start")
        begin = self._home if start is None else resolve(to_name(start), self._home)
        answer, skipped = questions.ask(message["question"], arguments, begin)
        facts: Message = {"skipped": questions.incomplete(skipped, to_text)}
        if message["question"] in ("ls", "find", "glob"):
            # Far quicker than JSON where there are many.
            return dict(facts, names=len(answer)), b"\0".join(answer)
        if message["question"] == "stat":
            answer[-1] = to_text(answer[-1])
        return dict(facts, answer=answer)

    def _info(self, message: Message, body: Any) -> Message:
        return _info(self._path(message))

    def _islink(self, message: Message, body: Any) -> Message:
        return {"islink": os.path.islink(self._path(message))}

    def _ls(self, message: Message, body: Any) -> Tuple[Message, bytes]:
        path = self._path(message)
        facts = _info(path)
        if facts["type"] != "directory":
            return {"info": facts}, b""
        tokens: List[bytes] = []
        with os.scandir(path) as entries:
            for entry in entries:
                _describe(entry, bool(message.get("detail")), tokens)
        return {}, b"\0".join(tokens)

    def _space(self, message: Message, body: Any) -> Message:
        facts = os.statvfs(self._path(message))
        return {
            "total": facts.f_blocks * facts.f_frsize,
            "free": facts.f_bfree * facts.f_frsize,
            "available": facts.f_bavail * facts.f_frsize,
            "files": facts.f_files,
            "files_available": facts.f_favail,
        }

    def _quota(self, message: Message, body: Any) -> Message:
        return quotas.ask(self._path(message), float(message["seconds"]))

    # --- long listings ------------------------------------------------------------------------

    def _walk(self, message: Message, body: Any) -> None:
        """Send every directory as it is read, as far ahead of the client as it allows."""
        number = message["id"]
        ahead = self._listings.setdefault(number, threading.Semaphore(AHEAD))
        try:
            for part in self._parts(message):
                ahead.acquire()
                if number in self._stopped:
                    break
                self._send({"part_of": number}, part)
        finally:
            self._listings.pop(number, None)
            self._stopped.pop(number, None)

    def _parts(self, message: Message) -> Any:
        detail = bool(message.get("detail"))
        tokens: List[bytes] = []
        size, sent = 0, time.monotonic()
        for inside, error, entries in walk(self._path(message), message.get("maxdepth")):
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

    def _more(self, message: Message, body: Any) -> None:
        ahead = self._listings.get(message["listing"])
        if ahead is not None:
            for _ in range(min(int(message["parts"]), AHEAD)):
                ahead.release()

    def _stop(self, message: Message, body: Any) -> None:
        number = message["listing"]
        ahead = self._listings.get(number)
        if ahead is not None:
            self._stopped[number] = True
            ahead.release()

    # --- contents -----------------------------------------------------------------------------

    def _read(self, message: Message, body: Any) -> Tuple[Message, bytes]:
        """Bytes from `start` up to `end`, of which there may be more than come at once."""
        # Not waiting for the other end, should it be a pipe.
        path = self._path(message)
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
                raise OSError(errno.EINVAL, "it is a pipe, a socket or a device, not a file", path)
            size = status.st_size
            start, end = _range(message.get("start"), message.get("end"), size)
            limit = READ_LIMIT if end is None else min(READ_LIMIT, max(0, end - start))
            pieces: List[bytes] = []
            at = start
            while at < start + limit:
                # Beyond what a file says it has, as those of /proc: some are read into memory of
                # the kernel, which has not as much as that.
                most = limit if at < size else _UNSAID
                piece = os.pread(descriptor, min(most, start + limit - at), at)
                if not piece:
                    break
                pieces.append(piece)
                at += len(piece)
        finally:
            os.close(descriptor)
        last = size if end is None else min(size, end)
        facts = {
            "size": size,
            "from": start,
            "to": max(last, at),
            # Some files, such as those of /proc, have more in them than they say.
            "more": at == start + READ_LIMIT and at >= size and (end is None or at < end),
            "is": _identity(status),
        }
        return facts, b"".join(pieces)

    def _write(self, message: Message, body: Any) -> Message:
        path, how = self._path(message), message.get("how")
        if message.get("parents"):
            os.makedirs(os.path.dirname(path), exist_ok=True)
        if how == "replace":
            return _replace_with(path, message, body)
        return _write_to(path, how, message, body)

    def _touch(self, message: Message, body: Any) -> None:
        path = self._path(message)
        if message.get("parents"):
            os.makedirs(os.path.dirname(path), exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            os.utime(descriptor, None)
            if message.get("truncate"):
                os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)

    # --- the tree -----------------------------------------------------------------------------

    def _mkdir(self, message: Message, body: Any) -> None:
        path = self._path(message)
        if message.get("parents"):
            os.makedirs(path, exist_ok=bool(message.get("exist_ok")))
        else:
            os.mkdir(path)

    def _rmdir(self, message: Message, body: Any) -> None:
        os.rmdir(self._path(message))

    def _rm(self, message: Message, body: Any) -> None:
        os.unlink(self._path(message))

    def _remove(self, message: Message, body: Any) -> None:
        for text in message["paths"]:
            path = resolve(to_name(text), self._home)
            if os.path.isdir(path) and not os.path.islink(path):
                if not message.get("recursive"):
                    raise IsADirectoryError(21, os.strerror(21), path)
                if os.path.realpath(path) in (b"/", os.path.realpath(self._home)):
                    raise PermissionError(1, "this is never removed as a whole", path)
                shutil.rmtree(path)
            else:
                os.unlink(path)

    def _move(self, message: Message, body: Any) -> None:
        target = self._path(message, "to")
        if message.get("parents"):
            os.makedirs(os.path.dirname(target), exist_ok=True)
        # As text, which is all that older Pythons take here.
        shutil.move(os.fsdecode(self._path(message)), os.fsdecode(target))

    def _replace(self, message: Message, body: Any) -> None:
        os.replace(self._path(message), self._path(message, "to"))

    def _copy(self, message: Message, body: Any) -> None:
        source, target = self._path(message), self._path(message, "to")
        if message.get("parents"):
            os.makedirs(os.path.dirname(target), exist_ok=True)
        if stat.S_ISDIR(os.stat(source).st_mode):
            os.makedirs(target, exist_ok=True)
        else:
            shutil.copyfile(os.fsdecode(source), os.fsdecode(target))

    def _link(self, message: Message, body: Any) -> None:
        target = self._path(message, "to")
        if message.get("symbolic"):
            # What a symbolic link says is not ours to resolve.
            os.symlink(to_name(message["path"]), target)
        else:
            os.link(self._path(message), target)

    def _chmod(self, message: Message, body: Any) -> None:
        os.chmod(self._path(message), int(message["mode"]))


_HOW = {
    None: 0,
    "truncate": os.O_CREAT | os.O_TRUNC,
    "exclusive": os.O_CREAT | os.O_EXCL,
    "append": os.O_CREAT | os.O_APPEND,
}


def _write_to(path: bytes, how: Optional[str], message: Message, body: Any) -> Message:
    """Write into a file, where the message says."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | _HOW[how], 0o666)
    try:
        if how != "append":
            os.lseek(descriptor, int(message.get("offset", 0)), os.SEEK_SET)
        if len(body):
            write_all(descriptor, body)
        size = os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)
    return {"size": size}


def _replace_with(path: bytes, message: Message, body: Any) -> Message:
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
        if message.get("source") == _identity(before):
            raise shutil.SameFileError("{} is the file that is sent".format(to_text(path)))
        if stat.S_ISDIR(before.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        mine = os.geteuid() in (before.st_uid, 0)
        beside = os.access(os.path.dirname(target), os.W_OK | os.X_OK)
        if not stat.S_ISREG(before.st_mode) or not mine or not beside:
            return _write_to(target, "truncate", message, body)
    draft = os.path.join(os.path.dirname(target), b"." + os.urandom(8).hex().encode() + b".part")
    try:
        size = _write_to(draft, "exclusive", message, body)["size"]
        if before is not None:
            _own_as(before, draft)
            os.chmod(draft, stat.S_IMODE(before.st_mode))
        if message.get("whole"):
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
    """Where to read, given places that may be counted from the end."""
    start = 0 if start is None else start
    if start < 0:
        start = max(0, size + start)
    if end is not None and end < 0:
        end = max(0, size + end)
    if end is not None and end < start:
        raise ValueError("the range ends before it begins")
    return start, end


def _answering(act: Act) -> Act:
    """Answer with what went wrong, so that the client can raise the very same."""

    def answer(message: Message, body: Any) -> Any:
        try:
            return act(message, body)
        except (OSError, ValueError) as error:
            return {"failed": _failure(error)}

    return answer


def _failure(error: Exception) -> Message:
    facts: Message = {"type": type(error).__name__, "text": str(error)}
    if isinstance(error, OSError) and error.errno is not None:
        facts.update(errno=error.errno, strerror=error.strerror)
        for key in ("filename", "filename2"):
            name = getattr(error, key)
            if name is not None:
                facts[key] = to_text(name if isinstance(name, bytes) else os.fsencode(str(name)))
    return facts


def _describe(entry: Any, detail: bool, tokens: List[bytes]) -> int:
    """An entry of a directory: a letter, facts if wanted, a slash and the name.

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


def _info(path: bytes) -> Message:
    """What is known of a path; of a link, what is known of where it leads."""
    facts = os.lstat(path)
    is_link = stat.S_ISLNK(facts.st_mode)
    if is_link:
        facts = os.stat(path)
    kind = "other"
    if stat.S_ISDIR(facts.st_mode):
        kind = "directory"
    elif stat.S_ISREG(facts.st_mode):
        kind = "file"
    found: Message = {
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
