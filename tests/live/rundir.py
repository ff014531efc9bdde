"""The directory of one test run, and the removal of all that belongs to it.

`python tests/live/rundir.py DIRECTORY` waits until the process that started it is gone, however it
went, and then removes what that left behind. Uses only the standard library.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_PREFIX = "clustrix-live-"
# Every process that a test run starts, and what those start, has this variable: its directory.
MARK = "CLUSTRIX_TEST_RUN"
_LOOK_SECONDS = 0.5


class RunDirectory:
    """A directory that belongs to one running process.

    The owner holds a lock on it, so that any later run can tell a directory in use from one
    whose owner died. Everything that outlives its owner is found again through it: mounts lie
    inside it, and accounts, and files elsewhere, are listed in it before they are made.
    """

    def __init__(self) -> None:
        for leftover in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
            _remove_if_abandoned(leftover)
        fresh = Path(tempfile.mkdtemp(prefix="new-"))
        fresh.chmod(0o755)  # the test account and the cluster's daemons pass through it
        self._lock = (fresh / "lock").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        # Only now does it get a name that another run would look at.
        self.path = fresh.rename(fresh.with_name(fresh.name.replace("new-", _PREFIX)))
        without_mark = {name: value for name, value in os.environ.items() if name != MARK}
        self._watcher = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(self.path)],
            stdin=subprocess.DEVNULL,
            env=without_mark,
            start_new_session=True,
        )
        os.environ[MARK] = str(self.path)

    def child(self, name: str) -> Path:
        """A subdirectory, made when first asked for."""
        path = self.path / name
        path.mkdir(exist_ok=True)
        return path

    def will_make_account(self, username: str) -> None:
        """Note an account, so that it is removed even if this run is killed."""
        with (self.path / "accounts").open("a") as accounts:
            accounts.write(f"{username}\n")

    def will_make_file(self, path: Path) -> None:
        """Note a file outside of this directory, so that it is removed likewise."""
        with (self.path / "files").open("a") as files:
            files.write(f"{path}\n")

    def remove(self) -> None:
        """End what still runs, and remove accounts, mounts and files."""
        self._watcher.kill()
        self._watcher.wait()
        _remove(self.path)
        self._lock.close()


def _remove_if_abandoned(path: Path) -> None:
    try:
        lock = (path / "lock").open("r+")
    except OSError:  # being made or removed by another run, or not ours to touch
        return
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return
        _remove(path)


def _remove(path: Path) -> None:
    _end_processes_marked(path)
    accounts = path / "accounts"
    for username in accounts.read_text().split() if accounts.exists() else []:
        remove_account(username)
    files = path / "files"
    for name in files.read_text().splitlines() if files.exists() else []:
        Path(name).unlink(missing_ok=True)
    _unmount_below(path)
    shutil.rmtree(path, ignore_errors=True)


def _end_processes_marked(path: Path) -> None:
    """Send SIGKILL to what this run started, until nothing is left of it."""
    mark = f"{MARK}={path}\0".encode()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                # A process sees the environment that it was started with: this one has no mark.
                if mark in (entry / "environ").read_bytes() and state_of(int(entry.name)) != "Z":
                    found.append(int(entry.name))
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not found:
            return
        time.sleep(0.05)


def _unmount_below(path: Path) -> None:
    mounts = Path("/proc/self/mounts")
    if not mounts.exists():
        return
    points = [line.split()[1] for line in mounts.read_text().splitlines()]
    for point in sorted((p for p in points if p.startswith(f"{path}/")), reverse=True):
        subprocess.run(["umount", "--lazy", point], check=True)


def remove_account(username: str) -> None:
    """Remove an account with its home, after ending its processes one by one."""
    with contextlib.suppress(KeyError):
        uid = pwd.getpwnam(username).pw_uid
        end_processes_of(uid)
        subprocess.run(["userdel", "--remove", "--force", username], capture_output=True)


def end_processes_of(uid: int, patience: float = 30.0) -> None:
    """Send SIGKILL to every process of a user until none is left."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        pids = processes_of(uid)
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def processes_of(uid: int) -> list[int]:
    """The ids of a user's processes, without those that only wait to be reaped."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if entry.stat().st_uid == uid and state_of(int(entry.name)) != "Z":
                    found.append(int(entry.name))
    return found


def state_of(pid: int) -> str:
    """One letter of proc(5): R, S, T, Z and so on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def parent_of(pid: int) -> int:
    """A process's parent."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _watch(path: Path) -> None:
    """Wait for the end of the process that started this one, and clean up after it."""
    owner = os.getppid()
    while os.getppid() == owner:
        time.sleep(_LOOK_SECONDS)
    if path.exists():
        _remove(path)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _watch(Path(sys.argv[1]))
