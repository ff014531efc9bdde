"""The directory of a batch: where its calls, their traces and their results lie.

    calls.jsonl   the calls, one a line
    script.sh     the job script
    about         whose calls they are, and their names, for people
    job           the scheduler's id of the job
    submitter     which agent calls the scheduler's submit command
    submitted     what that command said
    events/ID     what call ID did: when it started, then what it logged
    results/ID    what call ID came to: a header line, then the body
    logs/         standard output and error of the jobs or warm workers
    acknowledged  the ids of calls whose results have arrived

The calls of warm workers share one such directory per run (see `worker_batch`). It has no manifest,
and instead of the calls' files there is a ledger for each worker in events/ (see `ledger`).
"""

import os
import time

from ..wire.fast_stdlib import from_json, to_json
from ..wire.files import append, open_regular, read_optional, remove, write_private, write_whole
from ..wire.processes import HOST, process_start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterable, List, Optional, Set, Tuple

PARTS = ("events", "results", "logs")


class BatchDirectory:
    """One batch's directory, as workers know it: `<work dir>/runs/<run>/<batch>`."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.manifest = os.path.join(path, "calls.jsonl")
        self.script = os.path.join(path, "script.sh")
        self.about = os.path.join(path, "about")
        self.job = os.path.join(path, "job")
        self.submitter = os.path.join(path, "submitter")
        self.submitted = os.path.join(path, "submitted")
        self.events = os.path.join(path, "events")
        self.results = os.path.join(path, "results")
        self.logs = os.path.join(path, "logs")
        self.acknowledged = os.path.join(path, "acknowledged")

    @property
    def store(self) -> str:
        """The blob store of the work directory that this batch lies in."""
        return os.path.normpath(os.path.join(self.path, "..", "..", "..", "store"))

    def event_file(self, id: str) -> str:
        return os.path.join(self.events, id)

    def result_file(self, id: str) -> str:
        return os.path.join(self.results, id)

    def ledger(self, pid: int) -> str:
        """Return the file of a warm worker's ledger."""
        return os.path.join(self.events, "worker-{}".format(pid))

    def acknowledge(self, ids: "Iterable[str]") -> None:
        """Remove what calls have left, and note that they are done with."""
        names = "".join(id + "\n" for id in ids)
        append(self.acknowledged, names.encode("ascii"))
        for id in names.split():
            remove(self.result_file(id))

    def done(self) -> "Set[str]":
        """Return the calls that were acknowledged."""
        return set((read_optional(self.acknowledged) or "").split())

    # --- written by the worker ------------------------------------------------------------

    def write_started(self, trace: "Dict[str, Any]", id: str) -> None:
        """Leave the trace that a call has started."""
        line = to_json(trace).encode("ascii") + b"\n"
        write_private(self.event_file(id), line)

    def append_line(self, id: str, line: "List[Any]") -> None:
        """Add a logged line to a call's trace."""
        append(self.event_file(id), to_json(line).encode("ascii") + b"\n")

    def write_result(self, header: "Dict[str, Any]", body: bytes) -> None:
        """Put a call's result in place, all at once."""
        line = to_json(header).encode("ascii") + b"\n"
        write_whole(self.result_file(header["call"]), line, body)


class Process:
    """What this process leaves in the traces of the calls that it runs."""

    def __init__(self, job: "Optional[str]") -> None:
        self.job = job
        self._pid = os.getpid()
        self._start = process_start(self._pid)

    def trace(self) -> "Dict[str, Any]":
        """Return the first line of a trace: when, where and in which process a call starts."""
        return {
            "started": time.time(),
            "host": HOST,
            "pid": self._pid,
            "job": self.job,
            "process": self._start,
            "output": output_sizes(),
        }


def output_sizes() -> "List[int]":
    """Return how much was written to standard output and error so far: whose output is whose."""
    return [os.fstat(descriptor).st_size for descriptor in (1, 2)]


def started_event(id: str, trace: "Dict[str, Any]") -> "Dict[str, Any]":
    """Return what the client is told when a call has started."""
    return {
        "event": "started",
        "call": id,
        "host": trace["host"],
        "pid": trace["pid"],
        "time": trace["started"],
        "job": trace["job"],
        "process": trace["process"],
        "output": trace["output"],
    }


def read_trace(path: str, offset: int = 0) -> "Tuple[List[Any], int]":
    """The complete lines of a trace after an offset, and where they end; none if it is no file."""
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            file.seek(offset)
            data = file.read()
    except OSError:
        return [], offset
    complete = data[: data.rfind(b"\n") + 1]
    lines = []
    for line in complete.splitlines():
        try:
            lines.append(from_json(line.decode("ascii")))
        except ValueError:
            pass  # half a line, from a moment when the disk was full
    return lines, offset + len(complete)


def read_result(path: str) -> "Tuple[Dict[str, Any], Any]":
    """Return the header of a result file, and its body: bytes, or a file to be sent if it is large.

    Raises:
        OSError: It is not there.
        ValueError: It is not a result.
    """
    # The agent's, and no job's: see `light`.
    from ..wire.frames import INLINE_LIMIT, FileBody

    with os.fdopen(open_regular(path), "rb") as file:
        line = file.readline(INLINE_LIMIT)
        header = from_json(line.decode("ascii").rstrip("\n"))
        if not isinstance(header, dict):
            raise ValueError("its header is no header")
        # Counted, and not what the header says of it.
        if os.fstat(file.fileno()).st_size - len(line) <= INLINE_LIMIT:
            return header, file.read(INLINE_LIMIT)
    return header, FileBody(path, len(line))


def unreadable(error: Exception) -> "Dict[str, Any]":
    """Return what goes in place of the header of a result that is none."""
    return {"status": "unreadable", "text": "{}: {}".format(type(error).__name__, error)}


def read_manifest(directory: BatchDirectory) -> "List[Dict[str, Any]]":
    """Return a batch's calls, in the order of its array; none for direct calls."""
    try:
        with open(directory.manifest, "rb") as file:
            return [from_json(line.decode("ascii")) for line in file]
    except OSError:
        return []
