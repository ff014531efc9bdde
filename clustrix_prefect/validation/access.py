"""Whether a cluster lets us in, has what calls need, and takes and cancels a job."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import replace

from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.connections.agent import AgentClient
from clustrix_prefect.errors import AgentError, ClustrixError, InfrastructureError
from clustrix_prefect.far_side.wire import protocol
from clustrix_prefect.schedulers.scheduler import JobSpec, JobState, Scheduler, TryLater
from clustrix_prefect.sessions.discovery import ask_site
from clustrix_prefect.sessions.opened import opened
from clustrix_prefect.task_resources import Resources
from clustrix_prefect.validation.check import Check
from clustrix_prefect.validation.cluster_check import check_cluster

_CANCEL_SECONDS = 60.0
_JOB_SECONDS = 600
_WRITE = 'umask 077; mkdir -p "$1/logs" && printf %s "$2" > "$1/job.sh"'


def check_access(name: str, cluster: ClusterBlock) -> Iterator[Check]:
    """Everything that `clustrix-prefect check` looks at, and a job that is cancelled.

    Args:
        name: The cluster's name, for people.
        cluster: The cluster.
    """
    reached = False
    for finding in check_cluster(cluster):
        reached = reached or (finding.name == "work directory" and finding.is_ok)
        yield replace(finding, cluster=name)
    scheduler = cluster.scheduler()
    if scheduler is None:
        yield Check("submit and cancel", left_out="It has no scheduler.", cluster=name)
    elif not reached:
        yield Check(
            "submit and cancel", left_out="The work directory cannot be used.", cluster=name
        )
    else:
        yield _submit_and_cancel(name, cluster, scheduler)


def _submit_and_cancel(name: str, cluster: ClusterBlock, scheduler: Scheduler) -> Check:
    began = time.monotonic()
    try:
        with opened(cluster) as there:
            scheduler, _ = ask_site(there.agent, scheduler)
            trial = _Trial(there.agent, cluster, scheduler, there.work_dir, there.user_id)
            try:
                told = trial.run()
            finally:
                trial.clean_up()
    except TryLater as refusal:
        return Check(
            "submit and cancel",
            problem=f"The job was not taken now: {refusal}.",
            remedy="Try again later.",
            cluster=name,
        )
    except ClustrixError as error:
        return Check.failed("submit and cancel", error, name)
    return Check("submit and cancel", told, seconds=time.monotonic() - began, cluster=name)


class _Trial:
    """One job that would sleep, if it were not cancelled."""

    def __init__(
        self,
        agent: AgentClient,
        cluster: ClusterBlock,
        scheduler: Scheduler,
        work_dir: str,
        user_id: int,
    ) -> None:
        self._agent = agent
        self._scheduler = scheduler
        self._user_id = user_id
        # A name of its own, so that no earlier trial can be taken for this one.
        self._directory = f"{work_dir}/validation-{uuid.uuid4().hex}"
        self._job: str | None = None
        self._spec = JobSpec(
            name="clustrix-prefect-validation",
            resources=cluster.resources.merged(Resources.of(time=_JOB_SECONDS)),
            array_size=None,
            directory=self._directory,
            command=["sleep", str(_JOB_SECONDS)],
        )

    def run(self) -> str:
        """Submit it, cancel it, and see it gone; in words."""
        script = f"{self._directory}/job.sh"
        text = self._scheduler.job_script(self._spec)
        written = self._command(["sh", "-c", _WRITE, "sh", self._directory, text])
        if written["returncode"]:
            raise AgentError(
                f"The job's script cannot be written: {written['stderr'].strip()}.",
                "Set the block's `remote_work_dir` to a directory you can write to.",
            )
        done = self._command(self._scheduler.submit_command(script, self._spec))
        self._job = self._scheduler.parse_submit(done["returncode"], done["stdout"], done["stderr"])
        was = self._state()
        if was is None:
            raise InfrastructureError(
                "The job was taken, and is not in the queue.",
                "Ask the administrators whether the queue shows you all of your jobs.",
                job_id=self._job,
            )
        self._cancel()
        deadline = time.monotonic() + _CANCEL_SECONDS
        while (state := self._state()) is not None and not state.is_final:
            if time.monotonic() > deadline:
                raise InfrastructureError(
                    f"The job was cancelled, and is {state.value} {_CANCEL_SECONDS:.0f} s later.",
                    "Cancel it by hand; ask the administrators if that takes as long.",
                    job_id=self._job,
                )
            time.sleep(0.25)
        job, self._job = self._job, None
        return f"job {job} was {was.value}, and is {state.value if state else 'gone'}"

    def clean_up(self) -> None:
        """Leave nothing behind."""
        if self._job is not None:
            self._cancel()
        self._command(["rm", "-rf", "--", self._directory])

    def _cancel(self) -> None:
        assert self._job is not None
        self._command(self._scheduler.cancel_command([self._job]))

    def _state(self) -> JobState | None:
        done = self._command(self._scheduler.status_command(self._user_id))
        if done["returncode"]:
            raise AgentError(
                f"The queue cannot be listed: {done['stderr'].strip()}.",
                "Try again; ask the administrators if it lasts.",
            )
        status = self._scheduler.parse_status(done["stdout"]).get(self._job or "")
        return None if status is None else status.state

    def _command(self, argv: list[str]) -> protocol.Ended:
        return self._agent.request(protocol.command(argv=argv), timeout=90)
