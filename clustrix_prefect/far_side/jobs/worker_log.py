"""What a warm worker told the agent, kept in one file per worker and run.

Each event is written down, in the frame that it travels in, before it is sent. Should the
agent have gone, or go before the client has heard, a later one finds it here. One file that
grows costs far less than files that are made and removed for every call.
"""

import os
from typing import Any, Dict, Iterable, List, Optional, Set, Tuple

from ..wire.files import open_log, open_regular, write_all
from ..wire.frames import FrameError, Inbox, Message
from ..wire.processes import HOST, process_start
from .batch import BatchDirectory, read_result, unreadable

# A larger body has a file of its own, which can go as soon as its call is acknowledged.
MAX_BODY = 32 * 1024


class WorkerLog:
    """A worker's own ledger.

    Args:
        path: The file; it is made if need be.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = open_log(path)

    def add(self, frame: bytes) -> None:
        """Write down an event.

        Raises:
            OSError: It does not fit on the disk.
        """
        before = os.fstat(self._descriptor).st_size
        try:
            write_all(self._descriptor, frame)
        except OSError as error:
            # Half a frame would hide all that follow.
            os.ftruncate(self._descriptor, before)
            error.filename = self._path
            raise

    def close(self) -> None:
        os.close(self._descriptor)


class WorkerLogReader:
    """Reads a ledger while it grows."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._offset = 0
        self._inbox = Inbox()

    def news(self) -> List[Tuple[Message, Any]]:
        """Return the events that were added since the last time, with their bodies."""
        try:
            with os.fdopen(open_regular(self._path), "rb") as file:
                file.seek(self._offset)
                data = file.read()
            self._offset += len(data)
            return self._inbox.feed(data)
        except (OSError, FrameError, ValueError):
            return []


class WorkerLogs:
    """The ledgers of all workers that ran calls of a run."""

    def __init__(self, batch: BatchDirectory) -> None:
        self._batch = batch
        self._readers: Dict[str, WorkerLogReader] = {}
        self._started: Dict[str, Message] = {}
        self._finished: Set[str] = set()

    def news(self) -> List[Tuple[Message, Any]]:
        """Return the events since the last time, a large body as the file that it is in."""
        news = []
        for name in _names(self._batch.events):
            path = os.path.join(self._batch.events, name)
            for message, body in self._readers.setdefault(name, WorkerLogReader(path)).news():
                id = message.get("call")
                if not isinstance(id, str) or not isinstance(message.get("event"), str):
                    continue  # not a worker's of ours
                if message["event"] == "started":
                    self._started[id] = message
                elif message["event"] == "result":
                    self._finished.add(id)
                    body = whole(self._batch, message, body)
                news.append((message, body))
        return news

    def states(self) -> Dict[str, str]:
        """Return how far each call has come: "started", "finished" or "lost"."""
        self.news()
        lost = self.without_worker(self._started)
        # What a worker wrote before it died may be newer than the look above.
        self.news()
        states = dict.fromkeys(self._started, "started")
        states.update(dict.fromkeys(lost, "lost"))
        states.update(dict.fromkeys(self._finished, "finished"))
        return states

    def workers_of(self, ids: Iterable[str]) -> List["Orphan"]:
        """Return the workers of this host that these calls run in."""
        self.news()
        running = set(ids).intersection(self._started) - self._finished
        started = [self._started[id] for id in running]
        return [Orphan(m["pid"], m["process"]) for m in started if m["host"] == HOST]

    def without_worker(self, ids: Iterable[str]) -> List[str]:
        """Return which of these calls were unfinished, and the worker that started them is gone."""
        return [
            id
            for id in ids
            if id in self._started and id not in self._finished and _is_dead(self._started[id])
        ]


class Orphan:
    """A warm worker of an earlier agent, which runs on by itself.

    Args:
        pid: Its process.
        process: When that started, see `process_start`.
    """

    current = None

    def __init__(self, pid: int, process: int) -> None:
        self._pid = pid
        self._process = process

    def kill(self, number: int) -> bool:
        """Signal the worker and all it started in its session; whether anybody was left."""
        if process_start(self._pid) != self._process:
            return False
        try:
            os.killpg(self._pid, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True


def whole(batch: BatchDirectory, message: Message, body: Any) -> Any:
    """The body of a result, whose message is completed if both are in a file of their own."""
    if message.pop("in_file", False):
        try:
            message["header"], body = read_result(batch.result_file(message["call"]))
        except Exception as error:  # whatever lies there, the call has to end
            message["header"] = unreadable(error)
    return body


def _is_dead(started: Message) -> bool:
    """Return whether the process that said this certainly exists no longer."""
    return bool(started["host"] == HOST and process_start(started["pid"]) != started["process"])


def find(batch: BatchDirectory, id: str, event: str) -> Optional[Tuple[Message, Any]]:
    """Return an event of one call, and its body."""
    for message, body in WorkerLogs(batch).news():
        if message["event"] == event and message["call"] == id:
            return message, body
    return None


def _names(directory: str) -> List[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []
