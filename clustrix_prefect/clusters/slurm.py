"""A SLURM cluster."""

from __future__ import annotations

from typing import Any

from pydantic import Field, HttpUrl, field_validator

from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.clusters.fields import one_line, unset_if_empty
from clustrix_prefect.clusters.host import SSHHost
from clustrix_prefect.connections.connection import Connection
from clustrix_prefect.connections.local import LocalConnection
from clustrix_prefect.errors import InvalidResources
from clustrix_prefect.schedulers.scheduler import JobSpec
from clustrix_prefect.schedulers.slurm import SlurmScheduler
from clustrix_prefect.task_resources import Resources


class SlurmCluster(ClusterBlock, SSHHost):
    """A cluster whose login node (or this machine) has `sbatch`.

    Examples:
        ```python
        cluster = SlurmCluster(
            host="login.example.org",
            partition="short",
            default_resources={"cores": 1, "memory": "2GB", "time": "00:30:00"},
        )
        print(cluster.job_script({"gpus": 1}))
        ```
    """

    _block_type_name = "SLURM Cluster"
    _block_type_slug = "slurm-cluster"
    _description = "Run a flow's tasks as SLURM jobs; nothing is installed on the cluster."
    _documentation_url = HttpUrl("https://slurm.schedmd.com/sbatch.html")
    _code_example = """
        ```python
        from prefect import flow, task
        from clustrix_prefect import SlurmCluster, ClusterTaskRunner, resources

        cluster = SlurmCluster.load("BLOCK_NAME")

        @task
        def fit(seed: int) -> float:
            return seed / 2

        @flow(task_runner=ClusterTaskRunner(cluster))
        def sweep() -> list[float]:
            with resources(cores=4, memory="8GB", time="00:30:00"):
                return fit.map(range(100)).result()
        ```
    """

    host: str | None = Field(
        default=None,
        title="Host",
        description=(
            "Name or address of the login node, or its alias in ~/.ssh/config. "
            "Left out: `sbatch` of the machine that the flow runs on."
        ),
        examples=["login.cluster.example.org"],
    )
    partition: str | None = Field(
        default=None,
        title="Partition",
        description="Partition for jobs that do not name one. Default: the site's.",
        examples=["short"],
    )
    account: str | None = Field(
        default=None,
        title="Account",
        description="Whom to charge for jobs that do not say. Default: the user's account.",
        examples=["lab42"],
    )
    qos: str | None = Field(
        default=None,
        title="QoS",
        description="Quality of service of jobs that do not say. Default: the site's.",
        examples=["normal"],
    )
    extra_directives: list[str] = Field(
        default_factory=list,
        title="Extra directives",
        description="Further options of `sbatch`, one a line of the job script.",
        examples=[["--exclusive", "--mail-type=FAIL"]],
    )
    skip_directives: list[str] = Field(
        default_factory=list,
        title="Skipped directives",
        description="Options that this site refuses and that are left out.",
        examples=[["--mem"]],
    )
    max_array_size: int | None = Field(
        default=None,
        ge=1,
        title="Array size",
        description="Elements of the largest job array. Default: what the site says.",
    )
    max_submitted_jobs: int | None = Field(
        default=None,
        ge=1,
        title="Submitted jobs",
        description="Jobs and array elements in the queue at once. Default: what the site says.",
    )

    @field_validator("partition", "account", "qos", mode="before")
    @classmethod
    def _site_unset_if_empty(cls, value: Any) -> Any:
        return unset_if_empty(value)

    @field_validator("partition", "account", "qos")
    @classmethod
    def _site_one_line(cls, value: str | None) -> str | None:
        return None if value is None else one_line(value)

    @field_validator("extra_directives")
    @classmethod
    def _directives(cls, value: list[str]) -> list[str]:
        for line in value:
            if not one_line(line).removeprefix("#SBATCH").strip().startswith("-"):
                raise ValueError(f'{line!r} is not an option of sbatch; write "--option=value"')
        return value

    @field_validator("skip_directives")
    @classmethod
    def _option_names(cls, value: list[str]) -> list[str]:
        for name in value:
            if not one_line(name).startswith("--") or "=" in name or " " in name:
                raise ValueError(f'{name!r} is not the name of an option; write "--mem"')
        return value

    @property
    def description(self) -> str:
        return f"SLURM at {self.address}" if self.host else "SLURM on this machine"

    def connect(self) -> Connection:
        return self.open_ssh() if self.host else LocalConnection()

    def scheduler(self) -> SlurmScheduler:
        return SlurmScheduler(
            partition=self.partition,
            account=self.account,
            qos=self.qos,
            extra_directives=tuple(self.extra_directives),
            skip_directives=tuple(self.skip_directives),
        )

    def check_resources(self, wanted: Resources) -> None:
        if wanted.signal_before_end is None:
            return
        if wanted.time is None or wanted.signal_before_end >= wanted.time:
            raise InvalidResources(
                f"resources(signal_before_end={wanted.signal_before_end}) needs a longer `time`.",
                'Write for example resources(time="01:00:00", signal_before_end=60).',
            )

    def job_script(self, resources: Resources | dict[str, Any] | None = None) -> str:
        """The script that would be submitted, for people to read.

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
        work_dir = (self.remote_work_dir or "~/.clustrix-prefect").replace("~", "/HOME", 1)
        spec = JobSpec(
            name="TASK-RUN",
            resources=wanted,
            array_size=10,
            directory=f"{work_dir}/runs/RUN/BATCH",
            command=[
                self._shown_python(work_dir),
                f"{work_dir}/far_side/HASH/worker.py",
                "--batch",
                f"{work_dir}/runs/RUN/BATCH",
                "--index-variable",
                SlurmScheduler.index_variable,
                "--calls-per-job",
                str(wanted.calls_per_job or 1),
            ],
            prologue=self.prologue,
            environment=self.environment,
        )
        return self.scheduler().job_script(spec)

    def _shown_python(self, work_dir: str) -> str:
        if self.managed_environment is not None:
            return f"{work_dir}/environments/HASH/env/bin/python"
        return self.interpreter or "PYTHON"
