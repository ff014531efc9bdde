"""Our scripts and commands on a real SLURM."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from typing import Any

import pytest

from clustrix_prefect.errors import SubmissionRefused
from clustrix_prefect.schedulers.scheduler import (
    WORKER_NOT_STARTED,
    JobSpec,
    JobState,
    JobStatus,
    TryLater,
)
from clustrix_prefect.schedulers.slurm import SlurmScheduler
from clustrix_prefect.task_resources import Resources
from tests.live.slurm import CORES, PARTITION, URGENT_PARTITION, Slurm
from tests.live.ssh_host import SSHHost


class Site:
    """What the agent does with a scheduler's commands, done over `ssh`."""

    def __init__(self, host: SSHHost, directory: str) -> None:
        self.host = host
        self.directory = directory
        self.scheduler = SlurmScheduler()

    def run(self, command: list[str]) -> tuple[int, str, str]:
        done = self.host.run(shlex.join(command), timeout=90)
        return done.returncode, done.stdout, done.stderr

    def submit(self, *command: str, elements: int | None = None, **resources: object) -> str:
        spec = JobSpec(
            name="fit-1a2b3c",
            resources=Resources.of(**{"memory": "50M", **resources}),
            array_size=elements,
            directory=self.directory,
            command=command,
            environment={"GREETING": "it's"},
        )
        script = f"{self.directory}/script.sh"
        text = shlex.quote(self.scheduler.job_script(spec))
        quoted = shlex.quote(self.directory)
        self.run(["sh", "-c", f"mkdir -p {quoted}/logs; echo {text} > {shlex.quote(script)}"])
        return self.scheduler.parse_submit(*self.run(self.scheduler.submit_command(script, spec)))

    def status(self, job: str) -> JobStatus | None:
        command = self.scheduler.status_command(self.host.uid)
        return self.scheduler.parse_status(self.run(command)[1]).get(job)

    def details(self, job: str) -> JobStatus | None:
        _, stdout, _ = self.run(self.scheduler.details_command([job]))
        return self.scheduler.parse_details([job], stdout).get(job)

    def cancel(self, *jobs: str) -> None:
        self.run(self.scheduler.cancel_command(jobs))

    def wait_for(self, condition: Callable[[], object], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.2)

    def wait_for_state(self, job: str, state: JobState) -> JobStatus:
        self.wait_for(lambda: (found := self.status(job)) and found.state is state)
        found = self.status(job)
        assert found is not None
        return found

    def log(self, name: str) -> str:
        return self.run(["cat", f"{self.directory}/logs/{name}"])[1]


@pytest.fixture
def site(ssh_host: SSHHost, slurm: Slurm, request: pytest.FixtureRequest) -> Site:
    return Site(ssh_host, f"{ssh_host.home}/it's 100% {request.node.name[:30]}")


def test_an_array_runs_with_its_environment_and_logs(site: Site) -> None:
    say = "import os; print(os.environ['SLURM_ARRAY_TASK_ID'], os.environ['GREETING'])"
    job = site.submit("python3", "-c", say, elements=3, max_parallel_jobs=2)
    site.wait_for_state(f"{job}_2", JobState.COMPLETED)
    assert [site.log(f"{index}.out") for index in range(3)] == [f"{n} it's\n" for n in range(3)]
    status = site.status(f"{job}_2")
    assert status is not None
    assert status.name == "fit-1a2b3c"
    assert status.node


def test_all_resources_are_taken(site: Site) -> None:
    job = site.submit(
        "true", cores=2, memory="100M", time="00:10:00", nodes=1, tasks_per_node=1,
        partition=URGENT_PARTITION, signal_before_end=60,
    )  # fmt: skip
    site.wait_for_state(job, JobState.COMPLETED)
    shown = site.run(["scontrol", "show", "job", job])[1]
    for part in ("TimeLimit=00:10:00", "CPUs/Task=2", f"Partition={URGENT_PARTITION}", "Requeue=0"):
        assert part in shown


def test_a_missing_python_is_told(site: Site) -> None:
    job = site.submit("/no/such/python", "worker.py")
    site.wait_for_state(job, JobState.FAILED)
    assert WORKER_NOT_STARTED in site.log("0.err")
    details = site.details(job)
    assert details is not None
    assert details.exit_code == 127


def test_a_signal_is_told(site: Site) -> None:
    job = site.submit("sh", "-c", "kill -SEGV $$")
    site.wait_for_state(job, JobState.FAILED)
    details = site.details(job)
    assert details is not None
    assert details.exit_code == -11


