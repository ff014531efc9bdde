"""The agent: does on the cluster what the client asks for, and says what happens there.

Every request is a message `{"op", "id", ...}` and is answered by `{"re": id, "ok"}` or
`{"re": id, "error"}`. What happens without being asked for is an event, `{"event", ...}`.
"""

import getpass
import json
import os
import signal
import sys
import threading
import time
import zlib
from typing import Any, Dict, List, Optional

from ..environments import activation, commands, environments, probe, pythons
from ..wire import layout, protocol
from ..wire.failures import Failure, describe
from ..wire.files import write_all
from ..wire.frames import FileBody, Message
from ..wire.link import Link
from ..wire.patience import Patience
from ..wire.processes import HOST
from ..wire.protocol import on, on_attached
from . import listing
from .agent_log import AgentLog, named
from .file_operations import FileOperations
from .loader import Program
from .pool import Pool
from .run_directories import RunDirectories
from .store_operations import StoreOperations
from .watch import Watcher
from .workdir import WorkDir, plain_name

# How long the agent outlives its client to bring a submission to its end.
FINISH_SECONDS = 90.0


def main(program: Program) -> None:
    """Talk to the client on the standard streams until it goes."""
    # A client that goes away is noticed where we read; writing must not kill us before.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    # Not to be ended by the terminal, or the sshd session, that the client came through.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    agent = Agent(program, silence=float(sys.argv[3]))
    # A later agent of the same client asks this one to end.
    signal.signal(signal.SIGTERM, lambda *_: agent.leave())
    agent.serve()
    # Threads may be blocked on what is gone; warm workers finish their calls by themselves.
    os._exit(0)


