"""A warm worker: runs one call after another, as the agent hands them over a pipe."""

import os
import threading
from typing import Any, Dict, Optional

from ..jobs.batch import BatchDirectory, Process, output_sizes, started_event
from ..jobs.worker_log import MAX_BODY, WorkerLog
from ..standins import importer
from ..standins.log_capture import LogLine
from ..wire.files import write_all
from ..wire.frames import INLINE_LIMIT, Inbox, Message, encode
from . import call as calls
from .capture import Surroundings, leave_child


def serve(read_end: int, write_end: int) -> None:
    """Run the calls that arrive on a pipe until it ends.

    The result of each is on disk before the agent hears of it; when the agent has gone, the
    running call is finished all the same.
    """
    for descriptor in (read_end, write_end):
        os.set_inheritable(descriptor, False)
    importer.install()
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
        self._ledger: Optional[WorkerLog] = None
        self._ledger_of = ""

    def run(self, call: Dict[str, Any], directory: str) -> None:
        """Run one call of the run whose direct calls lie in this directory."""
        id, batch = call["id"], BatchDirectory(directory)
        trace = self._process.trace()
        blobs = self._blobs.setdefault(batch.store, calls.BlobCache(batch.store))
        ledger = self._open_ledger(batch, trace["pid"])
        event: Message = started_event(id, trace)
        frame = encode(event)
        ledger.add(frame)
        self._send(frame)

        def log(line: LogLine) -> None:
            frame = encode({"event": "log", "call": id, "lines": [line]})
            ledger.add(frame)
            self._send(frame)

        header, body = calls.run(call, blobs, log, trace)
        leave_child(trace)
        self._surroundings.restore_output()
        header["output_end"] = output_sizes()
        event = {"event": "result", "call": id, "header": header}
        if len(body) > MAX_BODY:
            batch.write_result(header, body)
            event, body = {"event": "result", "call": id, "in_file": True}, b""
        frame = encode(event, body)
        ledger.add(frame)
        self._surroundings.restore()
        self._send(frame)

    def _open_ledger(self, batch: BatchDirectory, pid: int) -> WorkerLog:
        """This worker's ledger of the run whose calls it runs now."""
        if self._ledger is None or self._ledger_of != batch.path:
            if self._ledger is not None:
                self._ledger.close()
            self._ledger, self._ledger_of = WorkerLog(batch.ledger(pid)), batch.path
        return self._ledger

    def _send(self, frame: bytes) -> bool:
        """Tell the agent; whether it is still there."""
        with self._sending:
            if self._pipe is None:
                return False
            try:
                write_all(self._pipe, frame)
            except OSError:
                self._pipe = None
            return self._pipe is not None
