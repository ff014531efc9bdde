"""This machine as a cluster."""

from __future__ import annotations

import os

from pydantic import HttpUrl

from clustrix_prefect.clusters.workers import WorkerCluster
from clustrix_prefect.connections.local import LocalConnection


class LocalCluster(WorkerCluster):
    """This machine; for trying a flow out, or for using all of its cores.

    Examples:
        ```python
        @flow(task_runner=ClusterTaskRunner(LocalCluster(max_parallel_calls=4)))
        def study(): ...
        ```
    """

    _block_type_name = "Local Cluster"
    _block_type_slug = "local-cluster"
    _description = "Run a flow's tasks on this machine, in worker processes that stay warm."
    _documentation_url = HttpUrl("https://docs.prefect.io/v3/concepts/task-runners")
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

    def connect(self) -> LocalConnection:
        return LocalConnection()

    @property
    def working_directory(self) -> str:
        # Relative paths mean here what they mean in the flow.
        return os.getcwd()
