"""Calls in warm workers beside the agent: on this machine, or on a host without a scheduler."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from functools import partial
from typing import Any

from clustrix_prefect.connections.agent import AgentClient
from clustrix_prefect.dispatch.call import Call, CallState, attached
from clustrix_prefect.dispatch.failures import worker_failure
from clustrix_prefect.dispatch.placement import CallListener, RunContext
from clustrix_prefect.dispatch.places.run_session import RunSession
from clustrix_prefect.errors import ConnectionFailed, TimeLimitExceeded
from clustrix_prefect.far_side.wire import protocol
from clustrix_prefect.far_side.wire.frames import INLINE_LIMIT
from clustrix_prefect.far_side.wire.protocol import Request

logger = logging.getLogger("prefect.clustrix")

# Calls in one message; far below what a frame holds.
_CALLS_PER_MESSAGE = 100


class WorkerExecutor:
    """Sends calls to the agent, which hands them to its workers in turn.

    Args:
        run: The flow run.
        listener: Is told what becomes of them.
        run_session: Where the agent is.
        environment: Variables for the workers.
        max_workers: How many there may be; None: as many as there are cores.
        working_directory: Where calls begin; None: in the far home.
    """

    def __init__(
        self,
        run: RunContext,
        listener: CallListener,
        run_session: RunSession,
        *,
        environment: dict[str, str],
        max_workers: int | None,
        working_directory: str | None,
    ) -> None:
        self._run = run
        self._listener = listener
        self._run_session = run_session
        self._session = run_session.session
        self._pool = {
            "prologue": self._session.worker_prologue,
            "environment": environment,
            "max_workers": max_workers,
            "cwd": working_directory,
        }
        self._waiting: list[Call] = []
        self._sending = False
        self._lock = threading.Lock()

    def send(self, call: Call) -> None:
        with self._lock:
            self._waiting.append(call)
        self._hand_over()

    def _hand_over(self) -> None:
        """Send what waits, if there is an agent; what others add meanwhile goes with it.

        Nobody has to wait for a connection that is broken: `on_reconnected` comes here too.
        """
        while True:
            with self._lock:
                agent = self._session.agent_now
                batch = self._waiting[:_CALLS_PER_MESSAGE]
                if self._sending or agent is None or not batch:
                    return
                self._sending = True
            try:
                self._send_to(agent, batch)
            except ConnectionFailed as error:  # it is gone: another one is looked for
                logger.debug("Not sent: %s", error)
            finally:
                with self._lock:
                    self._sending = False

    def _send_to(self, agent: AgentClient, calls: list[Call]) -> None:
        by_python: dict[str, list[Call]] = {}
        for call in calls:
            by_python.setdefault(call.package.python.path, []).append(call)
        for python, of_python in by_python.items():
            # Under the lock, so that a call is seen either waiting or sent, and is cancelled
            # either before it is sent or after.
            with self._lock:
                wanted = [call for call in of_python if not call.state.is_final]
                if wanted:
                    pool = {**self._pool, "python": python}
                    agent.send(*_in_one_frame(self._run_session.run_key, pool, wanted))
                for call in wanted:
                    call.attempt.sent_over = agent
                self._waiting = [call for call in self._waiting if call not in of_python]
            for call in wanted:
                self._hold_to_limit(call)

    def attach(self, call: Call, known: dict[str, Any]) -> None:
        self._hold_to_limit(call)
        self._take_up(call, known)

    def _take_up(self, call: Call, known: dict[str, Any]) -> None:
        if known["state"] == "lost":
            self._fail_lost(call)
        else:
            self._run_session.watch(call)

    def cancel(self, calls: Iterable[Call]) -> None:
        self._cancel([call.id for call in calls])

    def _cancel(self, ids: list[str]) -> None:
        with self._lock:
            self._session.send(protocol.cancel(run=self._run_session.run_key, calls=ids))

    def on_event(self, event: dict[str, Any]) -> None:
        call = self._run.registry.find(event.get("call"))
        if call is None:
            return
        if event["event"] == "worker_died":
            error = worker_failure(
                event["returncode"],
                event.get("stderr_tail", ""),
                started=event["started"],
                node=call.attempt.node or self._session.host,
                out_of_memory=event.get("out_of_memory", False),
            )
            call.attempt.exit_code, call.attempt.peak_memory = (
                event["returncode"],
                event.get("peak_memory"),
            )
            self._listener.fail(call, error)

    def on_reconnected(self, calls: Iterable[Call], known: dict[str, Any]) -> None:
        for call in calls:
            with self._lock:
                if call.attempt.sent_over in (None, self._session.agent_now):
                    continue  # it waits here, or has just been sent
                unheard = call.id not in known and call.state is CallState.QUEUED
                if unheard:
                    call.attempt.sent_over = None
                    self._waiting.append(call)
            if call.id in known:
                self._take_up(call, known[call.id])
            elif not unheard:
                self._fail_lost(call)
        self._hand_over()

    def end_left(self, left: dict[str, Any]) -> None:
        self._cancel(list(left))
        self._run_session.forget_left(left)

    def close(self) -> None:
        """Nothing to stop: the agent ends its workers with the run."""

    def _hold_to_limit(self, call: Call) -> None:
        if call.resources.time is not None:
            self._run.timers.after(0, partial(self._limit, call, call.id))

    def _limit(self, call: Call, call_id: str) -> None:
        """Where no scheduler does, hold a call to its `time`, from its start."""
        limit = call.resources.time
        if call.id != call_id or call.state.is_final or limit is None:
            return
        left = (
            limit
            if call.attempt.started_at is None
            else call.attempt.started_at + limit - time.time()
        )
        if left > 0:
            self._run.timers.after(min(left, 1.0), partial(self._limit, call, call_id))
            return
        self._cancel([call_id])
        self._listener.fail(
            call,
            TimeLimitExceeded(
                f"The call ran for longer than its {limit} s.",
                'Ask for more with resources(time="HH:MM:SS"), or split the work.',
                node=call.attempt.node,
            ),
        )

    def _fail_lost(self, call: Call) -> None:
        node = call.attempt.node or self._session.host
        self._listener.fail(call, worker_failure(None, "", started=True, node=node))


def _in_one_frame(
    run: str, pool: dict[str, Any], calls: list[Call]
) -> tuple[Request[protocol.Nothing], bytes]:
    """Return a request that nothing sent after it can overtake, as it can a stream."""
    attachment = attached(calls)
    if len(attachment) > INLINE_LIMIT:
        return protocol.run(run=run, pool=pool, calls=[call.manifest() for call in calls]), b""
    return protocol.run(run=run, pool=pool, calls_attached=True), attachment
