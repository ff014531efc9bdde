"""A SLURM cluster."""

from __future__ import annotations

from pydantic import Field

from clustrix_prefect.clusters.batch import BatchCluster
from clustrix_prefect.clusters.fields import OptionalLine
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
    _code_example = """
        ```python
        from prefect import flow, task
        from clustrix_prefect import SlurmCluster, ClusterTaskRunner, resources

        cluster = SlurmCluster.load("BLOCK_NAME")

        @task
        def fit(seed: int):
            return seed / 2

        @flow(task_runner=ClusterTaskRunner(cluster))
        def sweep():
            with resources(cores=4, memory="8GB", time="00:30:00"):
                return fit.map(range(100)).result()
        ```
    """

    system = "SLURM"
    submits_with = "sbatch"
    directive_prefix = "#SBATCH"
    option_example = "--option=value"

    partition: OptionalLine = Field(
        default=None,
        title="Partition",
        description="Partition of calls that do not name one. Default: the site's.",
        examples=["short"],
    )
    account: OptionalLine = Field(
        default=None,
        title="Account",
        description="Account of calls that do not name one. Default: the user's.",
        examples=["lab42"],
    )
    qos: OptionalLine = Field(
        default=None,
        title="QoS",
        description="Quality of service of calls that do not name one. Default: the site's.",
        examples=["normal"],
    )

    def scheduler(self) -> SlurmScheduler:
        return SlurmScheduler(
            partition=self.partition,
            account=self.account,
            qos=self.qos,
            extra_directives=tuple(self.extra_directives),
            skip_directives=tuple(self.skip_directives),
        )
