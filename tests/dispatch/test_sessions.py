"""The connection that the runners of a process share."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from clustrix_prefect import SSHCluster
from clustrix_prefect.connections.agent import AgentClient
from clustrix_prefect.errors import ConnectionLost
from clustrix_prefect.far_side.wire import protocol
from clustrix_prefect.far_side.wire.protocol import Request
from clustrix_prefect.sessions import session as session_module
from clustrix_prefect.sessions.session import Session, Sessions
from tests.dispatch.test_outages import outage
from tests.live import clusters
from tests.live.ssh_host import SSHHost


def test_who_comes_while_another_leaves_waits_for_a_broken_connection(
    over_ssh: SSHCluster, ssh_host: SSHHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "_LEAVE_SECONDS", 0.0)
    sessions = Sessions()
    first = sessions.acquire(over_ssh)
    sessions.leave(first)
    second = sessions.acquire(over_ssh)
    sessions.release(first)
    try:
        with ThreadPoolExecutor(1) as pool:
            with outage(ssh_host):
                answer = pool.submit(second.request, protocol.find_pythons())
                with pytest.raises(TimeoutError):
                    answer.result(3)
            assert answer.result(60)["found"]
    finally:
        sessions.release(second)


@pytest.mark.parametrize("moment", ["under a request", "between two"])
def test_an_agent_lost_while_a_session_is_opened_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Whoever opens it hears of it, and there is nobody else to open it for."""
    request = AgentClient.request
    reconnecting: list[str] = []

    def lose(self: AgentClient, wanted: Request[Any], timeout: float | None = 60) -> Any:
        if wanted.op == "find_python":
            lost = threading.Event()
            monkeypatch.setattr(self, "_on_lost", _then(self._on_lost, lost))
            os.kill(self._hello.message["pid"], signal.SIGKILL)
            if moment == "between two":
                assert lost.wait(60)
        return request(self, wanted, timeout)

    monkeypatch.setattr(AgentClient, "request", lose)
    monkeypatch.setattr(Session, "_reconnect", lambda self, error: reconnecting.append(str(error)))
    session = Session(clusters.local_cluster(tmp_path / "work"))
    with pytest.raises(ConnectionLost):
        session.open()
    assert reconnecting == []


def _then(act: Any, done: threading.Event) -> Any:
    def both(*arguments: Any) -> None:
        act(*arguments)
        done.set()

    return both
