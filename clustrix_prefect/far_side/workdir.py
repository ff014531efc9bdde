"""The directory on the cluster that everything of ours lies in.

far_side/HASH   the far side's own program, for the workers
store/SHA       blobs, named by their digest
runs/RUN/BATCH  the calls of a flow run
environments/   virtual environments that were built for calls
"""

import os
import pwd
import re
import shutil
from typing import Any, List, Optional

from .batch import BatchDirectory
from .environments import Environment
from .failures import Failure, describe
from .files import make_dir, remove, write_private
from .loader import PACKAGE, Program
from .store import Store

DEFAULT = "~/.clustrix-prefect"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}\Z")


def plain_name(name: Any) -> str:
    """A name that came over the connection and may become part of a path."""
    if not isinstance(name, str) or not _PLAIN_NAME.match(name):
        raise Failure("ValueError", "{!r} cannot be the name of a file".format(name))
    return name


def expand(path: Optional[str]) -> str:
    """An absolute path, `~` and variables expanded."""
    expanded = os.path.expandvars(os.path.expanduser(path or DEFAULT))
    if "$" in expanded:
        raise Failure("WorkDirNotWritable", "{} names a variable that is not set".format(path))
    # A relative path is meant from the home directory, where a login starts.
    return os.path.join(_home(), expanded)


def _home() -> str:
    return os.environ.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir


class WorkDir:
    """A work directory that exists, is ours alone and can be written to.

    Raises:
        Failure: "WorkDirNotWritable", "WorkDirNotPrivate" or "DiskFull", naming the path.
    """

    def __init__(self, path: Optional[str]) -> None:
        self.path = expand(path)
        self.runs = os.path.join(self.path, "runs")
        self.programs = os.path.join(self.path, "far_side")
        self.environments = os.path.join(self.path, "environments")
        try:
            for directory in (self.path, self.runs, self.programs):
                make_dir(directory)
            self._probe()
            self.store = Store(os.path.join(self.path, "store"))
        except OSError as error:
            kind = describe(error)["type"]
            raise Failure(
                "DiskFull" if kind == "DiskFull" else "WorkDirNotWritable",
                "{}: {}".format(error.filename or self.path, error.strerror or error),
            ) from None
        for directory in (self.runs, self.programs, self.store.path):
            _check_private(directory)

    def _probe(self) -> None:
        # A full disk takes new names, but no data.
        probe = os.path.join(self.path, ".probe.{}".format(os.getpid()))
        try:
            write_private(probe, b"x" * 4096)
        finally:
            remove(probe)

    def free_bytes(self) -> int:
        """What the filesystem has left for us."""
        return shutil.disk_usage(self.path).free

    def run(self, run: Any) -> str:
        """The directory of a flow run."""
        return os.path.join(self.runs, plain_name(run))

    def batch(self, run: Any, batch: Any) -> BatchDirectory:
        """The directory of one batch of a flow run."""
        return BatchDirectory(os.path.join(self.run(run), plain_name(batch)))

    def environment(self, name: Any) -> Environment:
        """The place of a virtual environment."""
        return Environment(os.path.join(self.environments, plain_name(name)))

    def batches(self, run: Any) -> List[BatchDirectory]:
        """Every batch of a flow run that there still is."""
        try:
            names = os.listdir(self.run(run))
        except FileNotFoundError:
            return []
        return [self.batch(run, name) for name in sorted(names) if _PLAIN_NAME.match(name)]

    def install(self, program: Program) -> str:
        """Write the program where workers can run it; the directory, named by its content.

        As it was sent, it is there for the next agent: see `connections/bootstrap.py`.
        """
        path = os.path.join(self.programs, program.name[:16])
        if os.path.isdir(path):
            return path
        draft = "{}.{}.tmp".format(path, os.getpid())
        files = {PACKAGE + "/" + name + ".py": text for name, text in program.modules.items()}
        files.update({"vendor/" + name: text for name, text in program.vendor.items()})
        files["worker.py"] = program.modules["launch"]
        try:
            make_dir(os.path.join(draft, "vendor"))
            for name, source in files.items():
                target = os.path.join(draft, name)
                make_dir(os.path.dirname(target))
                write_private(target, source.encode("utf-8"))
            write_private(os.path.join(draft, "program"), program.packed)
            os.rename(draft, path)
        except OSError:
            shutil.rmtree(draft, ignore_errors=True)
            # Another agent may have been faster; theirs has the same content.
            if not os.path.isdir(path):
                raise
        return path


def _check_private(path: str) -> None:
    """Refuse a directory that somebody else may have prepared for us."""
    status = os.stat(path)
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise Failure(
            "WorkDirNotPrivate",
            "{} belongs to somebody else, or others can use it; chmod 700 it or "
            "choose another remote_work_dir".format(path),
        )
