"""Whether calls travel: each case's value, and the proof that it was computed far away."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import TERMINAL_STATES, StateType
from prefect.futures import PrefectFuture
from prefect.tasks import Task

from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.errors import EnvironmentMismatch
from clustrix_prefect.validation.check import Check

# Prefect's server writes down a while later what was reported to it.
RUNS_SECONDS = 60.0
LINES_SECONDS = 60.0
_LOOK_SECONDS = 0.3
_PROVES = frozenset({"run", "host", "pid", "job", "omp", "modules"})


@dataclass(frozen=True)
class Case:
    """A task that gives the same value wherever it runs.

    A case's task takes the run's id first, and gives a pair: what `proof(run)` says where it
    runs, and its value.

    Attributes:
        name: What it is about.
        task: The task.
        expected: Its value, or what tells whether a value is right; an exception, if it raises one
            of that class and text.
        arguments: What it is called with, after the run's id.
        keywords: What it is called with by name.
        lines: What has to be in its log: levels and texts.
        needs: A package that a cluster need not have; without it the case is left out there.
        left_out: Why it cannot be run from here, if it cannot.
    """

    name: str
    task: Task[Any, Any]
    expected: Any
    arguments: Sequence[Any] = ()
    keywords: Mapping[str, Any] = field(default_factory=dict)
    lines: Sequence[tuple[int, str]] = ()
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
    chosen = [case for case in cases if not case.left_out]
    futures: list[PrefectFuture[Any]] = [
        case.task.submit(run, *case.arguments, **case.keywords) for case in chosen
    ]
    answers = [future.result(raise_on_failure=False) for future in futures]
    checks: list[Check] = []
    with get_client(sync_client=True) as client:
        took = _run_times(client, [future.task_run_id for future in futures])
        for case, future, answer in zip(chosen, futures, answers, strict=True):
            check = judge(name, cluster, case, answer, run, expected_omp)
            if check.is_ok and case.lines:
                missing = _missing_lines(client, future.task_run_id, case.lines)
                check = replace(check, problem=missing)
            checks.append(replace(check, seconds=took.get(future.task_run_id)))
    checks += [
        Check(case.name, left_out=case.left_out, cluster=name) for case in cases if case.left_out
    ]
    return checks


def _run_times(client: SyncPrefectClient, ids: Sequence[UUID]) -> dict[UUID, float]:
    """Return how long each task run ran, without its time in the queue, as the API has it."""
    wanted = {"task_runs": {"id": {"any_": [str(one) for one in ids]}}, "limit": 200}
    deadline = time.monotonic() + RUNS_SECONDS
    while True:
        found = client.request("POST", "/task_runs/filter", json=wanted).json()
        # Those that were refused before they ran have an end, but no times.
        ended = {UUID(one["id"]): one["total_run_time"] for one in found if _has_ended(one)}
        if len(ended) == len(ids) or time.monotonic() > deadline:
            return ended
        time.sleep(_LOOK_SECONDS)


def _has_ended(task_run: Mapping[str, Any]) -> bool:
    return bool(task_run["state_type"]) and StateType(task_run["state_type"]) in TERMINAL_STATES


def _missing_lines(
    client: SyncPrefectClient, task_run_id: UUID, lines: Sequence[tuple[int, str]]
) -> str:
    """Return which line did not arrive, if one did not."""
    wanted = {"logs": {"task_run_id": {"any_": [str(task_run_id)]}}, "limit": 200}
    deadline = time.monotonic() + LINES_SECONDS
    while True:
        found = client.request("POST", "/logs/filter", json=wanted).json()
        there = {(one["level"], one["message"]) for one in found}
        missing = [line for line in lines if line not in there]
        if not missing:
            return ""
        if time.monotonic() > deadline:
            level, text = missing[0]
            return f"Its log has no line {text!r} at level {logging.getLevelName(level)}."
        time.sleep(_LOOK_SECONDS)


def judge(
    name: str, cluster: ClusterBlock, case: Case, answer: Any, run: str, expected_omp: str
) -> Check:
    """What came of one case; whatever is not the right value from the right place has failed."""

    def wrong(what: str, remedy: str = "") -> Check:
        return Check(case.name, problem=what, remedy=remedy, cluster=name)

    if isinstance(answer, EnvironmentMismatch) and answer.requirements:
        lacking = {line.partition("=")[0] for line in answer.requirements}
        if lacking == {case.needs}:
            return Check(case.name, left_out=f"There is no {case.needs} there.", cluster=name)
    if isinstance(answer, BaseException):
        # Unless the case is about what its function raises.
        if type(answer) is not type(case.expected):
            return Check.failed(case.name, answer, name)
        if str(answer) != str(case.expected):
            return wrong(f"It raised {str(answer)!r:.200}, not {str(case.expected)!r:.200}.")
        if "raise " not in str(answer.__cause__):
            return wrong("The lines of the traceback did not arrive.")
        proof: Any = answer.args[0] if answer.args else None
    else:
        try:
            proof, value = answer
        except (TypeError, ValueError):
            return wrong(f"It gave {answer!r:.200}, which proves nothing.")
        if isinstance(case.expected, BaseException):
            return wrong("It raised nothing.")
        if not _is_right(value, case.expected):
            return wrong(f"It gave {value!r:.200}, not {_described(case.expected)}.")
    problem = unproven(proof, cluster, run, expected_omp)
    if problem:
        return wrong(problem, "Look into the run's table of calls.")
    job = f", job {proof['job']}" if proof["job"] else ""
    where = f"{proof['host']}, process {proof['pid']}{job}, Python {proof['python']}"
    return Check(case.name, where, cluster=name)


def unproven(proof: Any, cluster: ClusterBlock, run: str, expected_omp: str) -> str:
    """Return why a proof is none; empty if it is one."""
    if not isinstance(proof, Mapping) or _PROVES - set(proof):
        return f"It does not say where it ran: {proof!r:.200}."
    if proof["run"] != run:
        return f"It is the answer to another run, {proof['run']!r:.80}."
    if (proof["host"], proof["pid"]) == (socket.gethostname(), os.getpid()):
        return f"It ran in the flow's own process, {proof['pid']} on {proof['host']}."
    if cluster.scheduler() is not None and not proof["job"]:
        return "It ran outside of a job."
    if proof["omp"] != expected_omp:
        return f"OMP_NUM_THREADS was {proof['omp']!r} there, not {expected_omp!r}."
    loaded = str(proof["modules"]).split(":")
    for module in cluster.modules:
        # What is asked for without a version is loaded with one.
        if not any(one == module or one.startswith(f"{module}/") for one in loaded):
            return f"The module {module!r} was not loaded there, but {proof['modules']!r}."
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
