"""The directory on the cluster that everything of ours lies in; `wire/layout.py` says what.

What lies here is run as this account: no part of it, nor of the way to it, may be anybody else's.
"""

import os
import pwd
import re
import shutil
import stat
from typing import Any, Dict, List, Optional, Union

from ..environments.environments import Environment
from ..jobs.job_batch import JobBatch
from ..jobs.worker_batch import DIRECT, WorkerBatch
from ..store.store import Store
from ..wire import layout
from ..wire.failures import Failure, describe
from ..wire.files import draft_beside, make_dir, open_regular, remove, write_private
from .loader import PACKAGE, Program
from .ways import check_own, check_way

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}\Z")


def plain_name(name: Any) -> str:
    """Return a name that came over the connection and may become part of a path."""
    if not isinstance(name, str) or not _PLAIN_NAME.match(name):
        raise Failure("ValueError", "{!r} cannot be the name of a file".format(name))
    return name


def expand(path: Optional[str]) -> str:
    """Return an absolute path, `~` and variables expanded."""
    expanded = os.path.expandvars(os.path.expanduser(path or layout.WORK_DIR))
    if "$" in expanded:
        raise Failure("WorkDirNotWritable", "{} names a variable that is not set".format(path))
    # A relative path is meant from the home directory, where a login starts.
    return os.path.join(_home(), expanded)


def _home() -> str:
    return os.environ.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir


# The two kinds have one interface.
Batch = Union[JobBatch, WorkerBatch]


class WorkDir:
    """A work directory that exists, is ours alone and can be written to.

    Args:
        path: Where it is, or None for the usual place.
        alone: Whether nobody else has processes on this host, as in a container of our own: then
            who might change the directories above it does not matter.

    Raises:
        Failure: "WorkDirNotWritable", "WorkDirNotPrivate" or "DiskFull", naming the path.
    """

    def __init__(self, path: Optional[str], alone: bool = False) -> None:
        self.path = expand(path)
        self.runs = os.path.join(self.path, layout.RUNS)
        self.programs = os.path.join(self.path, layout.PROGRAMS)
        self.environments = os.path.join(self.path, layout.ENVIRONMENTS)
        self._alone = alone
        self._program: Optional[Program] = None
        store = os.path.join(self.path, "store")
        self._inside = (self.runs, self.programs, self.environments, store)
        try:
            self._make()
            self._probe()
            self.store = Store(store)
        except OSError as error:
            kind = describe(error)["type"]
            raise Failure(
                "DiskFull" if kind == "DiskFull" else "WorkDirNotWritable",
                "{}: {}".format(error.filename or self.path, error.strerror or error),
            ) from None

    def _make(self) -> None:
        # Before anything is made, and then what was made: somebody may have been faster.
        for _ in range(2):
            if not self._alone:
                for directory in (self.path,) + self._inside:
                    check_way(directory)
            make_dir(self.path)
        for directory in self._inside:
            make_dir(directory)
            _check_private(directory)

    def restore(self, run: Any) -> None:
        """Make again what was deleted under us, before something for a run is put there.

        Raises:
            Failure: As when it was made first.
        """
        program = self._program
        there = program is None or os.path.isdir(self._program_path(program))
        if not there or not all(map(os.path.isdir, self._inside)):
            self._make()
            if program is not None:
                self.install(program)
        make_dir(self.run(run))

    def _probe(self) -> None:
        # A full disk takes new names, but no data.
        probe = draft_beside(os.path.join(self.path, ".probe"))
        try:
            write_private(probe, b"x" * 4096)
        finally:
            remove(probe)

    def free_bytes(self) -> int:
        """Return what the filesystem has left for us."""
        return shutil.disk_usage(self.path).free

    def run(self, run: Any) -> str:
        """Return the directory of a flow run."""
        path = os.path.join(self.runs, plain_name(run))
        check_own(path)
        return path

    def batch(self, run: Any, batch: Any) -> Batch:
        """Return the directory of one batch of a flow run."""
        kind = WorkerBatch if batch == DIRECT else JobBatch
        return kind(os.path.join(self.run(run), plain_name(batch)))

    def environment(self, name: Any) -> Environment:
        """Return the place of a virtual environment."""
        path = os.path.join(self.environments, plain_name(name))
        check_own(path)
        return Environment(path)

    def batches(self, run: Any) -> List[Batch]:
        """Return every batch of a flow run that there still is."""
        try:
            names = os.listdir(self.run(run))
        except FileNotFoundError:
            return []
        return [self.batch(run, name) for name in sorted(names) if _PLAIN_NAME.match(name)]

    def _program_path(self, program: Program) -> str:
        return layout.program_directory(self.path, program.name)

    def install(self, program: Program) -> str:
        """Write the program where workers can run it; the directory, named by its content.

        As it was sent, it is there for the next agent: see `connections/bootstrap.py`.
        """
        self._program, path = program, self._program_path(program)
        texts = {
            PACKAGE + "/" + name.replace(".", "/") + ".py": text
            for name, text in program.modules.items()
        }
        texts.update({"vendor/" + name: text for name, text in program.vendor.items()})
        texts["worker.py"] = program.modules["worker.launch"]
        files = {name: text.encode("utf-8") for name, text in texts.items()}
        files["program"] = program.packed
        if _is_there(path, files):
            return path
        draft = draft_beside(path)
        try:
            make_dir(os.path.join(draft, "vendor"))
            for name, content in files.items():
                target = os.path.join(draft, name)
                make_dir(os.path.dirname(target))
                write_private(target, content)
            if os.path.lexists(path) and not _is_there(path, files):
                aside = draft_beside(path)
                os.rename(path, aside)
                shutil.rmtree(aside, ignore_errors=True)
            os.rename(draft, path)
        except OSError:
            shutil.rmtree(draft, ignore_errors=True)
            # Another agent may have been faster; theirs has the same content.
            if not _is_there(path, files):
                raise
        return path


def _is_there(path: str, files: Dict[str, bytes]) -> bool:
    """Whether a directory holds these files, and nothing that another account has put there."""
    for directory, names, others in os.walk(path):
        for place in [directory] + [os.path.join(directory, name) for name in names + others]:
            status = os.lstat(place)
            if status.st_uid != os.geteuid() or stat.S_ISLNK(status.st_mode):
                return False
    try:
        return all(_content(os.path.join(path, name)) == files[name] for name in files)
    except OSError:
        return False


def _content(path: str) -> bytes:
    with os.fdopen(open_regular(path), "rb") as file:
        return file.read()


def _check_private(path: str) -> None:
    """Refuse a directory that somebody else may have prepared for us."""
    status = os.stat(path)
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise Failure(
            "WorkDirNotPrivate",
            "{} belongs to somebody else, or others can use it, so what is in it may be theirs. "
            "Remove it, or choose another remote_work_dir".format(path),
        )
