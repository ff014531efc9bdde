"""One session of a flow run: its calls get there what they need, and run there.

A cluster with a login node has one host. Where there is none, each pod is one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Any

from clustrix_prefect.connections.agent import AgentClient
from clustrix_prefect.dispatch.call import Call, CallState
from clustrix_prefect.dispatch.login_notice import tell_of_login
from clustrix_prefect.dispatch.placement import CallListener, Executor, RunContext, Waiter
from clustrix_prefect.engine import CallQueued
from clustrix_prefect.environments.building import environments_of
from clustrix_prefect.environments.interpreters import FarPython
from clustrix_prefect.environments.preflight import Code
from clustrix_prefect.errors import ClustrixError, ConnectionFailed
from clustrix_prefect.far_side.wire import protocol
from clustrix_prefect.sessions.login_wait import LoginWait
from clustrix_prefect.sessions.session import Session
from clustrix_prefect.transfer.download import fetch

# Far below what a frame holds.
_IDS_PER_MESSAGE = 10_000


class RunSession:
    """What a flow run has at the other end of one session.

    Args:
        session: The open connection.
        run: The flow run.
        listener: Is told what becomes of them.
        executor: Makes the way to run them.
        run_key: The run's directory there, where that is not the same on all hosts.

    Attributes:
        known: Calls that an earlier process of this flow run left here, by id.
        acknowledged: The ids of calls whose outcome it has had.
    """

    def __init__(
        self,
        session: Session,
        run: RunContext,
        listener: CallListener,
        executor: Callable[[RunSession], Executor],
        run_key: str | None = None,
    ) -> None:
        self.session = session
        self.run_key = run_key or run.run_key
        self._run = run
        self._listener = listener
        self._preparations: dict[str, Future[None]] = {}
        # Calls whose outcome was had and stays there, and whether their files are kept after that.
        self._retained: dict[str, bool] = {}
        self._waited_for_login = False
        self._context = copy_context()  # which Prefect server the flow run reports to
        self._lock = threading.Lock()
        # Made first: events of this run may come as soon as it is open.
        self._executor = executor(self)
        try:
            self.known, self.acknowledged = session.open_run(self)
        except BaseException:
            self._executor.close()
            raise

    @property
    def python_note(self) -> str:
        """Which interpreter runs the calls, and why; empty where one is to be built for them."""
        if self.session.cluster.managed_environment is not None:
            return ""
        chosen = FarPython(self.session.python, self.session.python_version)
        return f"Tasks run under {chosen}: {self.session.why_python}"

    @property
    def python_version(self) -> tuple[int, int]:
        """The Python there, if nothing else is asked for."""
        return self.session.python_version

    @property
    def store(self) -> str:
        """The id of the store that calls share."""
        return self.session.store

    def is_ready_for(self, waiter: Waiter) -> bool:
        """Return that a call can be packed: the host is known since the session is open."""
        return True

    def interpreter_for(self, code: Code) -> FarPython:
        """Return the interpreter that runs this code, which may still have to be built.

        Raises:
            ConfigurationError: What its environment is to hold cannot be told.
            PythonVersionMismatch: The cluster has no Python that will do.
        """
        return environments_of(self.session).interpreter_for(code)

    # --- towards the cluster ---------------------------------------------------------------

    def send(self, call: Call) -> None:
        """Send a call, or let it wait until the interpreter for it is ready."""
        self.expect(call)
        call.attempt.sent_at = call.attempt.sent_over = None
        if (wait := self.session.login_wait) is not None:
            self._wait_in_queue(call, wait.reason)
        ready = self._preparation_of(call.package.code)
        if ready is None:
            self._send_on(call)
            return
        if not ready.done():
            call.post(CallQueued("Its environment is being prepared"))
        ready.add_done_callback(partial(self._after, self._send_on, call, call.id))

    def attach(self, call: Call, known: dict[str, Any]) -> None:
        """Take up a call that an earlier process sent here."""
        self.expect(call)
        call.attempt.sent_at = 0.0  # some time ago
        self._executor.attach(call, known)

    def cancel(self, calls: Iterable[Call]) -> None:
        """Stop these calls where they are."""
        self._executor.cancel(calls)

    def expect(self, call: Call) -> None:
        """This call's events concern us."""
        call.attempt.placement = self
        call.context["run"] = self.run_key
        self.session.expect(call.id, self)

    def watch(self, call: Call) -> None:
        """Have the agent tell what becomes of a call that an earlier one left, from here on."""
        call.attempt.sent_over = agent = self.session.agent
        with suppress(ConnectionFailed):  # a later agent will be told
            heard = {call.id: call.attempt.lines_heard}
            agent.send(protocol.attach(run=self.run_key, calls=[call.id], heard=heard))

    def diagnose(self, call: Call) -> protocol.Diagnosis:
        """Return what is to be seen of a call.

        Raises:
            ClustrixError: The cluster does not say.
        """
        request = protocol.diagnose(run=self.run_key, calls=[call.id])
        return self.session.request(request)["calls"].get(call.id, {})

    def fetch(self, call: Call, size: int, start: int) -> bytearray:
        """Return the body of a large result: it waits on the cluster until it is opened."""

        def fetch_all(agent: AgentClient) -> bytearray:
            # Grown as it comes: the size is what the far side says.
            data = bytearray()
            for _, piece in fetch(agent, size, run=self.run_key, call=call.id, start=start):
                data += piece
            return data

        return self.session.with_agent(fetch_all)

    def acknowledge(self, calls: Iterable[Call], keep: bool) -> None:
        """These calls are over; their files may go.

        Raises:
            ClustrixError: The cluster is gone.
        """
        ids = [call.id for call in calls]
        for call_id in ids:
            self.session.forget(call_id)
        self._acknowledge(ids, keep)

    def retain(self, call: Call, keep: bool) -> None:
        """The call is over; its outcome stays there until the flow run is.

        Should this process be killed, the flow run goes on from what is there.
        """
        self.session.forget(call.id)
        with self._lock:
            self._retained[call.id] = keep

    def _acknowledge(self, ids: list[str], keep: bool) -> None:
        with self._lock:
            for call_id in ids:
                self._retained.pop(call_id, None)
        for start in range(0, len(ids), _IDS_PER_MESSAGE):
            some = ids[start : start + _IDS_PER_MESSAGE]
            self.session.send(protocol.ack(run=self.run_key, calls=some, keep=keep))

    def hold(self) -> None:
        """A result names files that are here: they are to stay for as long as the flow runs."""

    def here(self, far_time: float) -> float:
        """Return a time of the clock there as a time of this machine's."""
        return self.session.here(far_time)

    def forget_contents(self) -> None:
        """Take nothing for granted that was sent there for the flow run."""
        self.session.uploads.close_run(self.run_key)

    def end_left(self, left: Mapping[str, Any]) -> None:
        """Stop calls that an earlier process left here, and that nobody takes up."""
        for call_id in left:
            self.known.pop(call_id, None)
        self._executor.end_left(dict(left))

    def close(self, keep: bool, is_over: bool = True) -> None:
        """Clean up on the cluster.

        Args:
            keep: Whether the files of all calls stay.
            is_over: Whether the flow run is; if it will go on, so it does from the outcomes there.
        """
        if is_over and self.known:
            self.end_left(self.known.copy())
        self._executor.close()
        if is_over:
            self._let_go()
        self.session.close_run(self, keep=keep)

    def _let_go(self) -> None:
        """Nothing of the calls whose outcome was had is needed any more."""
        with self._lock:
            retained = dict(self._retained)
        with suppress(ClustrixError):  # it is gone, and what is there is left to `store prune`
            for keep in (True, False):
                self._acknowledge([id for id, kept in retained.items() if kept is keep], keep)

    def _preparation_of(self, code: Code) -> Future[None] | None:
        """What calls of this code have to wait for, if anything; begun by the first of them."""
        with self._lock:
            ready = self._preparations.get(code.sha256)
            if ready is None and not environments_of(self.session).is_ready(code):
                ready = self._preparations[code.sha256] = Future()
                threading.Thread(
                    target=self._prepare, args=(code, ready), name="clustrix-prepare", daemon=True
                ).start()
        return ready

    def _prepare(self, code: Code, ready: Future[None]) -> None:
        try:
            environments_of(self.session).prepare(code, self._run.log.say)
        except BaseException as error:
            ready.set_exception(error)
        else:
            ready.set_result(None)

    def _after(
        self, step: Callable[[Call], None], call: Call, call_id: str, ready: Future[None]
    ) -> None:
        """What was waited for is there, or failed: the next step of a call."""
        if call.id != call_id or call.state.is_final:
            return
        try:
            if (error := ready.exception()) is not None:
                self.give_up(call, error)
            else:
                step(call)
        except Exception as error:
            self.give_up(call, error)

    def give_up(self, call: Call, error: BaseException) -> None:
        """The call cannot be sent."""
        self._listener.fail_for_good(call, error)

    def _send_on(self, call: Call) -> None:
        """Send a call once the cluster's store has what it needs."""
        call.expects = environments_of(self.session).expected_of_nodes(call.package.code)
        contents = self.session.uploads
        ready = contents.bring(self.run_key, call.needs, self._run.log.say)
        if ready is None:
            self._hand_over(call)
        else:
            ready.add_done_callback(partial(self._after, self._hand_over, call, call.id))

    def _hand_over(self, call: Call) -> None:
        self._listener.limit_queueing(call)
        call.attempt.sent_at = time.time()
        self._executor.send(call)

    # --- from the cluster ------------------------------------------------------------------

    def on_event(self, event: dict[str, Any], body: bytes) -> None:
        """Runs on the connection's reader thread, so it only notes and passes on."""
        try:
            if not self._listener.on_event(event, body):
                self._executor.on_event(event)
        except Exception as error:  # whatever the far side wrote, its call has to end
            if not self._listener.cannot_take_in(event, error):
                raise

    def on_login_needed(self, wait: LoginWait) -> None:
        """The connection is opened again when a person has logged in."""
        self._waited_for_login = True
        self._context.copy().run(tell_of_login, self._run, wait)
        for call in self._unfinished():
            self._wait_in_queue(call, wait.reason)

    def _wait_in_queue(self, call: Call, reason: str) -> None:
        """Say what a call waits for; one that was seen to run runs on."""
        if call.state is CallState.QUEUED:
            call.attempt.queue_reason = reason
            call.post(CallQueued(reason))

    def on_reconnected(self, known: dict[str, Any]) -> None:
        """There is a new agent; these calls it found."""
        if self._waited_for_login:
            self._waited_for_login = False
            for call in self._unfinished():
                self._wait_in_queue(call, "The connection is open again")
        # Calls that still wait for their environment go their own way.
        agent = self.session.agent
        self._tell_of_retained()
        sent = [
            call
            for call in self._unfinished()
            if call.attempt.sent_at is not None and call.attempt.sent_over is not agent
        ]
        self._executor.on_reconnected(sent, known)
        # Their end was not heard: it came while nobody could be told.
        left = {id: facts for id, facts in known.items() if self._run.registry.is_over(id)}
        if left:
            self._executor.end_left(left)

    def _tell_of_retained(self) -> None:
        """A new agent reads what workers wrote; it need not keep what was had already."""
        with self._lock:
            retained = list(self._retained)
        for start in range(0, len(retained), _IDS_PER_MESSAGE):
            some = retained[start : start + _IDS_PER_MESSAGE]
            self.session.send(protocol.had(run=self.run_key, calls=some))

    def forget_left(self, left: Iterable[str]) -> None:
        """What there was of these calls, which are over, has been stopped."""
        # They did not end well, or somebody would have heard of it.
        self._acknowledge(list(left), self._run.cluster.keep_job_files != "never")

    def find_calls(self) -> dict[str, Any]:
        """Return the calls of the flow run that there is anything of, by a fresh look."""
        return self.session.find_calls(self)[0]

    def on_gone(self, error: ClustrixError) -> None:
        """The other end cannot be reached any more."""
        self._listener.on_gone(self._unfinished(), error)

    def _unfinished(self) -> list[Call]:
        return [call for call in self._run.registry.unfinished() if call.attempt.placement is self]
