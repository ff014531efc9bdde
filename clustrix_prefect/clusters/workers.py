"""Clusters without a scheduler: calls run in warm workers beside the agent."""

from __future__ import annotations

from abc import ABC

from pydantic import Field

from clustrix_prefect.clusters.cluster import CallsRunIn, ClusterBlock


class WorkerCluster(ClusterBlock, ABC):
    """A host whose calls run in worker processes that stay warm between calls."""

    calls_run_in = CallsRunIn.WORKERS

    max_parallel_calls: int | None = Field(
        default=None,
        ge=1,
        title="Calls at once",
        description="How many calls run at the same time. Default: one on each core of the host.",
    )

    def calls_at_once(self, cores: int) -> str:
        return str(self.max_parallel_calls or cores)

    @property
    def working_directory(self) -> str | None:
        """Where calls begin; None: in the far home."""
        return None
