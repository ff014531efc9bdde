"""Hosts that let nobody in without a person: calls wait for a login, and nothing is lost."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, runtime, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.responses import SetStateStatus
from prefect.events.worker import EventsWorker
from prefect.exceptions import PrefectHTTPStatusError

from clustrix_prefect import ClusterTaskRunner, SlurmCluster, SSHCluster, cluster_ls
from clustrix_prefect.cli.main import main
from clustrix_prefect.errors import LoginNeeded
from tests.contract.api import eventually, flow_run_logs, history
from tests.dispatch.marks import mark, marks, wait_for_marks
from tests.live import clusters
from tests.live import pam_host as pam
from tests.live.more_sshd import serving
from tests.live.pam_host import PAMHost
from tests.live.person import log_in
from tests.live.prefect_server import PrefectServer
from tests.live.pythons import FarPythons
from tests.live.ssh_host import SSHHost

PASSWORD = "correct horse"
NAME = "guarded"


@task
def work(directory: str, name: str, seconds: float) -> str:
    mark(directory, name)
    time.sleep(seconds)
    return name.upper()


@dataclass
class Guarded:
    """A cluster behind a login that wants a key, and a password besides.

    Attributes:
        cluster: Its block, which is saved.
        name: The block's type and name.
    """

    cluster: SSHCluster | SlurmCluster
    name: str

    def log_in(self) -> None:
        """A person logs in."""
        status, seen = log_in(self.cluster.master, {"password:": PASSWORD})
        assert status == 0, seen

    def end_login(self) -> None:
        """The login ends, as a site's limit would have it."""
        assert self.cluster.master._ask("exit").returncode == 0


Make = Callable[..., Guarded]


@pytest.fixture(params=["ssh", "slurm"])
def guarded(
    request: pytest.FixtureRequest,
    quick_prefect: None,
    ssh_host: SSHHost,
    far_pythons: FarPythons,
    remote_work_dir: Path,
    tmp_path: Path,
) -> Iterator[Make]:
    """Makes and saves the cluster with these fields."""
    known_hosts = tmp_path / "known_hosts"
    known_hosts.touch()
    settings = [
        *("AuthenticationMethods publickey,password", "UsePAM no"),
        *(f'SetEnv {name}="{value}"' for name, value in ssh_host.environment.items()),
    ]
    made: list[Guarded] = []
    with serving(tmp_path, known_hosts, *settings) as port, ssh_host.password(PASSWORD):

        def make(**fields: Any) -> Guarded:
            way = {"port": port, "known_hosts": str(known_hosts), "connection": "openssh"}
            if request.param == "ssh":
                kind: Callable[..., Any] = clusters.ssh_cluster
            else:
                request.getfixturevalue("slurm")
                kind = clusters.slurm_cluster
            cluster = kind(ssh_host, far_pythons, remote_work_dir, **{**way, **fields})
            cluster.save(NAME, overwrite=True, _sync=True)
            made.append(Guarded(cluster, f"{cluster.get_block_type_slug()}/{NAME}"))
            return made[-1]

        yield make
        for one in made:
            one.cluster.master.close()
            type(one.cluster).delete(NAME, _sync=True)  # type: ignore[call-arg]


# Nothing in these depends on how calls run there.
one_kind = pytest.mark.parametrize(
    "guarded", ["slurm", pytest.param("ssh", marks=pytest.mark.every)], indirect=True
)


def wait_until_said(caplog: pytest.LogCaptureFixture, text: str, times: int = 1) -> None:
    deadline = time.monotonic() + 60
    while caplog.text.count(text) < times:
        assert time.monotonic() < deadline, f"{text!r} was not said:\n{caplog.text}"
        time.sleep(0.05)


def login_events(flow_run_id: UUID) -> list[dict[str, Any]]:
    EventsWorker.drain_all(timeout=5)
    wanted = {"filter": {"event": {"name": ["clustrix-prefect.login.needed"]}}, "limit": 50}
    run = f"prefect.flow-run.{flow_run_id}"

    def read(client: Any) -> list[dict[str, Any]]:
        events = client.request("POST", "/events/filter", json=wanted).json()["events"]
        return [e for e in events if run in {r["prefect.resource.id"] for r in e["related"]}]

    found: list[dict[str, Any]] = eventually(read, bool)
    return found


