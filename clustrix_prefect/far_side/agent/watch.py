"""Watches the directories of batches for calls that start, log and finish.

Looked at often while things happen and ever less often while nothing does. One look costs a
listing and a read per running call, and looking never takes more than a tenth of the time.
"""

import threading
import time
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Set, Tuple

from ..jobs.batch import BatchDirectory, read_result, read_trace, started_event, unreadable
from ..jobs.job_batch import present, refresh_listing
from ..jobs.worker_batch import WorkerBatch
from ..jobs.worker_log import WorkerLogs
from ..wire.frames import Message
from .agent_log import named

SHORTEST, LONGEST = 0.01, 1.0
# Slow growth: what ends after t seconds is seen about t / 6 later.
GROWTH = 1.2
SHARE = 10.0
# From this interval on, a look refreshes what NFS remembers of the directories.
REFRESH_FROM = 0.2
WORKER_CHECK = 1.0

Send = Callable[..., None]
Event = Tuple[Message, Any]


class Unheard:
    """Leaves out the lines that the client heard from an earlier agent."""

    def __init__(self) -> None:
        self._heard: Dict[str, int] = {}

    def expect(self, heard: Dict[str, int]) -> None:
        """Of these calls the client has so many lines."""
        self._heard.update(heard)

    def of(self, id: str, lines: List[Any]) -> List[Any]:
        """Return those of a call's next lines that are news."""
        known = min(self._heard.get(id, 0), len(lines))
        if known:
            self._heard[id] -= known
        return lines[known:]


class WatchedJobs:
    """The calls of one batch that have not been reported as finished."""

    for_scheduler = True

    def __init__(self, run: str, batch: BatchDirectory) -> None:
        self.run = run
        self.waiting: Set[str] = set()
        self._batch = batch
        self._offsets: Dict[str, int] = {}
        self._started: Set[str] = set()
        self._unheard = Unheard()

    def add(self, ids: Iterable[str], heard: Dict[str, int]) -> None:
        """Watch these calls, so many of whose lines the client has."""
        self.waiting.update(ids)
        self._unheard.expect(heard)

    def pass_over(self, ids: Iterable[str]) -> None:
        """The client has had the outcomes of these calls: nothing is read but what it waits for."""

    def look(self, refresh: bool) -> Iterator[Event]:
        """Yield what is new."""
        if refresh:
            refresh_listing(self._batch.results)
            refresh_listing(self._batch.events)
        # Results are listed first: the trace of a call in the list is complete.
        finished = present(self._batch.results, self.waiting)
        traced = present(self._batch.events, self.waiting - self._started)
        for id in traced | (self.waiting & self._started):
            yield from self._read_trace(id)
        for id in finished & self.waiting:
            self.waiting.discard(id)
            yield self._result(id)

    def _read_trace(self, id: str) -> Iterator[Event]:
        path, offset = self._batch.event_file(id), self._offsets.get(id, 0)
        lines, self._offsets[id] = read_trace(path, offset)
        if lines and id not in self._started:
            self._started.add(id)
            try:
                started = started_event(id, lines.pop(0))
            except (KeyError, TypeError):
                return  # not a worker's of ours: its result will show it
            yield started, b""
        lines = self._unheard.of(id, lines)
        if lines:
            yield {"event": "log", "call": id, "lines": lines}, b""

    def _result(self, id: str) -> Event:
        self._started.discard(id)
        self._offsets.pop(id, None)
        try:
            header, body = read_result(self._batch.result_file(id))
        except Exception as error:  # whatever lies there, the call has to end
            header, body = unreadable(error), b""
        return {"event": "result", "call": id, "header": header}, body


