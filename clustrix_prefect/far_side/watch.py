"""Watches the directories of batches for calls that start, log and finish.

Looked at often while things happen and ever less often while nothing does. One look costs a
listing and a read per running call, and looking never takes more than a tenth of the time.
"""

import os
import threading
import time
from typing import Any, Callable, Dict, Iterable, Set

from .batch import BatchDirectory, process_start, read_result, read_trace, started_event
from .outcome import HOST

SHORTEST, LONGEST = 0.01, 1.0
# Slow growth: what ends after t seconds is seen about t / 6 later.
GROWTH = 1.2
SHARE = 10.0
# From this interval on, a look refreshes what NFS remembers of the directories.
REFRESH_FROM = 0.2
ORPHAN_CHECK = 1.0

Send = Callable[..., None]


class Watched:
    """The calls of one batch that have not been reported as finished."""

    def __init__(self, run: str, batch: BatchDirectory, direct: bool) -> None:
        self.run = run
        self.batch = batch
        # Direct calls are those of an earlier agent's warm workers: no scheduler will say
        # that their worker died.
        self.direct = direct
        self.waiting: Set[str] = set()
        self.offsets: Dict[str, int] = {}
        self.traces: Dict[str, Dict[str, Any]] = {}


class Watcher:
    """One thread that watches all batches.

    Args:
        send: Takes events, each with a body.
        hold: Waits while very much is queued for the client.
        noticed: Called when something had happened.
    """

    def __init__(self, send: Send, hold: Callable[[], None], noticed: Callable[[], None]) -> None:
        self._send = send
        self._hold = hold
        self._noticed = noticed
        self._changed = threading.Condition()
        self._watched: Dict[str, Watched] = {}
        self._hurry = False
        self._started = False
        self._orphans_checked = 0.0

    def add(
        self, run: str, batch: BatchDirectory, ids: Iterable[str], direct: bool = False
    ) -> None:
        """Report what these calls do from now on, and what they did already."""
        with self._changed:
            watched = self._watched.setdefault(batch.path, Watched(run, batch, direct))
            watched.waiting.update(ids)
            self._hurry = True
            self._changed.notify_all()
            if not self._started:
                self._started = True
                threading.Thread(target=self._watch, name="clustrix-watch", daemon=True).start()

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
            for watched in self._watched.values():
                if watched.run == run:
                    watched.waiting.clear()

    def is_waiting_for_jobs(self) -> bool:
        """Whether the scheduler has any call that is not finished."""
        with self._changed:
            return any(watched.waiting and not watched.direct for watched in self._watched.values())

    def _watch(self) -> None:
        interval = SHORTEST
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._hurry, interval if self._watched else None)
                if self._hurry:
                    self._hurry, interval = False, SHORTEST
                for path in [p for p, watched in self._watched.items() if not watched.waiting]:
                    del self._watched[path]
                batches = list(self._watched.values())
            began = time.monotonic()
            events = 0
            for watched in batches:
                try:
                    events += self._look_at(watched, refresh=interval >= REFRESH_FROM)
                except OSError:
                    # A file system that hiccups, or a batch that was just removed: the next
                    # look shows which.
                    pass
            if events:
                self._noticed()
                interval = SHORTEST
            else:
                interval = min(interval * GROWTH, LONGEST)
            interval = max(interval, SHARE * (time.monotonic() - began))

    def _look_at(self, watched: Watched, refresh: bool) -> int:
        """Report what is new in a batch; how much that was."""
        batch = watched.batch
        if refresh:
            refresh_listing(batch.results)
            refresh_listing(batch.events)
        # Results are listed first: the trace of a call in the list is complete.
        finished = present(batch.results, watched.waiting)
        started = present(batch.events, watched.waiting - set(watched.traces))
        events = 0
        for id in started | (watched.waiting & set(watched.traces)):
            events += self._read_trace(watched, id)
        for id in finished:
            self._hold()
            events += self._report_result(watched, id)
        if watched.direct and time.monotonic() - self._orphans_checked > ORPHAN_CHECK:
            self._orphans_checked = time.monotonic()
            self._report_orphans(watched)
        return events

    def _read_trace(self, watched: Watched, id: str) -> int:
        lines, offset = read_trace(watched.batch.event_file(id), watched.offsets.get(id, 0))
        watched.offsets[id] = offset
        if not lines:
            return 0
        if id not in watched.traces:
            watched.traces[id] = lines.pop(0)
            self._send(started_event(id, watched.traces[id]))
        if lines:
            self._hold()
            self._send({"event": "log", "call": id, "lines": lines})
        return 1

    def _report_result(self, watched: Watched, id: str) -> int:
        with self._changed:
            if id not in watched.waiting:
                return 0
            watched.waiting.discard(id)
        try:
            header, body = read_result(watched.batch.result_file(id))
        except (OSError, ValueError) as error:
            header, body = {"status": "unreadable", "text": str(error)}, b""
        self._send({"event": "result", "call": id, "header": header}, body)
        watched.traces.pop(id, None)
        watched.offsets.pop(id, None)
        return 1

    def _report_orphans(self, watched: Watched) -> None:
        for id, trace in list(watched.traces.items()):
            if id in watched.waiting and is_dead(trace) and not finished(watched.batch, id):
                watched.waiting.discard(id)
                self._send(
                    {
                        "event": "worker_died",
                        "call": id,
                        "returncode": None,
                        "stderr_tail": "",
                        "started": True,
                    }
                )


def is_dead(trace: Dict[str, Any]) -> bool:
    """Whether the process that left this trace certainly exists no longer."""
    return bool(trace["host"] == HOST and process_start(trace["pid"]) != trace.get("process"))


def finished(batch: BatchDirectory, id: str) -> bool:
    """Whether a call has a result, looked up afresh."""
    refresh_listing(batch.results)
    return os.path.exists(batch.result_file(id))


def refresh_listing(directory: str) -> None:
    """Make NFS ask its server what is in a directory, rather than remember."""
    try:
        os.utime(directory, None)
    except OSError:
        pass


def present(directory: str, ids: Set[str]) -> Set[str]:
    """Which of these names are in a directory."""
    if not ids:
        return set()
    try:
        return ids.intersection(os.listdir(directory))
    except OSError:
        return set()
