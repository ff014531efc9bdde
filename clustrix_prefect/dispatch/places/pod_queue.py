"""Calls that wait for the same kind of pod."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from clustrix_prefect.dispatch.call import Call
from clustrix_prefect.task_resources import Resources

if TYPE_CHECKING:
    from clustrix_prefect.dispatch.places.pod import Pod
    from clustrix_prefect.dispatch.task_run import TaskRunDriver


@dataclass
class Group:
    """Calls that ask for the same.

    Attributes:
        resources: What each asks for.
        calls_per_pod: How many a pod takes at most.
        max_pods: How many pods there may be at once.
        waiting: The calls that no pod has taken.
        newcomers: Task runs whose calls cannot be packed before a pod has told of the image, and
            how often the cluster took away the pod that was to do so.
        reason: What the pods that are starting wait for.
        pods: Those that are starting, or take calls.
        refused_since: When a quota first left no room for a pod; None since one has started.
    """

    resources: Resources
    calls_per_pod: int
    max_pods: int
    waiting: deque[Call] = field(default_factory=deque)
    newcomers: dict[TaskRunDriver, int] = field(default_factory=dict)
    reason: str = ""
    pods: list[Pod] = field(default_factory=list)
    refused_since: float | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits for a pod."""
        return any(not call.state.is_final for call in self.waiting) or any(
            not driver.is_over for driver in self.newcomers
        )

    def count(self) -> int:
        """How many wait for a pod; those that no longer do are forgotten."""
        self.waiting = deque(call for call in self.waiting if not call.state.is_final)
        for driver in [driver for driver in self.newcomers if driver.is_over]:
            del self.newcomers[driver]
        return len(self.waiting) + len(self.newcomers)
