"""A warm worker: runs one call after another, as the agent hands them over a pipe."""

import os
import threading
from typing import Any, Dict, Optional

from . import call as calls
from . import importer
from .batch import BatchDirectory, Process, output_sizes, started_event
from .capture import Surroundings
from .files import write_all
from .frames import INLINE_LIMIT, Inbox, Message, encode
from .lines import LogLine
from .worker import leave_child


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
        leave_child(trace)
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
