"""A SLURM cluster."""

from __future__ import annotations

from typing import Any

from pydantic import Field, HttpUrl, field_validator

from clustrix_prefect.clusters.batch import BatchCluster
from clustrix_prefect.clusters.fields import one_line, unset_if_empty
from clustrix_prefect.schedulers.slurm import SlurmScheduler


class SlurmCluster(BatchCluster):
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

    system = "SLURM"
    submits_with = "sbatch"
    directive_prefix = "#SBATCH"
    option_example = "--option=value"

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

    @field_validator("partition", "account", "qos", mode="before")
    @classmethod
    def _site_unset_if_empty(cls, value: Any) -> Any:
        return unset_if_empty(value)

    @field_validator("partition", "account", "qos")
    @classmethod
    def _site_one_line(cls, value: str | None) -> str | None:
        return None if value is None else one_line(value)

    def scheduler(self) -> SlurmScheduler:
        return SlurmScheduler(
            partition=self.partition,
            account=self.account,
            qos=self.qos,
            extra_directives=tuple(self.extra_directives),
            skip_directives=tuple(self.skip_directives),
        )
