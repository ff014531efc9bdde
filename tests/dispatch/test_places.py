"""What a flow run's place on a cluster can rely on while it is made."""

from __future__ import annotations

import logging
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, task
from prefect.runtime import flow_run

from clustrix_prefect import ClusterTaskRunner, LocalCluster
from clustrix_prefect.connections.agent import AgentClient
from clustrix_prefect.dispatch.placement import CallListener, Place, RunContext
from clustrix_prefect.dispatch.places.opening import OpenedSession
from clustrix_prefect.dispatch.places.run_session import RunSession
from clustrix_prefect.errors import PythonVersionMismatch
from clustrix_prefect.far_side.wire.protocol import Request
from clustrix_prefect.sessions.session import Session, Sessions
from tests.contract.api import flow_run_logs


@task
def nothing() -> None:
    pass


def test_what_it_says_is_in_the_flow_runs_log(
    local: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = OpenedSession.place_for

    def place_for(self: OpenedSession, run: RunContext, listener: CallListener) -> Place:
        run.log.say(logging.WARNING, "said while the place is made")
        return made(self, run, listener)

    monkeypatch.setattr(OpenedSession, "place_for", place_for)

    @flow(task_runner=ClusterTaskRunner(local))
    def run() -> UUID:
        nothing.submit().wait()
        return UUID(flow_run.id)

    lines = flow_run_logs(run(), "said while")
    assert any(line.message == "said while the place is made" for line in lines)


def test_events_that_come_as_soon_as_the_run_is_open_are_taken(
    local: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status events of another flow run of the same session, say, or a reconnection."""
    opened = Session.open_run

    def open_run(self: Session, run_session: RunSession) -> object:
        found = opened(self, run_session)
        run_session.on_event({"event": "status", "stdout": ""}, b"")
        return found

    monkeypatch.setattr(Session, "open_run", open_run)

    @flow(task_runner=ClusterTaskRunner(local))
    def run() -> None:
        return nothing.submit().result()

    assert run() is None


def test_a_host_without_a_python_is_said_to_have_none(
    local: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = AgentClient.request

    def find_none(self: AgentClient, wanted: Request[Any], *timeout: float | None) -> Any:
        is_it = wanted.op == "find_python"
        return {"found": [], "chosen": None} if is_it else request(self, wanted, *timeout)

    monkeypatch.setattr(AgentClient, "request", find_none)
    sessions = Sessions()
    with pytest.raises(PythonVersionMismatch) as refused:
        sessions.acquire(local)
    assert refused.value.what == "No Python was found on this machine, and calls need 3.6 or newer."
