"""The interpreter on a cluster that calls run under, and asking it what it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clustrix_prefect.far_side.wire import protocol
from clustrix_prefect.sessions.session import Session


@dataclass(frozen=True)
class FarPython:
    """An interpreter on the cluster.

    Attributes:
        path: Its absolute path there.
        version: Its version, as (major, minor).
    """

    path: str
    version: tuple[int, int]

    def __str__(self) -> str:
        return f"Python {'.'.join(map(str, self.version))} ({self.path})"


def ask(session: Session, python: str, question: Mapping[str, Any]) -> protocol.InterpreterFacts:
    """Return what an interpreter answers that is started as a call's worker would be.

    Raises:
        AgentError: It did not answer.
    """
    return session.request(
        protocol.probe(
            python=python,
            prologue=session.prologue,
            environment=session.cluster.environment,
            question=dict(question),
        ),
        timeout=180,
    )
