"""A bare SSH host as a cluster."""

from __future__ import annotations

from pydantic import Field

from clustrix_prefect.clusters.host import SSHHost
from clustrix_prefect.clusters.workers import WorkerCluster
from clustrix_prefect.connections.connection import Connection


class SSHCluster(WorkerCluster, SSHHost):
    """A host that one can log in to, without a scheduler.

    Examples:
        ```python
        cluster = SSHCluster(host="big.example.org", max_parallel_calls=32)
        ```
    """

    _block_type_name = "SSH Cluster"
    _block_type_slug = "ssh-cluster"
    _description = "Run a flow's tasks on a host reached over SSH; nothing is installed there."
    _code_example = """
        ```python
        from prefect import flow, task
        from clustrix_prefect import SSHCluster, ClusterTaskRunner

        cluster = SSHCluster.load("BLOCK_NAME")

        @task
        def square(x: int):
            return x * x

        @flow(task_runner=ClusterTaskRunner(cluster))
        def squares():
            return square.map(range(10)).result()
        ```
    """

    host: str = Field(
        title="Host",
        description="Name or address of the host, or its alias in ~/.ssh/config.",
        examples=["big.example.org"],
    )

    @property
    def description(self) -> str:
        return self.address

    def connect(self) -> Connection:
        return self.open_ssh()
