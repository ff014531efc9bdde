"""What a site's scheduler allows, and in which of its dialects it is spoken to."""

from __future__ import annotations

import logging

from clustrix_prefect.connections.agent import AgentClient
from clustrix_prefect.errors import ClustrixError
from clustrix_prefect.far_side.wire import protocol
from clustrix_prefect.schedulers.scheduler import Limits, Scheduler

logger = logging.getLogger("prefect.clustrix")


def ask_site(
    agent: AgentClient, scheduler: Scheduler, timeout: float = 30
) -> tuple[Scheduler, Limits]:
    """Return the scheduler as it is spoken there, and its limits; both by asking its own commands.

    Args:
        agent: Runs the commands.
        scheduler: Which there may be.
        timeout: Seconds to wait for each of them.
    """
    outputs = []
    for command in scheduler.limits_commands():
        try:
            answer = agent.request(protocol.command(argv=command), timeout=timeout)
            outputs.append((answer["returncode"], answer["stdout"]))
        except ClustrixError:
            logger.debug("%s failed on the cluster", command, exc_info=True)
            outputs.append((127, ""))
    limits = scheduler.parse_limits(outputs)
    return scheduler.for_site(limits.version), limits
