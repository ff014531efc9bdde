"""A PBS cluster."""

from __future__ import annotations

from pydantic import Field

from clustrix_prefect.clusters.batch import BatchCluster
from clustrix_prefect.clusters.fields import OptionalLine, Request
from clustrix_prefect.errors import InvalidResources
from clustrix_prefect.schedulers.pbs import PBSScheduler
from clustrix_prefect.task_resources import Resources


class PBSCluster(BatchCluster):
    """A cluster whose login node (or this machine) has PBS's `qsub`.

    OpenPBS and PBS Pro, Torque, or the PBS commands of SLURM: which of them it is, is found out
    when connecting.

    Examples:
        ```python
        cluster = PBSCluster(
            host="login.example.org",
            queue="workq",
            default_resources={"cores": 1, "memory": "2GB", "time": "00:30:00"},
        )
        print(cluster.job_script({"cores": 8, "memory": "16GB"}))
        ```
    """

    _block_type_name = "PBS Cluster"
    _block_type_slug = "pbs-cluster"
    _description = "Run a flow's tasks as PBS jobs; nothing is installed on the cluster."
    _code_example = """
        ```python
        from prefect import flow, task
        from clustrix_prefect import PBSCluster, ClusterTaskRunner, resources

        cluster = PBSCluster.load("BLOCK_NAME")

        @task
        def fit(seed: int):
            return seed / 2

        @flow(task_runner=ClusterTaskRunner(cluster))
        def sweep():
            with resources(cores=4, memory="8GB", time="00:30:00"):
                return fit.map(range(100)).result()
        ```
    """

    system = "PBS"
    submits_with = "qsub"
    directive_prefix = "#PBS"
    option_example = "-l mem=4gb"

    queue: OptionalLine = Field(
        default=None,
        title="Queue",
        description="Queue of calls that do not name one (`partition`). Default: the site's.",
        examples=["workq"],
    )
    project: OptionalLine = Field(
        default=None,
        title="Project",
        description="Project of every job (`-P`), if the site has projects.",
        examples=["lab42"],
    )
    account: OptionalLine = Field(
        default=None,
        title="Account",
        description="Account (`-A`) of calls that do not name one. Default: the user's.",
        examples=["lab42"],
    )
    resource_list: list[Request] = Field(
        default_factory=list,
        title="Resource list",
        description="Requests of every job (`-l`). One of the same name as ours replaces it.",
        examples=[["select=1:ncpus=8:mem=16gb", "place=excl"]],
    )

    def scheduler(self) -> PBSScheduler:
        return PBSScheduler(
            queue=self.queue,
            account=self.account,
            project=self.project,
            extra_directives=[
                *(f"-l {request}" for request in self.resource_list),
                *self.extra_directives,
            ],
            skip_directives=tuple(self.skip_directives),
        )

    def check_resources(self, wanted: Resources) -> None:
        super().check_resources(wanted)
        self.refuse(
            wanted,
            qos="Write the site's way to say it in `extra_directives`, such as '-W x=QOS:high'.",
            signal_before_end="PBS gives no such warning; measure the time in the task itself.",
        )
        if isinstance(wanted.gpus, str):
            raise InvalidResources(
                f"PBS has no kinds of GPU: resources(gpus={wanted.gpus!r}) says too much.",
                'Write resources(gpus=1, constraint="..."), with the kind as the site names it.',
            )
