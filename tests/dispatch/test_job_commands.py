"""What the command line shows, from another terminal, of the jobs of a flow that runs."""

from __future__ import annotations

import json
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task

from clustrix_prefect import ClusterTaskRunner, SlurmCluster, resources
from clustrix_prefect.cli.main import main
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
        assert re.search(r"talking +\S+ +talk +\d.* ago +0 +2", said("list", block))

        name = task_run(futures[1].task_run_id, "Running").name
        assert name.startswith("talk-1-")
        assert said("logs", block, name).splitlines() == ["seed 1 begins", "a warning"]
        element = f"{listed['talk']['job']}_0"
        assert said("logs", block, element).splitlines() == ["seed 0 begins", "a warning"]

        follower = threading.Thread(target=main, args=(["jobs", "logs", "-f", block, name],))
        follower.start()
        (far_dir / "gate").touch()
        futures.wait()
        follower.join(60)
        assert not follower.is_alive()
        assert "seed 1 ends" in capsys.readouterr().out.splitlines()
        assert main(["jobs", "cancel", block, listed["log"]["job"], "--yes"]) == 0
        never.wait()

    talking()
    assert main(["jobs", "logs", block, "talk-7-abc"]) == 1
    assert "nothing of a call 'talk-7-abc'" in capsys.readouterr().err


def test_when_jobs_may_start() -> None:
    slurm = SlurmCluster(host="h").scheduler()
    assert slurm.starts_command(1000)[:2] == ["squeue", "--start"]
    told = "12_[3-9]|2026-11-30T17:40:00\n13|N/A\n14|2026-12-01T01:00:00\n"
    assert slurm.parse_starts(told) == {
        "12_[3-9]": "2026-11-30 17:40:00",
        "14": "2026-12-01 01:00:00",
    }
