"""An agent started over a real connection, and what it said."""

from __future__ import annotations

import os
import pickle
import shlex
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from clustrix_prefect.connections.agent import AgentClient
from clustrix_prefect.connections.connection import Connection
from clustrix_prefect.connections.local import LocalConnection
from clustrix_prefect.far_side.wire import protocol
from tests.far_side.calls import Call, sha256

SECONDS = 60.0


def wait_for(condition: Callable[[], Any], seconds: float = SECONDS) -> Any:
    """Wait until the condition holds; what it gave."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError("waited in vain")
        time.sleep(0.01)
    return found


def is_alive(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Far:
    """A configured far side.

    Args:
        python: The interpreter of agent and workers.
        work_dir: The work directory.
        connection: The way there; this machine by default.
    """

    def __init__(
        self, python: str, work_dir: Path, connection: Connection | None = None, **options: Any
    ) -> None:
        self.python = python
        self.work_dir = work_dir
        self.events: list[tuple[dict[str, Any], bytes]] = []
        self.lost: list[BaseException] = []
        self._changed = threading.Condition()
        self.connection = connection or LocalConnection()
        self.client = AgentClient(
            self.connection,
            python=python,
            work_dir=str(work_dir),
            on_event=self._note,
            on_lost=self._lose,
            **options,
        )
        self.hello = self.client.start()
        self.facts = self.client.request(protocol.configure())

    def _note(self, event: dict[str, Any], body: bytes) -> None:
        with self._changed:
            self.events.append((event, body))
            self._changed.notify_all()

    def _lose(self, reason: BaseException) -> None:
        with self._changed:
            self.lost.append(reason)
            self._changed.notify_all()

    def close(self) -> None:
        self.client.close()
        self.connection.close()

    def send_blobs(self, calls: Sequence[Call]) -> None:
        blobs = {sha256(blob): blob for call in calls for blob in call.blobs}
        for sha in self.client.request(protocol.have(blobs=list(blobs)))["missing"]:
            self.client.put_blob(sha, blobs[sha])

    def run(self, *calls: Call, run: str = "run", **pool: Any) -> None:
        """Send calls to warm workers."""
        self.send_blobs(calls)
        settings = {"python": self.python, "prologue": [], "environment": {}, "max_workers": 2}
        manifests = [call.manifest() for call in calls]
        self.client.send(protocol.run(run=run, pool={**settings, **pool}, calls=manifests))

    def submit(
        self,
        *calls: Call,
        run: str = "run",
        batch: str = "b1",
        attachment: bytes = b"",
        **changes: Any,
    ) -> Any:
        """Submit calls to a scheduler of a kind: a shell that starts one job after another."""
        self.send_blobs(calls)
        directory = f"{self.facts['work_dir']}/runs/{run}/{batch}"
        worker = [self.python, f"{self.facts['far_side']}/worker.py", "--batch", directory]
        worker += ["--index-variable", "SLURM_ARRAY_TASK_ID"]
        script = f"""#!/bin/sh
for i in {" ".join(str(index) for index in range(len(calls)))}; do
    export CLUSTRIX_PREFECT_JOB=42_$i
    SLURM_ARRAY_TASK_ID=$i {shlex.join(worker)} > logs/$i.out 2> logs/$i.err
done
"""
        submission = 'setsid sh "$1" </dev/null >/dev/null 2>&1 & echo 42'
        fields: dict[str, Any] = {
            "script": script,
            "command": ["sh", "-c", submission, "sh", "{script}"],
            "calls": [
                call.manifest(context={**call.manifest()["context"], "index": index})
                for index, call in enumerate(calls)
            ],
        }
        request = protocol.submit(run=run, batch=batch, **{**fields, **changes})
        return self.client.request(request, attachment=attachment)

    def of(self, kind: str, call: Call) -> list[tuple[dict[str, Any], bytes]]:
        """The events of one kind about a call, so far."""
        return [e for e in self.events if e[0]["event"] == kind and e[0]["call"] == call.id]

    def wait(self, kind: str, call: Call, seconds: float = SECONDS) -> tuple[dict[str, Any], bytes]:
        """The first event of this kind about a call."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.of(kind, call), seconds), (
                f"no {kind} of {call.id[:8]}: {self.events}"
            )
            return self.of(kind, call)[0]

    def outcome(self, call: Call) -> tuple[dict[str, Any], bytes]:
        """The verified header and body of a call's result."""
        event, body = self.wait("result", call)
        header = event["header"]
        assert call.is_signed(header, body), header
        assert header["size"] == len(body)
        return header, body

    def value(self, call: Call) -> Any:
        """What a call returned."""
        header, body = self.outcome(call)
        assert header["status"] == "ok", body
        return pickle.loads(body)

    def lines(self, call: Call) -> list[Any]:
        """What a call has logged, without the times."""
        return [line[1:] for event, _ in self.of("log", call) for line in event["lines"]]

    def files(self, run: str = "run") -> set[str]:
        """Every file below a run's directory."""
        top = self.work_dir / "runs" / run
        return {str(path.relative_to(top)) for path in top.rglob("*") if not path.is_dir()}

    def agent_pid(self) -> int:
        return int(self.hello["pid"])

    def kill_agent(self) -> None:
        os.kill(self.agent_pid(), 9)
        wait_for(lambda: self.lost)
