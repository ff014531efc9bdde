"""A Grid Engine cluster."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from clustrix_prefect.clusters.batch import BatchCluster
from clustrix_prefect.clusters.fields import OptionalLine, Request
from clustrix_prefect.errors import InvalidResources
from clustrix_prefect.schedulers.gridengine import GridEngineScheduler
from clustrix_prefect.task_resources import Resources


class SGECluster(BatchCluster):
    """A cluster whose login node (or this machine) has Grid Engine's `qsub`.

    Examples:
        ```python
        cluster = SGECluster(
            host="login.example.org",
            queue="all.q",
            parallel_environment="smp",
            default_resources={"cores": 1, "time": "00:30:00"},
        )
        print(cluster.job_script({"cores": 8, "memory": "16GB"}))
        ```
    """

    _block_type_name = "SGE Cluster"
    _block_type_slug = "sge-cluster"
    _description = "Run a flow's tasks as Grid Engine jobs; nothing is installed on the cluster."
    _code_example = """
        ```python
        from prefect import flow, task
        from clustrix_prefect import SGECluster, ClusterTaskRunner, resources

        cluster = SGECluster.load("BLOCK_NAME")

        @task
        def fit(seed: int):
            return seed / 2

        @flow(task_runner=ClusterTaskRunner(cluster))
        def sweep():
            with resources(cores=4, memory="8GB", time="00:30:00"):
                return fit.map(range(100)).result()
        ```
    """

    system = "Grid Engine"
    submits_with = "qsub"
    directive_prefix = "#$"
    option_example = "-l h_vmem=4G"

    queue: OptionalLine = Field(
        default=None,
        title="Queue",
        description="Queue of calls that do not name one (`partition`). Default: the site's.",
        examples=["all.q"],
    )
    project: OptionalLine = Field(
        default=None,
        title="Project",
        description="Project (`-P`) of calls that do not name one (`account`).",
        examples=["lab42"],
    )
    account: OptionalLine = Field(
        default=None,
        title="Account",
        description="Word that the accounting keeps with every job (`-A`).",
        examples=["sweeps"],
    )
    parallel_environment: OptionalLine = Field(
        default=None,
        title="Parallel environment",
        description="Parallel environment with all slots on one host; needed for several cores.",
        examples=["smp"],
    )
    memory_resource: str = Field(
        default="h_vmem",
        title="Memory resource",
        description="Resource by which memory is requested, for each slot; `qconf -sc` lists them.",
        examples=["h_vmem", "mem_free"],
    )
    gpu_resource: str = Field(
        default="gpu",
        title="GPU resource",
        description="Resource by which GPUs are requested; `qconf -sc` lists them.",
    )
    resource_list: list[Request] = Field(
        default_factory=list,
        title="Resource list",
        description="Requests of every job (`-l`). One of the same name as ours replaces it.",
        examples=[["h_rt=3600", "arch=lx-amd64"]],
    )

    @field_validator("memory_resource", "gpu_resource")
    @classmethod
    def _resource_name(cls, value: str) -> str:
        if not re.match(r"^[A-Za-z_][A-Za-z0-9_.]*\Z", value):
            raise ValueError(f'{value!r} is not the name of a resource; write "h_vmem"')
        return value

    def scheduler(self) -> GridEngineScheduler:
        return GridEngineScheduler(
            queue=self.queue,
            project=self.project,
            account=self.account,
            parallel_environment=self.parallel_environment,
            memory_resource=self.memory_resource,
            gpu_resource=self.gpu_resource,
            extra_directives=[
                *(f"-l {request}" for request in self.resource_list),
                *self.extra_directives,
            ],
            skip_directives=tuple(self.skip_directives),
        )

    def check_resources(self, wanted: Resources) -> None:
        super().check_resources(wanted)
        spread = "Use a parallel environment of the site with extra_directives=['-pe NAME SLOTS']."
        self.refuse(wanted, nodes=spread, tasks_per_node=spread, qos="Name a queue instead.")
        if isinstance(wanted.gpus, str):
            raise InvalidResources(
                f"Grid Engine has no kinds of GPU: resources(gpus={wanted.gpus!r}) says too much.",
                "Write resources(gpus=1), and the kind in `resource_list` as the site names it.",
            )
        if (wanted.cores or 1) > 1 and self.parallel_environment is None:
            raise InvalidResources(
                f"resources(cores={wanted.cores}) needs a parallel environment.",
                "Set the block's `parallel_environment` to one that `qconf -spl` lists whose"
                " allocation_rule is $pe_slots.",
            )