class WatchedWorkers:
    """Unreported calls of an earlier agent's warm workers, which finish what they began."""

    for_scheduler = False

    def __init__(self, run: str, batch: BatchDirectory) -> None:
        self.run = run
        self.waiting: Set[str] = set()
        self._ledgers = WorkerLogs(batch)
        self._checked = 0.0
        # The client takes its calls up one by one: what others did meanwhile is kept for it.
        self._kept: Dict[str, List[Event]] = {}
        self._done = batch.done()
        self._unheard = Unheard()

    def add(self, ids: Iterable[str], heard: Dict[str, int]) -> None:
        """Watch these calls, so many of whose lines the client has."""
        self.waiting.update(ids)
        self._unheard.expect(heard)

    def pass_over(self, ids: Iterable[str]) -> None:
        """The client has had the outcomes of these calls: they need not be kept for it."""
        self._done.update(ids)

    def look(self, refresh: bool) -> Iterator[Event]:
        """Yield what is new."""
        # No scheduler will say that a worker died.
        lost: List[str] = []
        if time.monotonic() - self._checked > WORKER_CHECK:
            self._checked = time.monotonic()
            lost = self._ledgers.without_worker(self.waiting)
        for event in self._ledgers.news():
            id = event[0]["call"]
            if id not in self._done:
                self._kept.setdefault(id, []).append(event)
        for id in self.waiting.intersection(self._kept):
            for message, body in self._kept.pop(id):
                if message["event"] == "result":
                    self.waiting.discard(id)
                elif message["event"] == "log":
                    message["lines"] = self._unheard.of(id, message["lines"])
                    if not message["lines"]:
                        continue
                yield message, body
        for id in self.waiting.intersection(lost):
            self.waiting.discard(id)
            yield (
                {
                    "event": "worker_died",
                    "call": id,
                    "returncode": None,
                    "stderr_tail": "",
                    "started": True,
                },
                b"",
            )


class Watcher:
    """One thread that watches all batches.

    Args:
        send: Takes events, each with a body.
        hold: Waits while very much is queued for the client.
        noticed: Called when something had happened.
        log: Keeps a line for whoever looks for a fault.
    """

    def __init__(
        self,
        send: Send,
        hold: Callable[[], None],
        noticed: Callable[[], None],
        log: Callable[[str], None],
    ) -> None:
        self._send = send
        self._hold = hold
        self._noticed = noticed
        self._log = log
        self._changed = threading.Condition()
        self._watched: Dict[str, Any] = {}
        self._had: Dict[str, Set[str]] = {}
        self._hurry = False
        self._started = False

    def add(
        self,
        run: str,
        batch: BatchDirectory,
        ids: Iterable[str],
        heard: Optional[Dict[str, int]] = None,
    ) -> None:
        """Report what these calls do from now on, and what they did already.

        Args:
            run: Their flow run.
            batch: Where they are.
            ids: Their ids.
            heard: How many of their lines the client has already, if any.
        """
        with self._changed:
            watched = self._watched.get(batch.path)
            if watched is None:
                kind = WatchedWorkers if isinstance(batch, WorkerBatch) else WatchedJobs
                watched = self._watched[batch.path] = kind(run, batch)
                watched.pass_over(self._had.get(run, ()))
            watched.add(ids, heard or {})
            self._hurry = True
            self._changed.notify_all()
            if not self._started:
                self._started = True
                threading.Thread(target=self._watch, name="clustrix-watch", daemon=True).start()

    def pass_over(self, run: str, ids: Iterable[str]) -> None:
        """The client has had the outcomes of these calls from an earlier agent."""
        with self._changed:
            self._had.setdefault(run, set()).update(ids)

    def forget(self, run: str, ids: Iterable[str]) -> None:
        """Say no more about these calls."""
        gone = set(ids)
        with self._changed:
            for watched in self._watched.values():
                if watched.run == run:
                    watched.waiting -= gone

    def forget_run(self, run: str) -> None:
        """Say no more about any call of a run."""
        with self._changed:
            self._had.pop(run, None)
            for watched in self._watched.values():
                if watched.run == run:
                    watched.waiting.clear()

    def is_waiting_for_jobs(self) -> bool:
        """Return whether the scheduler has any call that is not finished."""
        with self._changed:
            return any(w.waiting and w.for_scheduler for w in self._watched.values())

    def _watch(self) -> None:
        interval = SHORTEST
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._hurry, interval if self._watched else None)
                if self._hurry:
                    self._hurry, interval = False, SHORTEST
                for path in [p for p, watched in self._watched.items() if not watched.waiting]:
                    del self._watched[path]
                batches = list(self._watched.items())
            began = time.monotonic()
            events = 0
            for path, watched in batches:
                try:
                    for event, body in watched.look(refresh=interval >= REFRESH_FROM):
                        self._hold()
                        self._send(event, body)
                        events += 1
                except Exception as error:
                    # A file system that hiccups, a batch that was just removed, a file that is
                    # not ours: the next look shows which. The other batches must not wait.
                    self._log("no look at {}: {}".format(path, named(error)))
            if events:
                self._noticed()
                interval = SHORTEST
            else:
                interval = min(interval * GROWTH, LONGEST)
            interval = max(interval, SHARE * (time.monotonic() - began))
