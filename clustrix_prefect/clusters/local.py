"""This machine as a cluster."""

from __future__ import annotations

import os
import sys

from clustrix_prefect.clusters.workers import WorkerCluster
from clustrix_prefect.connections.local import LocalConnection
from clustrix_prefect.errors import ConfigurationError


class LocalCluster(WorkerCluster):
    """This machine, if it runs Linux; for trying a flow out, or for using all of its cores.

    Examples:
        ```python
        @flow(task_runner=ClusterTaskRunner(LocalCluster(max_parallel_calls=4)))
        def study(): ...
        ```
    """

    _block_type_name = "Local Cluster"
    _block_type_slug = "local-cluster"
    _description = "Run a flow's tasks on this machine, in worker processes that stay warm."
    _code_example = """
        ```python
        from prefect import flow, task
        from clustrix_prefect import LocalCluster, ClusterTaskRunner

        cluster = LocalCluster.load("BLOCK_NAME")

        @task
        def square(x: int):
            return x * x

        @flow(task_runner=ClusterTaskRunner(cluster))
        def squares():
            return square.map(range(10)).result()
        ```
    """

    @property
    def description(self) -> str:
        return "this machine"

    @property
    def interpreter(self) -> str | None:
        """The interpreter that the block names, else the flow's own: it has the same packages."""
        chosen = (self.conda_environment, self.managed_environment)
        if super().interpreter is not None or any(each is not None for each in chosen):
            return super().interpreter
        return sys.executable

    def why_interpreter(self, version: tuple[int, int]) -> str:
        """Return why an interpreter of this minor version was chosen, for people."""
        if self.interpreter == sys.executable and self.python is None:
            return "it is the flow's own"
        return super().why_interpreter(version)

    def connect(self) -> LocalConnection:
        if sys.platform != "linux":
            raise ConfigurationError(
                f"LocalCluster needs Linux, and this machine is {sys.platform}.",
                "Run the tasks on a cluster or a host that has it (SlurmCluster, SSHCluster), or"
                " here with Prefect's ThreadPoolTaskRunner.",
            )
        return LocalConnection()

    @property
    def working_directory(self) -> str:
        # Relative paths mean here what they mean in the flow.
        return os.getcwd()
