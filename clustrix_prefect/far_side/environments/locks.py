"""A lock that processes on several hosts respect, and that nobody's death leaves locked.

It is a directory on the shared file system: renaming one with content into place succeeds for
one process only. Its holder touches it every few seconds; one that was not touched for a
while, or whose holder is known to be dead, is removed by whoever wants it next. A lock only
saves double work here: what it guards must be right even if two believe they hold it.
"""

import json
import os
import shutil
import threading
import uuid
from typing import Any, Dict, Optional

from ..wire.files import make_dir, remove, write_private
from ..wire.processes import HOST, process_start

BEAT_SECONDS = 5.0
# Above what NFS may take to show us another host's touch.
STALE_SECONDS = 75.0


class Lock:
    """A lock at this path."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._owner_file = os.path.join(path, "owner.json")
        self._beat_file = os.path.join(path, "beat")

    def acquire(self, token: str, pid: Optional[int] = None) -> bool:
        """Take the lock unless somebody alive has it.

        Args:
            token: Names the new holder, whoever acts for it.
            pid: Its process on this host, if it has one already.
        """
        self.break_if_stale()
        draft = "{}.{}.draft".format(self._path, uuid.uuid4().hex)
        make_dir(draft)
        write_private(os.path.join(draft, "owner.json"), _owner(token, pid))
        write_private(os.path.join(draft, "beat"), b"")
        try:
            os.rename(draft, self._path)
        except OSError:
            shutil.rmtree(draft, ignore_errors=True)
            return False
        return True

    def take_over(self, token: str) -> bool:
        """Become the process that acts for this token, unless the lock went to another."""
        owner = self.owner()
        if owner is None:
            return self.acquire(token, os.getpid())
        if owner["token"] != token:
            return False
        draft = self._owner_file + ".draft"
        try:
            write_private(draft, _owner(token, os.getpid()))
            os.rename(draft, self._owner_file)
        except OSError:
            return False
        self.beat()
        return True

    def beat(self) -> None:
        """Say that the holder is alive."""
        try:
            with open(self._beat_file, "wb"):
                os.utime(self._beat_file, None)
        except OSError:
            pass  # it is not there any more

    def owner(self) -> Optional[Dict[str, Any]]:
        """`token`, `host` and `pid` of the holder; None if nobody holds it."""
        try:
            with open(self._owner_file, "rb") as file:
                owner: Dict[str, Any] = json.loads(file.read().decode("ascii"))
                return owner
        except (OSError, ValueError):
            return None

    def release(self, token: str) -> None:
        """Give the lock up, if this token still has it."""
        owner = self.owner()
        if owner is not None and owner["token"] == token:
            self._remove(token)

    def break_if_stale(self) -> None:
        """Remove the lock if its holder is dead."""
        owner = self.owner()
        if owner is not None and self._is_stale(owner):
            self._remove(owner["token"])

    def _is_stale(self, owner: Dict[str, Any]) -> bool:
        if owner["pid"] and owner["host"] == HOST:
            return not _is_alive(owner["pid"], owner["started"])
        try:
            # Opening the file makes NFS ask its server; both times are that server's.
            with open(self._beat_file, "rb") as file:
                last = os.fstat(file.fileno()).st_mtime
            return _now_there(os.path.dirname(self._path)) - last > STALE_SECONDS
        except OSError:
            return False

    def _remove(self, token: str) -> None:
        aside = "{}.{}.old".format(self._path, uuid.uuid4().hex)
        try:
            os.rename(self._path, aside)
        except OSError:
            return  # somebody else was faster
        taken = Lock(aside).owner()
        if taken is not None and taken["token"] != token:
            # It changed hands in between: back with it, if its place is still free.
            try:
                os.rename(aside, self._path)
                return
            except OSError:
                pass
        shutil.rmtree(aside, ignore_errors=True)


class Heartbeat:
    """Touches a lock while a block of code runs."""

    def __init__(self, lock: Lock) -> None:
        self._lock = lock
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="clustrix-beat", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            self._lock.beat()


def _owner(token: str, pid: Optional[int]) -> bytes:
    started = process_start(pid) if pid else None
    owner = {"token": token, "host": HOST, "pid": pid, "started": started}
    return json.dumps(owner).encode("ascii")


def _is_alive(pid: int, started: Optional[int]) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return started is None or process_start(pid) == started


def _now_there(directory: str) -> float:
    """Return the time by the clock of whoever serves this directory."""
    probe = os.path.join(directory, ".clock.{}".format(uuid.uuid4().hex))
    write_private(probe, b"")
    try:
        return os.stat(probe).st_mtime
    finally:
        remove(probe)
