"""What the command line shows, from another terminal, of the jobs of a flow that runs."""

from __future__ import annotations

import json
import re
import threading
import time
from pathlib import Path
from typing import Any, cast

import pytest
from prefect import flow, task

from clustrix_prefect import (
    ClusterTaskRunner,
    PBSCluster,
    SGECluster,
    SlurmCluster,
    resources,
)
from clustrix_prefect.cli.main import main
from clustrix_prefect.connections.agent import AgentClient
from clustrix_prefect.far_side.wire import protocol
from clustrix_prefect.schedulers.scheduler import Scheduler
from clustrix_prefect.sessions.job_listing import ClusterJobs
from tests.contract.api import task_run
from tests.dispatch.marks import mark, wait_for_marks

pytestmark = pytest.mark.usefixtures("quick_prefect")


@task
def talk(directory: str, seed: int) -> None:
    import os
    import sys

    print(f"seed {seed} begins")
    print("a warning", file=sys.stderr)
    mark(directory, str(seed))
    while not os.path.exists(os.path.join(directory, "gate")):
        time.sleep(0.05)
    print(f"seed {seed} ends")


@task(log_prints=True)
def log(directory: str) -> None:
    print("this is logged")
    mark(directory, "log")


def test_jobs_of_a_flow_that_runs(on_slurm: SlurmCluster, far_dir: Path, capsys: Any) -> None:
    on_slurm.save("seen", overwrite=True)
    block = "slurm-cluster/seen"

    def said(*arguments: str) -> str:
        capsys.readouterr()
        assert main(["jobs", *arguments]) == 0
        return str(capsys.readouterr().out)

    @flow(name="talking", task_runner=ClusterTaskRunner(on_slurm))
    def talking() -> None:
        futures = talk.map([str(far_dir)] * 2, [0, 1])
        with resources(cores=65):  # there are 64
            never = log.submit(str(far_dir))
        wait_for_marks(far_dir, 2)
        deadline = time.monotonic() + 60
        while len(found := json.loads(said("list", block, "--json"))) < 2:
            assert time.monotonic() < deadline
        listed = {job["task"]: job for job in found}
        assert {job["flow"] for job in found} == {"talking"}
        assert listed["talk"]["running"] == 2
        assert listed["log"]["queued"] == 1
        assert re.fullmatch(r"2\d{3}-\d\d-\d\dT\S+Z", listed["talk"]["submitted"])
        assert re.search(r"talking +\S+ +talk +(now|\w+ \w+ ago) +0 +2", said("list", block))

        name = task_run(futures[1].task_run_id, "Running").name
        assert name.startswith("talk-1-")
        assert said("logs", block, name).splitlines() == ["seed 1 begins", "a warning"]
        lines = said("logs", block, name, "--json").splitlines()
        assert [json.loads(line) for line in lines] == [
            {"line": "seed 1 begins"},
            {"line": "a warning"},
        ]
        element = f"{listed['talk']['job']}_0"
        assert said("logs", block, element).splitlines() == ["seed 0 begins", "a warning"]

        follower = threading.Thread(target=main, args=(["jobs", "logs", "-f", block, name],))
        follower.start()
        (far_dir / "gate").touch()
        futures.wait()
        follower.join(60)
        assert not follower.is_alive()
        assert "seed 1 ends" in capsys.readouterr().out.splitlines()
        capsys.readouterr()
        assert main(["jobs", "cancel", block, listed["log"]["job"], "--yes", "--json"]) == 0
        (cancelled,) = json.loads(capsys.readouterr().out)["cancelled"]
        assert cancelled["task"] == "log"
        never.wait()

    talking()
    assert main(["jobs", "logs", block, "talk-7-abc"]) == 1
    assert "nothing of a call 'talk-7-abc'" in capsys.readouterr().err


# What PBS Pro says of jobs that wait, as `qstat -f` writes it.
_QSTAT = """\
Job Id: 391[].node77
    Job_Name = sweep
    job_state = Q
    queue = workq
    comment = Not Running: Insufficient amount of resource: ncpus (R: 8 A: 2 T:
\t 8)
    estimated.exec_vnode = (cx3-10-8.cx3.hpc.ic.ac.uk:ncpus=4:mem=8388608kb:ngp
\tus=1)
    estimated.start_time = Tue Dec  1 02:10:01 2026
    project = _pbs_project_default

Job Id: 391[3].node77
    Job_Name = sweep
    job_state = Q
    queue = workq
    estimated.start_time = Mon Nov 30 23:38:32 2026

Job Id: 392.node77
    Job_Name = other
    job_state = Q
    queue = workq
    comment = Not Running: Queue not started.
"""


def test_when_jobs_may_start_on_pbs() -> None:
    pbs = PBSCluster(host="h").scheduler()
    assert pbs.starts_command(1000) == pbs.status_command(1000)
    assert pbs.parse_starts(_QSTAT) == {
        "391[]": "2026-12-01 02:10:01",
        "391[3]": "2026-11-30 23:38:32",
    }
    reasons = {each: status.reason for each, status in pbs.parse_status(_QSTAT).items()}
    assert reasons["392"] == "Queue not started."
    # Torque says none; nor does it where nothing was reckoned.
    assert pbs.parse_starts("<Data><Job><Job_Id>7.t</Job_Id><qtime>1</qtime></Job></Data>") == {}


def test_grid_engine_does_not_say_when_jobs_may_start() -> None:
    grid_engine: Scheduler = SGECluster(host="h").scheduler()
    assert grid_engine.starts_command(1000) is None
    assert grid_engine.parse_starts("") == {}


class AgentOfPBS:
    """Says what was submitted, and answers every command with what `qstat -f` writes."""

    def request(self, request: protocol.Request[Any]) -> dict[str, Any]:
        if request.op == "list_jobs":
            return {"jobs": [{"job": "391[]", "run": "r"}, {"job": "392", "run": "r"}]}
        return {"returncode": 0, "stdout": _QSTAT, "stderr": ""}


def test_a_list_has_the_earliest_start_of_an_array_and_the_reason() -> None:
    agent = cast(AgentClient, AgentOfPBS())
    found = ClusterJobs(agent, PBSCluster(host="h").scheduler(), 1000).find()
    assert [(job.id, job.starts, job.reason) for job in found] == [
        ("391[]", "2026-11-30 23:38:32", "waiting (Q)"),
        ("392", "", "Queue not started."),
    ]


def test_when_jobs_may_start() -> None:
    slurm = SlurmCluster(host="h").scheduler()
    assert slurm.starts_command(1000)[:2] == ["squeue", "--start"]
    told = "12_[3-9]|2026-11-30T17:40:00\n13|N/A\n14|2026-12-01T01:00:00\n"
    assert slurm.parse_starts(told) == {
        "12_[3-9]": "2026-11-30 17:40:00",
        "14": "2026-12-01 01:00:00",
    }
