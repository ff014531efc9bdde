"""Warm workers: processes beside the agent that run one call after another.

A call is handed to an idle worker that was started the same way, or to a new one while there
are fewer than allowed, or waits its turn. Each worker has a thread that listens to it; calls
are handed out by whichever thread finds that one can be.
"""

import collections
import json
import os
import select
import signal
import subprocess
import threading
import time
from typing import Any, Callable, Deque, Dict, Iterable, List, Optional, Set

from ..jobs.batch import BatchDirectory
from ..jobs.worker_log import find, whole
from ..wire import layout
from ..wire.cgroup import cores, oom_kills
from ..wire.files import make_dir, open_log, tail, write_all
from ..wire.frames import Inbox, Message, encode
from ..wire.login import after_prologue
from ..wire.patience import Patience
from ..wire.processes import is_stopped

READ_SIZE = 256 * 1024
# An idle worker holds memory, and perhaps a GPU.
IDLE_SECONDS = 60.0
MAX_LOG_BYTES = 16 * 1024 * 1024

_ENDINGS = (".out", ".err")

Send = Callable[..., None]


class DirectCall:
    """A call on its way through the pool."""

    def __init__(
        self, call: Dict[str, Any], batch: BatchDirectory, settings: Dict[str, Any], kind: str
    ) -> None:
        self.id: str = call["id"]
        self.call = call
        self.batch = batch
        self.settings = settings
        self.kind = kind
        self.started = False
        self.cancelled = False


class WarmWorker:
    """One worker process and the pipes to it."""

    def __init__(self, program: str, first: DirectCall) -> None:
        self.kind = first.kind
        self.current: Optional[DirectCall] = None
        self.idle_since = time.monotonic()
        self.dismissed = False
        self.peak_memory: Optional[int] = None  # known when it has ended
        self._stderr_start = 0
        self._has_served = False
        settings = first.settings
        their_read, self._write_end = os.pipe()
        self.read_end, their_write = os.pipe()
        argv, environment = after_prologue(
            layout.serve_command(settings["python"], program, their_read, their_write),
            "\n".join(settings.get("prologue") or ()),
            settings.get("environment") or {},
        )
        logs = make_dir(first.batch.logs)
        draft = os.path.join(logs, "starting-{}-{}".format(os.getpid(), self.read_end))
        outputs = [open_log(draft + ending) for ending in _ENDINGS]
        try:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=outputs[0],
                stderr=outputs[1],
                cwd=settings.get("cwd") or os.path.expanduser("~"),
                env=environment,
                pass_fds=(their_read, their_write),
                start_new_session=True,
            )
        except BaseException:
            os.close(self._write_end)
            os.close(self.read_end)
            raise
        finally:
            for descriptor in [their_read, their_write] + outputs:
                os.close(descriptor)
        self.pid = self._process.pid
        self.log = os.path.join(logs, "worker-{}".format(self.pid))
        for ending in _ENDINGS:
            os.rename(draft + ending, self.log + ending)

    def hand(self, direct: DirectCall) -> None:
        """Give the worker its next call."""
        self.current = direct
        for ending in _ENDINGS:
            # Both are open for appending, so what is written next starts the file again.
            if _size(self.log + ending) > MAX_LOG_BYTES:
                os.truncate(self.log + ending, 0)
        # A first call's is from the beginning: why the worker does not start is told there.
        self._stderr_start = _size(self.log + ".err") if self._has_served else 0
        self._has_served = True
        try:
            write_all(
                self._write_end, encode({"call": direct.call, "directory": direct.batch.path})
            )
        except OSError:
            pass  # it has died; whoever listens to it will see

    def take_back(self) -> None:
        """End the worker if it has not begun its call; else it is left to finish it."""
        assert self.current is not None
        self.kill(signal.SIGSTOP)
        deadline = time.monotonic() + 0.5
        while not is_stopped(self.pid) and time.monotonic() < deadline:
            time.sleep(0.001)
        begun = find(self.current.batch, self.current.id, "started") is not None
        self.kill(signal.SIGCONT if begun else signal.SIGKILL)

    def dismiss(self) -> None:
        """Let the worker end: there is nothing more to read."""
        if not self.dismissed:
            self.dismissed = True
            os.close(self._write_end)

    def stderr_tail(self) -> str:
        """Return what the current call wrote to standard error last."""
        return tail(self.log + ".err", self._stderr_start)

    def stdout_tail(self) -> str:
        """Return what the worker wrote to standard output last."""
        return tail(self.log + ".out")

    def has_ended(self) -> bool:
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def wait(self) -> int:
        """Wait until it has ended; its exit status."""
        _, status, usage = os.wait4(self.pid, 0)
        # The kernel starts anew where a call resets it: see `call`.
        self.peak_memory = usage.ru_maxrss * 1024
        ended_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        self._process.returncode = -ended_by if ended_by else os.WEXITSTATUS(status)
        return self._process.returncode

    def kill(self, number: int) -> bool:
        """Signal the worker and all it started in its session; whether anybody was left."""
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:  # the run's directory was removed
        return 0