class Agent:
    """One client's presence on the cluster.

    Args:
        program: The far side's sources, for the workers.
        silence: Seconds without a word from the client after which it counts as gone.
    """

    def __init__(self, program: Program, silence: float) -> None:
        self._program = program
        self._work_dir: Optional[WorkDir] = None
        self._run_directories: Optional[RunDirectories] = None
        self._prologue = ""
        self._hold_above = float("inf")
        self._to_finish: List[threading.Thread] = []
        self._opening = threading.Lock()
        self._log = AgentLog()
        self._link = Link(
            read=lambda size: os.read(0, size),
            write=lambda data: write_all(1, data),
            on_message=self._on_message,
            on_end=lambda reason: self._log.write("ends: {}".format(named(reason))),
            ping={"event": "ping"},
            silence=silence,
            open_sink=self._open_sink,
        )
        self._exchange = StoreOperations(lambda: self._dir)
        self._files = FileOperations(self._link.send)
        hold = self._link.wait_until_sendable
        self._pool = Pool(self._send_event, hold)
        self._status = commands.StatusPoller(self._link.send, self._has_jobs)
        self._watcher = Watcher(self._send_event, hold, self._status.wake, self._log.write)
        # Answered in the order of arrival, on the reading thread: quick, or order matters.
        self._acts: Dict[str, protocol.Act] = dict(
            [
                *self._exchange.acts,
                *self._files.acts,
                on(protocol.abandon_build, self._abandon_build),
                on(protocol.ack, self._ack),
                on(protocol.attach, self._attach),
                on(protocol.build_environment, self._build_environment),
                on(protocol.cancel, self._cancel),
                on(protocol.close_run, self._close_run),
                on(protocol.command, self._command),
                on(protocol.configure, self._configure),
                on(protocol.diagnose, self._diagnose),
                on(protocol.discard, self._discard),
                on(protocol.environment, self._environment),
                on(protocol.find_conda, self._find_conda),
                on(protocol.find_python, self._find_python),
                on(protocol.find_pythons, self._find_pythons),
                on(protocol.had, self._had),
                on(protocol.list_jobs, self._list_jobs),
                on(protocol.look, self._look),
                on(protocol.open_run, self._open_run),
                on(protocol.ping, self._ping),
                on(protocol.poll_status, self._poll_status),
                on(protocol.probe, self._probe),
                on(protocol.read_log, self._read_log),
                on_attached(protocol.run, self._run),
                on_attached(protocol.submit, self._submit),
                on(protocol.submitted, self._submitted),
            ]
        )

    def serve(self) -> None:
        """Greet the client and answer it until it goes."""
        self._link.start()
        self._link.send(
            {
                "event": "hello",
                "protocol": protocol.VERSION,
                "python": list(sys.version_info[:3]),
                "executable": sys.executable,
                "host": HOST,
                "user": _user(),
                "uid": os.getuid(),
                "home": os.path.expanduser("~"),
                "pid": os.getpid(),
                "time": time.time(),
                "cpus": len(os.sched_getaffinity(0)),
            }
        )
        self._link.wait_ended()
        self._pool.let_go()
        for thread in list(self._to_finish):
            # A job that is being submitted must be written down, whoever waits for it.
            thread.join(FINISH_SECONDS)
        self._pool.close()

    def leave(self) -> None:
        """End as if the client had gone."""
        # Not from within a signal handler: the thread it interrupts may hold what is needed.
        threading.Thread(target=self._link.end, args=(EOFError("superseded"),)).start()

    # --- requests and replies -------------------------------------------------------------

    def _on_message(self, message: Message, body: Any) -> None:
        op = message.get("op")
        if op not in self._acts:
            self._reply(message, error=Failure("ValueError", "no such operation: {}".format(op)))
            return
        act, order = self._acts[op], protocol.OPERATIONS[op].order
        if order == protocol.IN_ORDER:
            self._answer(act, message, body)
        elif order == protocol.IN_TURN:
            self._exchange.take_turn(lambda: self._answer(act, message, body))
        else:
            thread = threading.Thread(
                target=self._answer,
                args=(act, message, body),
                name="clustrix-" + op,
                daemon=True,
            )
            if op in ("submit", "close_run"):
                self._to_finish = [t for t in self._to_finish if t.is_alive()] + [thread]
            thread.start()

    def _answer(self, act: protocol.Act, message: Message, body: Any) -> None:
        try:
            answer = act(message, body)
        except Exception as error:  # whatever it is, the client must hear of it
            self._log.write("{} failed: {}".format(message.get("op"), named(error)))
            self._reply(message, error=error)
        else:
            answer, attachment = answer if isinstance(answer, tuple) else (answer, b"")
            self._reply(message, ok=answer or {}, body=attachment)

    def _reply(
        self,
        message: Message,
        ok: Any = None,
        error: Optional[Exception] = None,
        body: bytes = b"",
    ) -> None:
        if "id" not in message:
            if error is not None:
                self._link.send(
                    {"event": "refused", "op": message.get("op"), "error": describe(error)}
                )
            return
        reply: Message = {"re": message["id"]}
        if error is not None:
            reply["error"] = describe(error)
        else:
            reply["ok"] = ok
        self._link.send(reply, body)

    def _send_event(self, event: Message, body: Any = b"") -> None:
        """Tell the client what happened; a large result waits until it is asked for."""
        if isinstance(body, FileBody) and len(body) > self._hold_above:
            event = dict(event, fetch_from=body.offset, fetch_size=len(body))
            body = b""
        self._link.send(event, body)

    @property
    def _dir(self) -> WorkDir:
        if self._work_dir is None:
            raise Failure("NotConfigured", "`configure` comes first")
        return self._work_dir

    @property
    def _runs(self) -> RunDirectories:
        if self._run_directories is None:
            raise Failure("NotConfigured", "`configure` comes first")
        return self._run_directories

    def _has_jobs(self) -> bool:
        return self._watcher.is_waiting_for_jobs()

    # --- the host -------------------------------------------------------------------------

    def _ping(self) -> protocol.Time:
        return {"time": time.time()}

    def _configure(
        self,
        *,
        work_dir: Optional[str] = None,
        alone: bool = False,
        prologue: Optional[List[str]] = None,
        hold_above: float = float("inf"),
        worker_grace: Optional[float] = None,
    ) -> protocol.Configured:
        directory = WorkDir(work_dir, alone=alone)
        self._pool.program = directory.install(self._program)
        self._prologue = _lines(prologue)
        self._work_dir = directory
        self._log.open(directory.path)
        version = ".".join(map(str, sys.version_info[:3]))
        self._log.write("begins on {} with Python {}".format(HOST, version))
        self._hold_above = float(hold_above)
        self._pool.grace = Patience().worker_grace if worker_grace is None else worker_grace
        self._run_directories = RunDirectories(directory)
        return {
            "work_dir": directory.path,
            "free_bytes": directory.free_bytes(),
            "far_side": self._pool.program,
            "store": self._exchange.store_id(),
        }

    def _find_python(
        self,
        *,
        python: Optional[str] = None,
        prefer: List[int],
        prologue: Optional[List[str]] = None,
    ) -> protocol.Interpreters:
        return pythons.find(python, prefer, _lines(prologue))

    def _find_pythons(self, *, prologue: Optional[List[str]] = None) -> protocol.AllInterpreters:
        return {"found": pythons.find_all(_lines(prologue))}

    def _find_conda(
        self, *, name: str, prologue: Optional[List[str]] = None
    ) -> protocol.CondaEnvironment:
        return activation.find_conda(name, _lines(prologue))

    def _probe(
        self,
        *,
        python: str,
        prologue: Optional[List[str]] = None,
        environment: Optional[Dict[str, str]] = None,
        question: Dict[str, Any],
    ) -> protocol.InterpreterFacts:
        return probe.ask(self._pool.program, python, question, _lines(prologue), environment or {})

    def _command(self, *, argv: List[str], timeout: Optional[float] = None) -> protocol.Ended:
        return commands.run(argv, timeout, prologue=self._prologue)

    def _poll_status(
        self,
        *,
        command: Optional[List[str]] = None,
        interval_min: float = 1.0,
        interval_max: float = 30.0,
    ) -> protocol.Nothing:
        self._status.configure(command, interval_min, interval_max, self._prologue)
        return {}

    # --- environments ---------------------------------------------------------------------

    def _environment(
        self, *, name: str, token: Optional[str] = None, offset: int, wait: float
    ) -> protocol.BuildState:
        return self._dir.environment(name).watch(token, offset, wait)

    def _build_environment(
        self,
        *,
        name: str,
        token: str,
        python: str,
        prologue: Optional[List[str]] = None,
        environment: Optional[Dict[str, str]] = None,
        recipe: Dict[str, Any],
        script: Optional[str] = None,
        command: Optional[List[str]] = None,
    ) -> protocol.BuildBegun:
        place, store = self._dir.environment(name), self._dir.store.path
        for wheel, blob in recipe["wheels"].items():
            recipe["wheels"][wheel] = os.path.join(store, plain_name(blob))
        if recipe["uv"]:
            recipe["uv"] = os.path.join(store, plain_name(recipe["uv"]))
        lines = _lines(prologue)

        def start() -> protocol.BuildBegun:
            if script is not None:
                return environments.submit(place, token, script, command or [], lines)
            builder = layout.build_command(python, self._pool.program, place.path, token)
            return environments.start(place, token, builder, lines, environment or {})

        return environments.begin(place, token, recipe, start)

    def _abandon_build(self, *, name: str, token: str, reason: str) -> protocol.Nothing:
        place = self._dir.environment(name)
        if place.outcome(token) is None:
            place.end(token, reason)
        return {}

    def _open_sink(self, message: Message) -> Any:
        """Return where a content goes that arrives in one large piece: to the store at once."""
        return self._exchange.open_sink(message) if self._work_dir is not None else None

    # --- calls ----------------------------------------------------------------------------

    def _open_run(self, *, run: str, client: Optional[str] = None) -> protocol.RunOpened:
        # A client that reconnects opens its runs, and whoever was opening one asks again.
        with self._opening:
            self._runs.take_over(run, client, FINISH_SECONDS)
            self._runs.wait_for_submissions(run, FINISH_SECONDS)
            known, acknowledged = self._runs.open(run)
        return {"known": known, "acknowledged": acknowledged}

    def _run(
        self,
        attached: protocol.Attached,
        *,
        run: str,
        pool: Dict[str, Any],
        calls: Optional[List[Dict[str, Any]]] = None,
        calls_attached: bool = False,
    ) -> protocol.Nothing:
        batch = self._runs.direct(run)
        self._pool.run(batch, pool, _calls(calls, attached, calls_attached))
        return {}

    def _submit(
        self,
        attached: protocol.Attached,
        *,
        run: str,
        batch: str,
        script: str,
        command: List[str],
        calls: Optional[List[Dict[str, Any]]] = None,
        calls_attached: bool = False,
    ) -> protocol.Submission:
        every = _calls(calls, attached, calls_attached)
        directory = self._runs.create(run, batch, script, every)
        argv = [directory.script if part == "{script}" else part for part in command]
        ended = commands.run(argv, cwd=directory.path, prologue=self._prologue)
        if ended["returncode"] == 0:
            self._runs.note_submission(directory, ended["stdout"])
            self._watcher.add(run, directory, [call["id"] for call in every])
            self._status.wake()
        else:
            self._runs.discard(run, batch)
        return {
            "returncode": ended["returncode"],
            "stdout": ended["stdout"],
            "stderr": ended["stderr"],
            "directory": directory.path,
        }

    def _discard(self, *, run: str, batch: str) -> protocol.Nothing:
        self._runs.discard(run, batch)
        return {}

    def _submitted(self, *, run: str, batch: str, job: str) -> protocol.Nothing:
        self._runs.note_job(run, batch, job)
        return {}

    def _attach(
        self, *, run: str, calls: List[str], heard: Optional[Dict[str, int]] = None
    ) -> protocol.Nothing:
        for batch, ids in self._runs.group(run, calls):
            self._watcher.add(run, batch, ids, heard)
        self._status.wake()
        return {}

    def _had(self, *, run: str, calls: List[str]) -> protocol.Nothing:
        self._watcher.pass_over(run, calls)
        return {}

    def _look(self, *, run: str, calls: List[str]) -> protocol.Present:
        return {"present": self._runs.look(run, calls)}

    def _diagnose(self, *, run: str, calls: List[str]) -> protocol.Diagnoses:
        workers = {call: self._pool.find(call) for call in calls}
        found = self._runs.diagnose(run, calls)
        for call, worker in workers.items():
            if worker is not None and call in found:
                found[call]["stderr_tail"] = worker.stderr_tail()
        return {"calls": found}

    def _list_jobs(self, *, named: List[str]) -> protocol.Jobs:
        return {"jobs": listing.submitted(self._dir, named)}

    def _read_log(
        self,
        *,
        run: str,
        batch: str,
        index: int,
        call: Optional[str] = None,
        at: Dict[str, int],
        to_end: bool,
    ) -> protocol.LogPiece:
        return listing.read_log(self._dir.batch(run, batch), index, call, at, to_end)

    def _cancel(self, *, run: str, calls: List[str]) -> protocol.Nothing:
        left = self._pool.cancel(calls)
        for worker in self._runs.orphans(run, left) if left else ():
            self._pool.end(worker)
        return {}

    def _ack(self, *, run: str, calls: List[str], keep: bool = False) -> protocol.Nothing:
        self._watcher.forget(run, calls)
        self._runs.acknowledge(run, calls, keep)
        return {}

    def _close_run(self, *, run: str, keep: bool = False) -> protocol.Nothing:
        self._pool.cancel_run(self._runs.direct(run, make=False))
        self._watcher.forget_run(run)
        self._runs.close(run, keep)
        self._exchange.close_run(run)
        return {}


def _lines(prologue: Optional[List[str]]) -> str:
    return "\n".join(prologue or ())


def _calls(
    calls: Optional[List[Dict[str, Any]]], attached: protocol.Attached, are_attached: bool
) -> List[Dict[str, Any]]:
    """Return the calls of a request, or of what came with it; their names are safe in paths."""
    if are_attached:
        calls = json.loads(zlib.decompress(attached.body).decode("utf-8"))
    for call in calls or ():
        plain_name(call["id"])
    return calls or []


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a uid without a name, as in some containers (OSError from 3.13)
        return str(os.getuid())
