"""What clusters with a batch scheduler have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from clustrix_prefect.clusters.cluster import CallsRunIn, ClusterBlock
from clustrix_prefect.clusters.fields import one_line
from clustrix_prefect.clusters.host import SSHHost
from clustrix_prefect.connections.connection import Connection
from clustrix_prefect.connections.local import LocalConnection
from clustrix_prefect.errors import InvalidResources
from clustrix_prefect.far_side.wire import layout
from clustrix_prefect.schedulers.scheduler import JobSpec, Scheduler
from clustrix_prefect.task_resources import Resources


class BatchCluster(ClusterBlock, SSHHost, ABC):
    """A cluster whose login node (or this machine) submits jobs."""

    calls_run_in = CallsRunIn.JOBS
    # What people call it, its submit command, and how a script's lines for it begin.
    system: ClassVar[str]
    submits_with: ClassVar[str]
    directive_prefix: ClassVar[str]
    option_example: ClassVar[str]

    host: str | None = Field(
        default=None,
        title="Host",
        description=(
            "Name or address of the login node, or its alias in ~/.ssh/config. "
            "Leave it out to submit jobs on the machine that the flow runs on."
        ),
        examples=["login.cluster.example.org"],
    )
    extra_directives: list[str] = Field(
        default_factory=list,
        title="Extra directives",
        description="More options of the submit command; each becomes a line of the job script.",
    )
    skip_directives: list[str] = Field(
        default_factory=list,
        title="Skipped directives",
        description="Options that the site refuses, to be left out of job scripts.",
    )
    max_array_size: int | None = Field(
        default=None,
        ge=1,
        title="Array size",
        description="Most elements of one job array. Default: the limit of the site.",
    )
    max_submitted_jobs: int | None = Field(
        default=None,
        ge=1,
        title="Submitted jobs",
        description="Most jobs and array elements in the queue at once. Default: the site's limit.",
    )

    unrunnable: Literal["wait", "fail"] = Field(
        default="wait",
        title="Jobs that never start",
        description=(
            "What happens to a job that the scheduler accepted and will never start: `wait` warns "
            "in the flow run's log, `fail` cancels the job and fails its call."
        ),
    )

    @field_validator("extra_directives")
    @classmethod
    def _directives(cls, value: list[str]) -> list[str]:
        for line in value:
            if not one_line(line).removeprefix(cls.directive_prefix).strip().startswith("-"):
                raise ValueError(
                    f'{line!r} is not an option of {cls.submits_with}; write "{cls.option_example}"'
                )
        return value

    @field_validator("skip_directives")
    @classmethod
    def _option_names(cls, value: list[str]) -> list[str]:
        example = cls.option_example.partition("=")[0]
        begin = "--" if example.startswith("--") else "-"
        for name in value:
            if not one_line(name).startswith(begin) or "=" in name:
                raise ValueError(f'{name!r} is not the name of an option; write "{example}"')
        return value

    @property
    def description(self) -> str:
        return f"{self.system} at {self.address}" if self.host else f"{self.system} on this machine"

    def connect(self) -> Connection:
        return self.open_ssh() if self.host else LocalConnection()

    @abstractmethod
    def scheduler(self) -> Scheduler:
        """Return how jobs are submitted."""

    def check_resources(self, wanted: Resources) -> None:
        if wanted.signal_before_end is None:
            return
        if wanted.time is None or wanted.signal_before_end >= wanted.time:
            raise InvalidResources(
                f"resources(signal_before_end={wanted.signal_before_end}) needs a longer `time`.",
                'Write for example resources(time="01:00:00", signal_before_end=60).',
            )

    def refuse(self, wanted: Resources, **instead: str) -> None:
        """Refuse what this scheduler has no words for.

        Args:
            wanted: What is asked for.
            instead: Fields of `resources(...)` that it does not have, and what to do instead.

        Raises:
            InvalidResources: One of them is asked for.
        """
        for name, remedy in instead.items():
            if getattr(wanted, name) is not None:
                raise InvalidResources(
                    f"{self.system} has nothing for resources({name}=...).", remedy
                )

    def job_script(self, resources: Resources | dict[str, Any] | None = None) -> str:
        """Return the script that would be submitted, for people to read.

        Args:
            resources: What `resources(...)` would say around the call.

        Returns:
            The script for an array of ten calls; names and directories that are known only
            on the cluster are in capitals.

        Raises:
            InvalidResources: A field of `resources` is wrong.
        """
        asked = resources if isinstance(resources, Resources) else Resources.of(**resources or {})
        wanted = self.resources.merged(asked)
        self.check_resources(wanted)
        scheduler = self.scheduler()
        work_dir = (self.remote_work_dir or layout.WORK_DIR).replace("~", "/HOME", 1)
        directory = layout.batch_directory(work_dir, "RUN", "BATCH")
        spec = JobSpec(
            name="TASK-RUN",
            resources=wanted,
            array_size=10,
            directory=directory,
            command=layout.batch_command(
                self._shown_python(work_dir),
                layout.program_directory(work_dir, "HASH"),
                directory,
                wanted.calls_per_job or 1,
                scheduler.index_variable,
            ),
            prologue=self.worker_prologue,
            environment=self.environment,
        )
        return scheduler.job_script(spec)

    def _shown_python(self, work_dir: str) -> str:
        if self.managed_environment is not None:
            return layout.environment_python(work_dir, "HASH")
        return self.interpreter or "PYTHON"
