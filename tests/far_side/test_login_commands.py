"""Commands that only a login shell has on its PATH, as OpenPBS's and many sites' own are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import clustrix_prefect
from clustrix_prefect.schedulers.gridengine import GridEngineScheduler
from clustrix_prefect.schedulers.pbs import PBSScheduler
from clustrix_prefect.schedulers.scheduler import JobSpec, Scheduler
from clustrix_prefect.schedulers.slurm import SlurmScheduler
from clustrix_prefect.task_resources import Resources

_RUN = """
import json, sys
from clustrix_prefect.far_side.environments import commands
print(json.dumps([commands.run(argv) for argv in json.loads(sys.argv[1])]))
"""
_PROGRAMS = (
    "sbatch squeue scontrol scancel sacct sacctmgr sinfo qsub qstat qselect qdel qmgr qconf qacct"
)


def _commands(scheduler: Scheduler) -> list[list[str]]:
    spec = JobSpec("fit", Resources(), None, "/run", ["python3"])
    trial = scheduler.trial_command(spec)
    return [
        scheduler.submit_command("/run/script.sh", spec),
        scheduler.status_command(os.getuid()),
        scheduler.details_command(["7"]),
        scheduler.cancel_command(["7"]),
        *scheduler.limits_commands(),
        *([trial] if trial else []),
    ]


@pytest.mark.parametrize(
    "scheduler",
    [
        SlurmScheduler(),
        GridEngineScheduler(),
        *(PBSScheduler().for_site(site) for site in ("OpenPBS", "Torque", "PBS commands of SLURM")),
    ],
    ids=["SLURM", "Grid Engine", "OpenPBS", "Torque", "PBS of SLURM"],
)
def test_every_command_is_found(scheduler: Scheduler, tmp_path: Path) -> None:
    plain, login = tmp_path / "plain", tmp_path / "login"
    plain.mkdir()
    login.mkdir()
    for name in ("bash", "sh", "env", "id", "sed", "awk", "grep", "cat", "printf"):
        (plain / name).symlink_to(shutil.which(name) or name)
    for name in _PROGRAMS.split():
        (login / name).write_text("#!/bin/sh\necho found\n")
        (login / name).chmod(0o755)
    # /etc/profile would bring the whole system's PATH.
    (tmp_path / ".bash_profile").write_text(f"export PATH={login}:{plain}\n")
    done = subprocess.run(
        [sys.executable, "-c", _RUN, json.dumps(_commands(scheduler))],
        env={
            "PATH": str(plain),
            "HOME": str(tmp_path),
            "PYTHONPATH": str(Path(clustrix_prefect.__file__).parent.parent),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    for argv, answer in zip(_commands(scheduler), json.loads(done.stdout), strict=True):
        assert "found" in answer["stdout"].split(), (argv, answer)