class Pool:
    """All warm workers of an agent.

    Args:
        send: Takes events, each with a body.
        hold: Waits while very much is queued for the client.

    Attributes:
        program: What a worker runs.
        grace: Seconds from asking a worker to end until it is killed.
    """

    def __init__(self, send: Send, hold: Callable[[], None]) -> None:
        self.program = ""
        self.grace = Patience().worker_grace
        self._send = send
        self._hold = hold
        self._lock = threading.RLock()
        self._ended = threading.Condition(self._lock)
        self._queue: Deque[DirectCall] = collections.deque()
        self._workers: List[WarmWorker] = []
        # Read once: it takes as long as a call does.
        self._cores = self._limit = cores()
        self._dying: Set[Any] = set()
        self._oom_kills = oom_kills()

    def run(
        self, batch: BatchDirectory, settings: Dict[str, Any], calls: Iterable[Dict[str, Any]]
    ) -> None:
        """Run calls, as soon as there is a worker for each."""
        settings = dict(settings)
        limit = settings.pop("max_workers", None) or self._cores
        kind = json.dumps(settings, sort_keys=True)
        with self._lock:
            self._limit = limit
            self._queue.extend(DirectCall(call, batch, settings, kind) for call in calls)
            self._hand_out()

    def cancel(self, ids: Iterable[str]) -> Set[str]:
        """Drop calls that wait, and end the workers of those that run.

        Returns:
            Those of the ids that are no call of ours.
        """
        wanted = set(ids)
        left = set(wanted)
        with self._lock:
            dropped = [direct for direct in self._queue if direct.id in wanted]
            for direct in dropped:
                self._queue.remove(direct)
                left.discard(direct.id)
                self._send({"event": "cancelled", "call": direct.id})
            for worker in list(self._workers):
                if worker.current is not None and worker.current.id in wanted:
                    worker.current.cancelled = True
                    left.discard(worker.current.id)
                    self.end(worker)
        return left

    def cancel_run(self, batch: BatchDirectory) -> None:
        """Cancel whatever is left of a run, and wait until it has ended."""
        with self._lock:
            left = [direct.id for direct in self._queue if direct.batch.path == batch.path]
            self.cancel(left + self._running(batch))
            self._ended.wait_for(lambda: not self._running(batch), 2 * self.grace)

    def _running(self, batch: BatchDirectory) -> List[str]:
        return [
            worker.current.id
            for worker in self._workers + list(self._dying)
            if worker.current is not None and worker.current.batch.path == batch.path
        ]

    def find(self, id: str) -> Optional[WarmWorker]:
        """Return the worker that runs a call now."""
        with self._lock:
            for worker in self._workers:
                if worker.current is not None and worker.current.id == id:
                    return worker
        return None

    def let_go(self) -> None:
        """The client has gone: what no worker has begun is for it to send again."""
        with self._lock:
            self._queue.clear()
            for worker in self._workers:
                if worker.current is not None and not worker.current.started:
                    worker.take_back()

    def close(self) -> None:
        """The agent ends: nobody waits any longer for those that were told to end."""
        for worker in list(self._dying):
            worker.kill(signal.SIGKILL)

    def _hand_out(self) -> None:
        """Give waiting calls to workers; the lock is held."""
        while self._queue:
            direct = self._queue[0]
            idle = [worker for worker in self._workers if worker.current is None]
            fitting = [worker for worker in idle if worker.kind == direct.kind]
            if fitting:
                worker = fitting[-1]
            elif len(self._workers) < self._limit:
                try:
                    worker = WarmWorker(self.program, direct)
                except OSError as error:
                    self._queue.popleft()
                    self._report_death(direct, 127, str(error))
                    continue
                self._workers.append(worker)
                threading.Thread(
                    target=self._listen, args=(worker,), name="clustrix-worker", daemon=True
                ).start()
            elif idle:
                self._workers.remove(idle[0])
                idle[0].dismiss()
                continue
            else:
                return
            self._queue.popleft()
            worker.hand(direct)

    def end(self, worker: Any) -> None:
        """Ask a worker, or an orphaned one, to end, and see to it."""
        with self._lock:
            if worker in self._workers:
                self._workers.remove(worker)
            self._dying.add(worker)
        worker.kill(signal.SIGTERM)

        def finish() -> None:
            worker.kill(signal.SIGKILL)
            self._dying.discard(worker)

        timer = threading.Timer(self.grace, finish)
        timer.daemon = True
        timer.start()
        with self._lock:
            self._hand_out()

    def _listen(self, worker: WarmWorker) -> None:
        """Look after a worker until it has ended."""
        try:
            self._pass_on_all(worker)
        except Exception:  # it does not say what a worker of ours says
            worker.kill(signal.SIGKILL)
        returncode = worker.wait()
        os.close(worker.read_end)
        with self._lock:
            worker.dismiss()
            if worker in self._workers:
                self._workers.remove(worker)
            direct, worker.current = worker.current, None
            if direct is not None:
                self._report_end(worker, direct, returncode)
            self._hand_out()
            self._ended.notify_all()

    def _pass_on_all(self, worker: WarmWorker) -> None:
        """Pass on what a worker says, until it says no more."""
        inbox = Inbox()
        poll = select.poll()
        poll.register(worker.read_end, select.POLLIN)
        while True:
            if not poll.poll(1000):
                # A process that the call left behind may hold the pipe open.
                if worker.has_ended():
                    return
                self._dismiss_if_idle(worker)
                continue
            data = os.read(worker.read_end, READ_SIZE)
            if not data:
                return
            self._hold()
            for message, body in merged(inbox.feed(data)):
                self._pass_on(worker, message, body)

    def _dismiss_if_idle(self, worker: WarmWorker) -> None:
        with self._lock:
            idle = worker.current is None and worker in self._workers
            if idle and time.monotonic() - worker.idle_since > IDLE_SECONDS:
                self._workers.remove(worker)
                worker.dismiss()

    def _pass_on(self, worker: WarmWorker, message: Message, body: bytes) -> None:
        direct = worker.current
        if direct is None or message["event"] != "result":
            if direct is not None:
                direct.started = True
            self._send(message, body)
            return
        if direct.cancelled:
            return  # the worker is on its way out: what it still brought about is not wanted
        body = whole(direct.batch, message, body)
        # The next call first: the worker can be busy while the result travels.
        with self._lock:
            worker.current = None
            worker.idle_since = time.monotonic()
            self._hand_out()
        self._send(message, body)

    def _report_end(self, worker: WarmWorker, direct: DirectCall, returncode: int) -> None:
        """Say what became of the call that a worker died under."""
        if direct.cancelled:
            direct.batch.acknowledge([direct.id])
            self._send({"event": "cancelled", "call": direct.id})
            return
        result = find(direct.batch, direct.id, "result")
        if result is None:
            self._report_death(direct, returncode, worker.stderr_tail(), worker.peak_memory)
        else:
            self._send(*result)

    def _report_death(
        self,
        direct: DirectCall,
        returncode: int,
        stderr: str,
        peak_memory: Optional[int] = None,
    ) -> None:
        self._send(
            {
                "event": "worker_died",
                "call": direct.id,
                "returncode": returncode,
                "stderr_tail": stderr,
                "started": direct.started,
                "peak_memory": peak_memory,
                "out_of_memory": self._ran_out_of_memory(),
            }
        )

    def _ran_out_of_memory(self) -> bool:
        """Return whether the kernel ended processes of our group since this was last asked."""
        before, self._oom_kills = self._oom_kills, oom_kills()
        return before is not None and self._oom_kills is not None and self._oom_kills > before


def merged(messages: List[Any]) -> Iterable[Any]:
    """Join neighbouring messages of one call, as a chatty call, or many short ones, drown the rest.

    Log events become one. A start is left out if its call's result, which tells of it, follows.
    """
    pending: Optional[Message] = None
    for message, body in messages:
        if pending is not None and pending["call"] == message["call"]:
            if pending["event"] == message["event"] == "log":
                pending["lines"].extend(message["lines"])
                continue
            if pending["event"] == "started" and "header" in message:
                pending = None
        if pending is not None:
            yield pending, b""
            pending = None
        if message["event"] in ("log", "started"):
            pending = message
        else:
            yield message, body
    if pending is not None:
        yield pending, b""
