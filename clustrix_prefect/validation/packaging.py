"""Whether calls travel: each case's value, and the proof that it was computed far away."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prefect.futures import PrefectFuture
from prefect.tasks import Task

from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.errors import EnvironmentMismatch
from clustrix_prefect.validation.check import Check


@dataclass(frozen=True)
class Case:
    """A task that gives the same value wherever it runs.

    A case's task takes the run's id first, and gives a pair: what `proof(run)` says where it
    runs, and its value.

    Attributes:
        name: What it is about.
        task: The task.
        expected: Its value, or what tells whether a value is right.
        arguments: What it is called with, after the run's id.
        keywords: What it is called with by name.
        needs: A package that a cluster need not have; without it the case is left out there.
        left_out: Why it cannot be run from here, if it cannot.
    """

    name: str
    task: Task[Any, Any]
    expected: Any
    arguments: Sequence[Any] = ()
    keywords: Mapping[str, Any] = field(default_factory=dict)
    needs: str = ""
    left_out: str = ""


def run_cases(
    name: str, cluster: ClusterBlock, cases: Sequence[Case], run: str, expected_omp: str
) -> list[Check]:
    """Submit every case from within a flow on the cluster, and judge what comes back.

    Args:
        name: The cluster's name, for people.
        cluster: The cluster that the flow runs its tasks on.
        cases: The cases.
        run: An id that nothing but this run has.
        expected_omp: What OMP_NUM_THREADS is to be there.
    """
    began = time.monotonic()
    chosen = [case for case in cases if not case.left_out]
    futures: list[PrefectFuture[Any]] = [
        case.task.submit(run, *case.arguments, **case.keywords) for case in chosen
    ]
    checks: list[Check] = []
    for case, future in zip(chosen, futures, strict=True):
        answer = future.result(raise_on_failure=False)
        seconds = time.monotonic() - began
        checks.append(judge(name, cluster, case, answer, run, expected_omp, seconds))
    checks += [Check(name, case.name, left_out=case.left_out) for case in cases if case.left_out]
    return checks


def judge(
    name: str,
    cluster: ClusterBlock,
    case: Case,
    answer: Any,
    run: str,
    expected_omp: str,
    seconds: float | None = None,
) -> Check:
    """What came of one case; whatever is not the right value from the right place has failed."""

    def wrong(what: str, remedy: str = "") -> Check:
        return Check(name, case.name, problem=what, remedy=remedy, seconds=seconds)

    if isinstance(answer, EnvironmentMismatch) and answer.requirements:
        lacking = {line.partition("=")[0] for line in answer.requirements}
        if lacking == {case.needs}:
            return Check(name, case.name, left_out=f"There is no {case.needs} there.")
    if isinstance(answer, BaseException):
        if type(answer) is not case.expected:
            return Check.failed(name, case.name, answer)
        # The case is about what its function raises.
        if "raise " not in str(answer.__cause__):
            return wrong("The lines of the traceback did not arrive.")
        proof: Any = answer.args[0] if answer.args else None
    else:
        try:
            proof, value = answer
        except (TypeError, ValueError):
            return wrong(f"It gave {answer!r:.200}, which proves nothing.")
        if isinstance(case.expected, type):
            return wrong("It raised nothing.")
        if not _is_right(value, case.expected):
            return wrong(f"It gave {value!r:.200}, not {_described(case.expected)}.")
    problem = unproven(proof, cluster, run, expected_omp)
    if problem:
        return wrong(problem, "Look into the run's table of calls.")
    job = f", job {proof['job']}" if proof["job"] else ""
    where = f"{proof['host']}, process {proof['pid']}{job}, Python {proof['python']}"
    return Check(name, case.name, where, seconds=seconds)


def unproven(proof: Any, cluster: ClusterBlock, run: str, expected_omp: str) -> str:
    """Why a proof is none; empty if it is one."""
    if not isinstance(proof, Mapping) or {"run", "host", "pid", "job", "omp"} - set(proof):
        return f"It does not say where it ran: {proof!r:.200}."
    if proof["run"] != run:
        return f"It is the answer to another run, {proof['run']!r:.80}."
    if (proof["host"], proof["pid"]) == (socket.gethostname(), os.getpid()):
        return f"It ran in the flow's own process, {proof['pid']} on {proof['host']}."
    if cluster.scheduler() is not None and not proof["job"]:
        return "It ran outside of a job."
    if proof["omp"] != expected_omp:
        return f"OMP_NUM_THREADS was {proof['omp']!r} there, not {expected_omp!r}."
    return ""


def _is_right(value: Any, expected: Any) -> bool:
    if isinstance(expected, Expected):
        return expected.holds(value)
    return type(value) is type(expected) and bool(value == expected)


@dataclass(frozen=True)
class Expected:
    """What tells whether a value is right, where it is not one known value.

    Attributes:
        holds: Whether a value is right.
        what: What a right one is, in words.
    """

    holds: Callable[[Any], bool]
    what: str


def _described(expected: Any) -> str:
    return expected.what if isinstance(expected, Expected) else f"{expected!r:.200}"