def test_the_login_ends_in_the_middle(
    guarded: Make, far_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What runs goes on, what waits says for what, and after a new login every result comes."""
    there = guarded()
    command = f"clustrix-prefect login {there.name}"
    there.log_in()
    names = [f"call-{n}" for n in range(10)]
    ids: dict[str, Any] = {}

    @flow(task_runner=ClusterTaskRunner(there.cluster))
    def interrupted() -> list[str]:
        ids["flow"] = UUID(str(runtime.flow_run.id))
        futures = work.map([str(far_dir)] * 10, names, 1)
        ids["last"] = futures[-1].task_run_id
        wait_for_marks(far_dir, 1)
        there.end_login()
        wait_until_said(caplog, f": {command}")
        late = work.submit(str(far_dir), "late", 0)
        ids["late"] = late.task_run_id
        there.log_in()
        return [*futures.result(), late.result()]

    assert interrupted() == [name.upper() for name in [*names, "late"]]
    assert marks(far_dir) == dict.fromkeys([*names, "late"], 1)
    reason = f"waits for a login at {there.cluster.host}: {command}"
    queued = [state.message for state in history(ids["late"]) if state.name == "Queued"]
    assert reason in queued
    (line,) = [
        line.message
        for line in flow_run_logs(ids["flow"], command)
        if command in line.message and "Queued" not in line.message
    ]
    assert "Calls wait for up to 24 h, and jobs run on" in line
    (event,) = login_events(ids["flow"])
    assert event["payload"]["command"] == command
    assert event["resource"]["prefect.resource.id"] == f"clustrix-prefect.cluster.{there.name}"


@one_kind
def test_a_flow_that_starts_before_anybody_has_logged_in(
    guarded: Make, far_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    there = guarded()
    command = f"clustrix-prefect login {there.name}"
    ids: dict[str, Any] = {}

    @flow(task_runner=ClusterTaskRunner(there.name))
    def early() -> list[str]:
        ids["flow"] = UUID(str(runtime.flow_run.id))
        futures = work.map([str(far_dir)] * 3, ["a", "b", "c"], 0)
        ids["first"] = futures[0].task_run_id
        wait_until_said(caplog, f": {command}")
        there.log_in()
        return futures.result()

    assert early() == ["A", "B", "C"]
    assert marks(far_dir) == {"a": 1, "b": 1, "c": 1}
    reason = f"waits for a login at {there.cluster.host}: {command}"
    states = history(ids["first"])
    assert reason in [state.message for state in states if state.name == "Queued"]
    assert len(login_events(ids["flow"])) == 1
    flow_run_logs(ids["flow"], "Tasks run under Python")


@one_kind
@pytest.mark.parametrize("when", ["at the start", "in the middle"])
def test_nobody_logs_in(guarded: Make, far_dir: Path, when: str) -> None:
    there = guarded(login_timeout=2)
    if when == "in the middle":
        there.log_in()
    failures: list[Any] = []

    @flow(task_runner=ClusterTaskRunner(there.cluster))
    def in_vain() -> None:
        future = work.submit(str(far_dir), "call", 5)
        if when == "in the middle":
            wait_for_marks(far_dir, 1)
            there.end_login()
        future.wait(60)
        failures.append(future.state.result(raise_on_failure=False))

    in_vain(return_state=True)
    (failure,) = failures
    assert type(failure) is LoginNeeded
    assert "within 2 s (the block's `login_timeout`)" in failure.what
    assert f"`clustrix-prefect login {there.name}`" in failure.remedy


@one_kind
def test_a_flow_that_fails_meanwhile_does_not_wait(guarded: Make, far_dir: Path) -> None:
    there = guarded()

    @flow(task_runner=ClusterTaskRunner(there.cluster))
    def failing() -> None:
        work.submit(str(far_dir), "call", 0)
        time.sleep(1)
        raise RuntimeError("the flow's own")

    began = time.monotonic()
    with pytest.raises(RuntimeError, match="the flow's own"):
        failing()
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("guarded", ["ssh"], indirect=True)
def test_auto_takes_the_login_and_waits_for_the_next(
    guarded: Make, far_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    there = guarded(connection="auto")
    there.log_in()

    @flow(task_runner=ClusterTaskRunner(there.cluster))
    def either() -> list[str]:
        first = work.submit(str(far_dir), "first", 0).result()
        there.end_login()
        wait_until_said(caplog, f"clustrix-prefect login {there.name}")
        there.log_in()
        return [first, work.submit(str(far_dir), "second", 0).result()]

    assert either() == ["FIRST", "SECOND"]


@pytest.mark.parametrize("guarded", ["slurm"], indirect=True)
def test_one_login_serves_all_that_is_asked(
    guarded: Make, far_dir: Path, ssh_host: SSHHost, capsys: pytest.CaptureFixture[str]
) -> None:
    """The commands, files, and flows; logged in at a time when nobody waited."""
    there = guarded()
    there.log_in()
    before = ssh_host.logins

    @flow(task_runner=ClusterTaskRunner(there.name))
    def daily() -> str:
        return work.submit(str(far_dir), "call", 0).result()

    assert daily() == "CALL"
    for command in (["check"], ["jobs", "list"], ["store", "usage"]):
        assert main([*command, there.name]) == 0
    assert "OpenSSH: opened by a person at" in capsys.readouterr().out
    assert cluster_ls(str(far_dir), cluster=there.name)
    assert ssh_host.logins == before


@pytest.mark.every
@pytest.mark.parametrize("guarded", ["ssh"], indirect=True)
def test_the_machine_sleeps(guarded: Make, far_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The ssh that holds the login stands still for longer than the far side is listened for."""
    there = guarded()
    there.log_in()
    caplog.set_level(logging.WARNING)
    pid = int(there.cluster.master._ask("check").stderr.split(b"pid=")[1].split(b")")[0])

    @flow(task_runner=ClusterTaskRunner(there.cluster))
    def asleep() -> list[str]:
        futures = work.map([str(far_dir)] * 4, ["a", "b", "c", "d"], 20)
        wait_for_marks(far_dir, 4)
        os.kill(pid, signal.SIGSTOP)
        try:
            wait_until_said(caplog, "broke (")
            time.sleep(10)
        finally:
            os.kill(pid, signal.SIGCONT)
        return futures.result()

    assert asleep() == ["A", "B", "C", "D"]
    assert marks(far_dir) == {"a": 1, "b": 1, "c": 1, "d": 1}


class TestInTheUI:
    """With `login_in_ui` the page of the flow run has a form for the code."""

    @pytest.fixture
    def cluster(
        self,
        quick_prefect: None,
        pam_host: PAMHost,
        far_pythons: FarPythons,
    ) -> Iterator[SSHCluster]:
        """A host that wants a key and a code."""
        made = clusters.ssh_cluster(
            pam_host,
            far_pythons,
            pam_host.home / "work",
            connection="openssh",
            login_in_ui=True,
        )
        methods = "AuthenticationMethods publickey,keyboard-interactive"
        with pam_host.codes(), pam_host.asking(pam.KEYBOARD, methods, auth=[pam.CODE]):
            yield made
            made.master.close()

    def test_a_wrong_code_and_the_right_one(
        self,
        cluster: SSHCluster,
        pam_host: PAMHost,
        prefect_server: PrefectServer,
        far_dir: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        wrong = f"canary{os.getpid()}"
        ids: dict[str, Any] = {}

        @flow(task_runner=ClusterTaskRunner(cluster))
        def asking() -> str:
            ids["flow"] = UUID(str(runtime.flow_run.id))
            future = work.submit(str(far_dir), "call", 0)
            ids["form"] = give(ids["flow"], wrong)
            wait_until_said(caplog, "did not take the code")
            ids["code"] = pam_host.code()
            give(ids["flow"], ids["code"])
            return future.result()

        assert asking() == "CALL"
        field = ids["form"]["properties"]["code"]
        assert (field["title"], field["format"]) == ("One-time code", "password")
        assert inputs(ids["flow"]) == []
        flow_run_logs(ids["flow"], "did not take the code")
        EventsWorker.drain_all(timeout=5)
        found = eventually(
            lambda client: client.read_flow_run(ids["flow"]).state,
            lambda state: state is not None and state.is_final(),
        )
        assert found is not None
        assert found.is_completed()
        rows = dump(prefect_server)
        assert ids["flow"].hex in rows.replace("-", "")
        # The digits of the right one may be a part of an id or of a time.
        right = re.compile(rf"(?<![0-9A-Fa-f.-]){ids['code']}(?![0-9A-Fa-f-])")
        assert right.search(f'"{ids["code"]}"')
        for written in (rows, caplog.text):
            assert wrong not in written
            assert not right.search(written)

    def test_a_login_on_a_terminal_takes_the_form_away(
        self, cluster: SSHCluster, pam_host: PAMHost, far_dir: Path
    ) -> None:
        ids: dict[str, Any] = {}

        @flow(task_runner=ClusterTaskRunner(cluster))
        def asking() -> str:
            ids["flow"] = UUID(str(runtime.flow_run.id))
            future = work.submit(str(far_dir), "call", 0)
            form_of(ids["flow"])
            status, seen = log_in(cluster.master, {"code:": pam_host.code()})
            assert status == 0, seen
            result = future.result()
            eventually(
                lambda client: client.read_flow_run(ids["flow"]).state,
                lambda state: state is not None and state.is_running(),
            )
            return result

        assert asking() == "CALL"
        assert inputs(ids["flow"]) == []


def form_of(flow_run_id: UUID) -> dict[str, Any]:
    """The form's schema, once there is one."""

    def read(client: Any) -> dict[str, Any] | None:
        state = client.read_flow_run(flow_run_id).state
        keys = state.state_details.run_input_keyset if state.is_paused() else None
        try:
            return keys and json.loads(client.read_flow_run_input(flow_run_id, keys["schema"]))
        except PrefectHTTPStatusError:  # it is just being made
            return None

    found = eventually(read, bool)
    assert found is not None
    return found


def give(flow_run_id: UUID, code: str) -> dict[str, Any]:
    """Fill in the form, as the page does."""
    form = form_of(flow_run_id)
    with get_client(sync_client=True) as client:
        done = client.resume_flow_run(flow_run_id, run_input={"code": code})
    assert done.status == SetStateStatus.ACCEPT, done
    return form


def inputs(flow_run_id: UUID) -> list[Any]:
    def read(client: Any) -> list[Any]:
        found: list[Any] = client.filter_flow_run_input(
            flow_run_id, key_prefix="", limit=10, exclude_keys=set()
        )
        return found

    return eventually(read, lambda found: not found)


def dump(server: PrefectServer) -> str:
    """All rows of the server's database."""
    with closing(sqlite3.connect(server.database)) as database:
        return "\n".join(database.iterdump())
