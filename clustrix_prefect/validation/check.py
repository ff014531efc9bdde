"""One thing that was checked on a cluster."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from clustrix_prefect.errors import ClustrixError


@dataclass(frozen=True)
class Check:
    """One thing that was checked, and what came of it.

    Attributes:
        name: What.
        value: What was found.
        problem: What is wrong with it, if anything.
        remedy: What to do about that.
        warning: What will soon be wrong with it, if anything.
        left_out: Why it was not checked, if it was not.
        seconds: How long it took, if that was measured.
        cluster: Where, as people call it; empty where only one cluster is looked at.
    """

    name: str
    value: str = ""
    problem: str = ""
    remedy: str = ""
    warning: str = ""
    left_out: str = ""
    seconds: float | None = None
    cluster: str = ""

    @property
    def is_ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problem

    @property
    def log_level(self) -> int:
        """How loudly a log tells of it."""
        if not self.is_ok:
            return logging.ERROR
        return logging.WARNING if self.warning else logging.INFO

    @classmethod
    def failed(cls, name: str, error: BaseException, cluster: str = "") -> Check:
        """Return a check that an exception ended."""
        if isinstance(error, ClustrixError):
            return cls(name, problem=error.what, remedy=error.remedy, cluster=cluster)
        return cls(name, problem=f"{type(error).__name__}: {error}", cluster=cluster)

    def __str__(self) -> str:
        told = [self.value, self.problem, self.warning, self.remedy, self.left_out]
        return f"{self.cluster}, {self.name}: {' '.join(text for text in told if text)}"
