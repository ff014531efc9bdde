"""What a job runs: the calls of a batch, or whatever the agent hands a warm worker."""

import json
import os
import sys
import threading
from typing import Any, Dict, List, Optional

from . import activation, standin
from . import call as calls
from .batch import BatchDirectory, Process, output_sizes, started_event
from .capture import LogLine, Surroundings, flush_output, open_output
from .files import write_all
from .frames import INLINE_LIMIT, Inbox, Message, encode

_USAGE = (
    "usage: worker.py --batch DIR [--index-variable NAME] [--calls-per-job N] | --serve R W"
    " | --build DIR TOKEN"
)


def main(arguments: List[str]) -> None:
    """Run as the arguments say."""
    open_output()
    activation.enter()
    if arguments[:1] == ["--batch"]:
        options = dict(zip(arguments[::2], arguments[1::2]))  # noqa: B905 (3.10)
        run_batch(
            options["--batch"],
            options.get("--index-variable"),
            int(options.get("--calls-per-job", "1")),
        )
    elif arguments[:1] == ["--serve"]:
        serve(int(arguments[1]), int(arguments[2]))
    elif arguments[:1] == ["--build"]:
        from . import build

        build.main(arguments[1:])
    else:
        sys.exit(_USAGE)


def job_id() -> Optional[str]:
    """The scheduler's id of this job, from the variables that it sets."""
    environment = os.environ
    array, index = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
    if array and index:
        return array + "_" + index
    for name in ("SLURM_JOB_ID", "PBS_JOBID", "JOB_ID"):
        if environment.get(name):
            return environment[name]
    return None


# --- a batch job --------------------------------------------------------------------------


def run_batch(path: str, index_variable: Optional[str], calls_per_job: int) -> None:
    """Run this job's share of a batch."""
    batch = BatchDirectory(path)
    first = int(os.environ[index_variable]) * calls_per_job if index_variable else 0
    standin.install()
    blobs = calls.BlobCache(batch.store)
    surroundings = Surroundings()
    process = Process(job_id())
    for call in _read_calls(batch.manifest, first, calls_per_job):
        _run_in_batch(batch, call, blobs, process)
        surroundings.restore()


def _read_calls(manifest: str, first: int, count: int) -> List[Dict[str, Any]]:
    mine = []
    with open(manifest, "rb") as file:
        for number, line in enumerate(file):
            if number >= first + count:
                break
            if number >= first:
                mine.append(json.loads(line.decode("ascii")))
    return mine


def _run_in_batch(
    batch: BatchDirectory, call: Dict[str, Any], blobs: calls.BlobCache, process: Process
) -> None:
    id, trace = call["id"], process.trace()
    batch.write_started(trace, id)
    header, body = calls.run(call, blobs, lambda line: batch.append_line(id, line), trace)
    _leave_child(trace)
    header["output_end"] = output_sizes()
    batch.write_result(header, body)


def _leave_child(trace: Dict[str, Any]) -> None:
    """End a child that the call forked and that came back here: the result is its parent's."""
    flush_output()
    if os.getpid() != trace["pid"]:
        os._exit(1)


# --- a warm worker ------------------------------------------------------------------------


def serve(read_end: int, write_end: int) -> None:
    """Run the calls that arrive on a pipe until it ends.

    The result of each is on disk before the agent hears of it; when the agent has gone, the
    running call is finished all the same.
    """
    for descriptor in (read_end, write_end):
        os.set_inheritable(descriptor, False)
    standin.install()
    server = _Server(write_end)
    inbox = Inbox()
    while True:
        data = os.read(read_end, INLINE_LIMIT)
        if not data:
            return
        for message, _ in inbox.feed(data):
            server.run(message["call"], message["directory"])


class _Server:
    """A warm worker's side of the pipe."""

    def __init__(self, write_end: int) -> None:
        self._pipe: Optional[int] = write_end
        self._sending = threading.Lock()
        self._surroundings = Surroundings()
        self._blobs: Dict[str, calls.BlobCache] = {}
        self._process = Process(job=None)

    def run(self, call: Dict[str, Any], directory: str) -> None:
        """Run one call of the run whose direct calls lie in this directory."""
        id, batch = call["id"], BatchDirectory(directory)
        trace = self._process.trace()
        blobs = self._blobs.setdefault(batch.store, calls.BlobCache(batch.store))
        batch.write_started(trace, id)
        self._send(started_event(id, trace))

        def log(line: LogLine) -> None:
            if not self._send({"event": "log", "call": id, "lines": [line]}):
                batch.append_line(id, line)

        header, body = calls.run(call, blobs, log, trace)
        _leave_child(trace)
        header["output_end"] = output_sizes()
        batch.write_result(header, body)
        self._surroundings.restore()
        event: Message = {"event": "result", "call": id, "header": header}
        if len(body) > INLINE_LIMIT:
            event["in_file"] = True  # the agent sends it from there
            body = b""
        self._send(event, body)

    def _send(self, message: Message, body: bytes = b"") -> bool:
        """Tell the agent; whether it is still there."""
        with self._sending:
            if self._pipe is None:
                return False
            try:
                write_all(self._pipe, encode(message, body))
            except OSError:
                self._pipe = None
            return self._pipe is not None
