"""What a job's script leaves behind, run by the shells of this machine."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from clustrix_prefect.schedulers.job_script import noted_end
from clustrix_prefect.schedulers.pbs import PBSScheduler
from clustrix_prefect.schedulers.scheduler import JobSpec, JobState, JobStatus
from clustrix_prefect.task_resources import Resources

PBS = PBSScheduler()
OF_SLURM = PBS.for_site("PBS commands of SLURM 22.05.8")
READY = "import sys, time; print('ready', flush=True); time.sleep(60)"


class Job:
    """The script of one job, and what it wrote."""

    def __init__(self, directory: Path, shell: str, *program: str) -> None:
        (directory / "logs").mkdir()
        self._error = directory / "logs" / "0.err"
        self.output = directory / "logs" / "0.out"
        self._shell = shell
        spec = JobSpec("a", Resources(), None, str(directory), [sys.executable, "-c", *program])
        self._script = directory / "script.sh"
        self._script.write_text(PBS.job_script(spec))

    def start(self) -> subprocess.Popen[bytes]:
        """Run it in a session of its own, as daemons do."""
        return subprocess.Popen(
            [self._shell, str(self._script)],
            env={**os.environ, "PBS_JOBID": "7.pbs"},
            start_new_session=True,
        )

    @property
    def error(self) -> str:
        return self._error.read_text()


@pytest.fixture(params=["/bin/sh", "/bin/bash"])
def shell(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def test_a_worker_that_ends_well_is_not_spoken_of(tmp_path: Path, shell: str) -> None:
    job = Job(tmp_path, shell, "import os; print(os.environ['CLUSTRIX_PREFECT_JOB'])")
    assert job.start().wait() == 0
    assert (job.output.read_text(), job.error) == ("7\n", "")


@pytest.mark.parametrize(
    ("program", "returncode", "exit_code"),
    [
        ("import os; os._exit(3)", 3, 3),
        ("import os; os.kill(os.getpid(), 11)", 139, -11),
        ("import os; os._exit(200)", 200, 200),
    ],
)
def test_how_the_worker_ended_is_noted(
    tmp_path: Path, shell: str, program: str, returncode: int, exit_code: int
) -> None:
    job = Job(tmp_path, shell, program)
    assert job.start().wait() == returncode
    assert noted_end(PBS, job.error, None) == JobStatus(JobState.FAILED, exit_code=exit_code)


@pytest.mark.parametrize(
    ("time", "state"),
    [(1, JobState.TIME_LIMIT), (3600, JobState.KILLED), (None, JobState.KILLED)],
)
def test_that_the_job_was_asked_to_end_is_noted(
    tmp_path: Path, shell: str, time: int | None, state: JobState
) -> None:
    program = f"import time; began = time.monotonic(); {READY}"
    job = Job(tmp_path, shell, program)
    process = job.start()
    while not job.output.exists() or "ready" not in job.output.read_text():
        assert process.poll() is None
    # Let its first second pass.
    subprocess.run(["sleep", "1.1"], check=True)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM
    assert noted_end(PBS, job.error, time) == JobStatus(state)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_worker_that_is_ended_before_its_shell_was_killed(
    tmp_path: Path, shell: str, number: int
) -> None:
    """PBS's daemon signals all of a job's processes, in whatever order."""
    job = Job(tmp_path, shell, f"import os; os.kill(os.getpid(), {int(number)})")
    assert job.start().wait() == 128 + number
    assert noted_end(PBS, job.error, None) == JobStatus(JobState.KILLED)
    late = re.sub(r"in second \d+", "in second 59", job.error)
    assert noted_end(PBS, late, 60) == JobStatus(JobState.TIME_LIMIT)


def test_a_job_is_not_begun_twice(tmp_path: Path, shell: str) -> None:
    job = Job(tmp_path, shell, "print('begun')")
    assert job.start().wait() == 0
    assert job.start().wait() == 1
    assert job.output.read_text() == "begun\n"
    assert noted_end(PBS, job.error, None) == JobStatus(JobState.REQUEUED)


def test_slurms_daemon_tells_why_it_ended_a_job() -> None:
    said = "slurmstepd: error: *** JOB 12 ON vm CANCELLED AT 2026-11-28T12:00:00 "
    for words, state in (
        ("***", JobState.CANCELLED),
        ("DUE TO TIME LIMIT ***", JobState.TIME_LIMIT),
        ("DUE TO NODE FAILURE, SEE SLURMCTLD LOG FOR DETAILS ***", JobState.NODE_FAILURE),
        ("DUE TO PREEMPTION ***", JobState.PREEMPTED),
    ):
        assert noted_end(OF_SLURM, f"{said}{words}\n", None) == JobStatus(state)
    assert noted_end(OF_SLURM, "a job was CANCELLED AT noon", None) is None
