"""The agent: does on the cluster what the client asks for, and says what happens there.

Every request is a message `{"op", "id", ...}` and is answered by `{"re": id, "ok"}` or
`{"re": id, "error"}`. What happens without being asked for is an event, `{"event", ...}`.
"""

import getpass
import os
import signal
import sys
import threading
import time
from typing import Any, Callable, Dict, List, Optional

from ..environments import activation, commands, environments, probe, pythons
from ..wire.failures import Failure, describe
from ..wire.files import write_all
from ..wire.frames import FileBody, Message
from ..wire.link import Link
from ..wire.patience import Patience
from ..wire.processes import HOST
from . import listing
from .agent_log import AgentLog, named
from .file_operations import FileOperations
from .loader import Program
from .pool import Pool
from .run_directories import Journal
from .store_operations import Exchange
from .watch import Watcher
from .workdir import WorkDir, plain_name

PROTOCOL = 1
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
        self._journal: Optional[Journal] = None
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
        self._exchange = Exchange(lambda: self._dir)
        self._files = FileOperations(self._link.send)
        hold = self._link.wait_until_sendable
        self._pool = Pool(self._send_event, hold)
        self._status = commands.StatusPoller(self._link.send, self._has_jobs)
        self._watcher = Watcher(self._send_event, hold, self._status.wake, self._log.write)
        # Answered in the order of arrival, on the reading thread: quick, or order matters.
        self._in_order: Dict[str, Callable[[Message, Any], Any]] = {
            **self._exchange.in_order,
            **self._files.in_order,
            "ack": self._ack,
            "attach": self._attach,
            "cancel": self._cancel,
            "had": self._had,
            "ping": self._ping,
            "poll_status": self._poll_status,
            "run": self._run,
            "submitted": self._submitted,
        }
        # These take their time, each on a thread of its own.
        self._aside: Dict[str, Callable[[Message, Any], Any]] = {
            **self._exchange.aside,
            **self._files.aside,
            "abandon_build": self._abandon_build,
            "build_environment": self._build_environment,
            "close_run": self._close_run,
            "command": self._command,
            "configure": self._configure,
            "diagnose": self._diagnose,
            "discard": self._discard,
            "environment": self._environment,
            "find_conda": self._find_conda,
            "find_python": self._find_python,
            "find_pythons": self._find_pythons,
            "list_jobs": self._list_jobs,
            "look": self._look,
            "open_run": self._open_run,
            "probe": self._probe,
            "read_log": self._read_log,
            "submit": self._submit,
        }

    def serve(self) -> None:
        """Greet the client and answer it until it goes."""
        self._link.start()
        self._link.send(
            {
                "event": "hello",
                "protocol": PROTOCOL,
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
        if op in self._in_order:
            self._answer(self._in_order[op], message, body)
        elif op in self._exchange.in_turn:
            act = self._exchange.in_turn[op]
            self._exchange.take_turn(lambda: self._answer(act, message, body))
        elif op in self._aside:
            thread = threading.Thread(
                target=self._answer,
                args=(self._aside[op], message, body),
                name="clustrix-" + op,
                daemon=True,
            )
            if op in ("submit", "close_run"):
                self._to_finish = [t for t in self._to_finish if t.is_alive()] + [thread]
            thread.start()
        else:
            self._reply(message, error=Failure("ValueError", "no such operation: {}".format(op)))

    def _answer(self, act: Callable[[Message, Any], Any], message: Message, body: Any) -> None:
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
    def _runs(self) -> Journal:
        if self._journal is None:
            raise Failure("NotConfigured", "`configure` comes first")
        return self._journal

    def _has_jobs(self) -> bool:
        return self._watcher.is_waiting_for_jobs()

    # --- the host -------------------------------------------------------------------------

    def _ping(self, message: Message, body: Any) -> Message:
        return {"time": time.time()}

    def _configure(self, message: Message, body: Any) -> Message:
        work_dir = WorkDir(message.get("work_dir"), alone=bool(message.get("alone")))
        self._pool.program = work_dir.install(self._program)
        self._prologue = "\n".join(message.get("prologue") or ())
        self._work_dir = work_dir
        self._log.open(work_dir.path)
        version = ".".join(map(str, sys.version_info[:3]))
        self._log.write("begins on {} with Python {}".format(HOST, version))
        self._hold_above = float(message.get("hold_above", "inf"))
        self._pool.grace = message.get("worker_grace", Patience().worker_grace)
        self._journal = Journal(work_dir)
        return {
            "work_dir": work_dir.path,
            "free_bytes": work_dir.free_bytes(),
            "far_side": self._pool.program,
            **self._exchange.facts(),
        }

    def _find_python(self, message: Message, body: Any) -> Message:
        prologue = "\n".join(message.get("prologue") or ())
        return pythons.find(message.get("python"), message["prefer"], prologue)

    def _find_pythons(self, message: Message, body: Any) -> Message:
        return {"found": pythons.find_all("\n".join(message.get("prologue") or ()))}

    def _find_conda(self, message: Message, body: Any) -> Message:
        return activation.find_conda(message["name"], "\n".join(message.get("prologue") or ()))

    def _probe(self, message: Message, body: Any) -> Message:
        return probe.ask(self._pool.program, message)

    def _command(self, message: Message, body: Any) -> Message:
        return commands.run(message["argv"], message.get("timeout"), prologue=self._prologue)

    def _poll_status(self, message: Message, body: Any) -> None:
        wanted = message.get("command")
        self._status.configure(dict(message, prologue=self._prologue) if wanted else None)

    # --- environments ---------------------------------------------------------------------

    def _environment(self, message: Message, body: Any) -> Message:
        place = self._dir.environment(message["name"])
        return place.watch(message.get("token"), message["offset"], message["wait"])

    def _build_environment(self, message: Message, body: Any) -> Message:
        place, recipe = self._dir.environment(message["name"]), message["recipe"]
        store = self._dir.store.path
        for name, blob in recipe["wheels"].items():
            recipe["wheels"][name] = os.path.join(store, plain_name(blob))
        if recipe["uv"]:
            recipe["uv"] = os.path.join(store, plain_name(recipe["uv"]))
        return environments.begin(place, self._pool.program, message)

    def _abandon_build(self, message: Message, body: Any) -> None:
        place, token = self._dir.environment(message["name"]), message["token"]
        if place.outcome(token) is None:
            place.end(token, message["reason"])

    def _open_sink(self, message: Message) -> Any:
        """A content that arrives in one large piece goes to the store at once."""
        return self._exchange.open_sink(message) if self._work_dir is not None else None

    # --- calls ----------------------------------------------------------------------------

    def _open_run(self, message: Message, body: Any) -> Message:
        # A client that reconnects opens its runs, and whoever was opening one asks again.
        with self._opening:
            self._runs.take_over(message["run"], message.get("client"), FINISH_SECONDS)
            self._runs.wait_for_submissions(message["run"], FINISH_SECONDS)
            known, acknowledged = self._runs.open(message["run"])
        return {"known": known, "acknowledged": acknowledged}

    def _run(self, message: Message, body: Any) -> None:
        batch = self._runs.direct(message["run"])
        self._pool.run(batch, message["pool"], self._runs.calls_of(message, body))

    def _submit(self, message: Message, body: Any) -> Message:
        run = message["run"]
        calls = self._runs.calls_of(message, body)
        batch = self._runs.create(run, message["batch"], message["script"], calls)
        argv = [batch.script if part == "{script}" else part for part in message["command"]]
        outcome = commands.run(argv, cwd=batch.path, prologue=self._prologue)
        outcome["directory"] = batch.path
        if outcome["returncode"] == 0:
            self._runs.note_submission(batch, outcome["stdout"])
            self._watcher.add(run, batch, [call["id"] for call in calls])
            self._status.wake()
        else:
            self._runs.discard(run, message["batch"])
        return outcome

    def _discard(self, message: Message, body: Any) -> None:
        self._runs.discard(message["run"], message["batch"])

    def _submitted(self, message: Message, body: Any) -> None:
        self._runs.note_job(message["run"], message["batch"], message["job"])

    def _attach(self, message: Message, body: Any) -> None:
        run = message["run"]
        for batch, ids in self._runs.group(run, message["calls"]):
            self._watcher.add(run, batch, ids, message.get("heard"))
        self._status.wake()

    def _had(self, message: Message, body: Any) -> None:
        self._watcher.pass_over(message["run"], message["calls"])

    def _look(self, message: Message, body: Any) -> Message:
        return {"present": self._runs.look(message["run"], message["calls"])}

    def _diagnose(self, message: Message, body: Any) -> Message:
        worker = self._pool.find(message["call"])
        found = self._runs.diagnose(message["run"], message["call"])
        if worker is not None:
            found["stderr_tail"] = worker.stderr_tail()
        return found

    def _list_jobs(self, message: Message, body: Any) -> Message:
        return {"jobs": listing.submitted(self._dir, message["named"])}

    def _read_log(self, message: Message, body: Any) -> Message:
        return listing.read_log(self._dir.batch(message["run"], message["batch"]), message)

    def _cancel(self, message: Message, body: Any) -> None:
        left = self._pool.cancel(message["calls"])
        for worker in self._runs.orphans(message["run"], left) if left else ():
            self._pool.end(worker)

    def _ack(self, message: Message, body: Any) -> None:
        self._watcher.forget(message["run"], message["calls"])
        self._runs.acknowledge(message["run"], message["calls"], bool(message.get("keep")))

    def _close_run(self, message: Message, body: Any) -> None:
        self._pool.cancel_run(self._runs.direct(message["run"], make=False))
        self._watcher.forget_run(message["run"])
        self._runs.close(message["run"], bool(message.get("keep")))
        self._exchange.close_run(message["run"])


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a uid without a name, as in some containers (OSError from 3.13)
        return str(os.getuid())