def test_waiting_elements_are_queued_with_the_reason(site: Site) -> None:
    job = site.submit("sleep", "60", elements=5, max_parallel_jobs=1)
    site.wait_for_state(f"{job}_0", JobState.RUNNING)
    site.wait_for(lambda: site.status(f"{job}_4") == _queued("JobArrayTaskLimit"))
    assert site.status(f"{job}_5") is None
    site.cancel(f"{job}_1", f"{job}_2", f"{job}_0")
    site.wait_for_state(f"{job}_0", JobState.CANCELLED)
    assert site.status(f"{job}_1") is None  # SLURM forgets elements that never ran at once
    site.wait_for_state(f"{job}_3", JobState.RUNNING)
    site.cancel(job)
    site.wait_for_state(f"{job}_3", JobState.CANCELLED)


def _queued(reason: str) -> JobStatus:
    return JobStatus(JobState.QUEUED, reason, name="fit-1a2b3c")


def test_a_whole_array_cancelled_before_it_ran(site: Site, slurm: Slurm) -> None:
    with slurm.node_down():
        job = site.submit("true", elements=10)
        site.cancel(*(site.scheduler.element_id(job, index) for index in range(10)))
        site.wait_for_state(f"{job}_7", JobState.CANCELLED)
    site.wait_for(slurm.is_idle)


def test_a_long_list_of_indices_is_not_cut_short(site: Site, slurm: Slurm) -> None:
    with slurm.node_down():
        job = site.submit("true", elements=1000)
        site.cancel(*(f"{job}_{index}" for index in range(1, 1000, 2)))
        site.wait_for(lambda: site.status(f"{job}_999") is None)
        status = site.status(f"{job}_998")
        assert status is not None
        assert status.state is JobState.QUEUED
        site.cancel(job)
    site.wait_for(slurm.is_idle)


def test_a_node_that_fails(site: Site, slurm: Slurm) -> None:
    job = site.submit("sleep", "60")
    site.wait_for_state(job, JobState.RUNNING)
    with slurm.node_down():
        site.wait_for_state(job, JobState.NODE_FAILURE)
    site.wait_for(slurm.is_idle)


def test_preemption(site: Site) -> None:
    job = site.submit("sleep", "60", cores=CORES)
    site.wait_for_state(job, JobState.RUNNING)
    site.submit("true", cores=CORES, partition=URGENT_PARTITION)
    site.wait_for_state(job, JobState.PREEMPTED)


@pytest.mark.parametrize(
    ("resources", "remedy"),
    [
        ({"partition": "nope"}, "sinfo"),
        ({"memory": "900GB"}, "--mem"),
        ({"gpus": 1}, "gpus="),
        ({"constraint": "nope"}, "constraint"),
    ],
)
def test_refusals_carry_a_remedy(site: Site, resources: dict[str, Any], remedy: str) -> None:
    with pytest.raises(SubmissionRefused) as caught:
        site.submit("true", **resources)
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(("partition", "succeeds"), [(PARTITION, True), ("nope", False)])
def test_a_trial_submits_nothing(site: Site, slurm: Slurm, partition: str, succeeds: bool) -> None:
    resources = Resources.of(partition=partition, memory="50M", constraint=None)
    spec = JobSpec("trial", resources, None, site.directory, ["python3"])
    returncode, _, stderr = site.run(site.scheduler.trial_command(spec))
    assert (returncode == 0) is succeeds, stderr
    assert slurm.queue() == []


def test_an_array_beyond_the_limit_is_refused_and_the_limit_is_known(site: Site) -> None:
    outputs = [site.run(command)[:2] for command in site.scheduler.limits_commands()]
    limits = site.scheduler.parse_limits(outputs)
    assert limits.max_array_size() == 1001
    assert limits.max_submitted_jobs() == 49_999
    assert limits.version.startswith("SLURM 2")
    with pytest.raises(SubmissionRefused, match="max_array_size"):
        site.submit("true", elements=1002)


def test_an_array_of_the_limit_is_taken(site: Site, slurm: Slurm) -> None:
    with slurm.node_down():
        job = site.submit("true", elements=1001)
        site.cancel(job)
    site.wait_for(slurm.is_idle)


def test_a_site_that_takes_nothing_for_now(site: Site, slurm: Slurm) -> None:
    with slurm.without_controller(), pytest.raises(TryLater):
        site.submit("true")
    site.wait_for(slurm.is_idle)


def test_a_default_partition_of_the_cluster(site: Site) -> None:
    site.scheduler = SlurmScheduler(partition=PARTITION, skip_directives=["--mem"])
    job = site.submit("true")
    assert f"Partition={PARTITION}" in site.run(["scontrol", "show", "job", job])[1]
