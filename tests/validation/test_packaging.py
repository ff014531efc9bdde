"""Packaging as the flow validates it: over SSH, through SLURM, and what it does not let pass."""

from __future__ import annotations

import logging
import os
import socket
import time
from typing import Any

import pytest
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from clustrix_prefect import ClusterTaskRunner, LocalCluster, SlurmCluster
from clustrix_prefect.errors import EnvironmentMismatch, WorkerFailed
from clustrix_prefect.validation import packaging
from clustrix_prefect.validation.check import Check
from clustrix_prefect.validation.packaging import Case, judge, run_cases
from flows.travelling.cases import TooLarge, cases, raises
from flows.travelling.packaging import basic
from flows.travelling.proof import proof
from flows.validate_packaging import validate_packaging
from tests.live.clusters import pbs_cluster, sge_cluster, ssh_cluster
from tests.live.gridengine import GridEngine
from tests.live.openpbs import OpenPBS
from tests.live.pythons import FarPythons
from tests.live.slurm import Slurm
from tests.live.slurm_pbs import SlurmPBS
from tests.live.ssh_host import SSHHost
from tests.validation.conftest import Save
from tests.validation.pages import page_of, rows_of

PROOF = {
    "run": "r1",
    "host": "node7",
    "pid": 5,
    "job": "42",
    "omp": "1",
    "modules": "",
    "python": "3.6",
}


def test_every_case_over_ssh_and_through_slurm(bigbox: str, ndoli: str) -> None:
    state = validate_packaging([bigbox, ndoli], return_state=True)
    assert state.is_completed(), state.message
    rows = [row for row in rows_of(page_of(state, "packaging")) if "check" in row]
    for cluster in (bigbox, ndoli):
        ours = {row["check"]: row for row in rows if row["cluster"] == cluster}
        assert len(ours) == 28
        assert ours.pop("numpy argument")["result"] in ("ok", "left out")
        assert {row["result"] for row in ours.values()} == {"ok"}
        assert f"process {os.getpid()}," not in ours["basic"]["found"]
        assert ("job " in ours["basic"]["found"]) == (cluster == ndoli)


@pytest.mark.parametrize("scheduler", ["gridengine", "openpbs", "slurm_pbs"])
def test_a_job_of_another_scheduler_is_a_job(
    scheduler: str,
    saved: Save,
    slurm: Slurm,
    ssh_host: SSHHost,
    far_pythons: FarPythons,
    request: pytest.FixtureRequest,
) -> None:
    commands: GridEngine | OpenPBS | SlurmPBS = request.getfixturevalue(scheduler)
    make = sge_cluster if isinstance(commands, GridEngine) else pbs_cluster
    cluster = make(
        ssh_host,
        far_pythons,
        ssh_host.home / f"validation-{scheduler}",
        environment={"OMP_NUM_THREADS": "1"},
    )
    login = "" if isinstance(commands, GridEngine) else commands.login
    name = saved(cluster, scheduler.replace("_", "-"))
    checks: list[Check] = []

    @flow(task_runner=ClusterTaskRunner(name))
    def some_cases() -> None:
        chosen = [case for case in cases() if case.name in ("basic", "function of a program")]
        checks.extend(run_cases(name, cluster, chosen, "r1", "1"))

    with ssh_host.bashrc(login):
        some_cases()
    assert [check.problem for check in checks] == ["", ""]
    assert all(", job " in check.value for check in checks)


def test_a_cluster_that_cannot_be_used_is_a_failure(here: str) -> None:
    state = validate_packaging(["ssh-cluster/gone", here], return_state=True)
    assert state.is_failed()
    rows = [row for row in rows_of(page_of(state, "packaging")) if "check" in row]
    assert rows[0]["cluster"] == "ssh-cluster/gone"
    assert rows[0]["result"] == "failed"
    assert {row["result"] for row in rows if row["cluster"] == here} == {"ok"}


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (({**PROOF, "run": "r0"}, 8), "the answer to another run"),
        (({**PROOF, "host": socket.gethostname(), "pid": os.getpid()}, 8), "flow's own process"),
        (({**PROOF, "job": ""}, 8), "outside of a job"),
        (({**PROOF, "omp": ""}, 8), "OMP_NUM_THREADS was ''"),
        (({**PROOF}, 9), "gave 9, not 8"),
        (({**PROOF}, 8.0), "gave 8.0, not 8"),
        (({}, 8), "does not say where it ran"),
        (8, "proves nothing"),
        (True, "proves nothing"),
        (None, "proves nothing"),
        (WorkerFailed("It was killed."), "It was killed."),
        (ValueError("no"), "ValueError: no"),
    ],
)
def test_nothing_else_passes_than_the_value_with_its_proof(answer: Any, told: str) -> None:
    case = Case("helper", basic, 8)  # type: ignore[arg-type]
    check = judge("slurm-cluster/ndoli", SlurmCluster(), case, answer, "r1", "1")
    assert told in check.problem
    assert not check.is_ok
    right = judge("slurm-cluster/ndoli", SlurmCluster(), case, (PROOF, 8), "r1", "1")
    assert right.is_ok
    assert right.value == "node7, process 5, job 42, Python 3.6"


def test_an_exception_must_be_the_one_with_its_text_and_traceback() -> None:
    case = Case("raises", raises, TooLarge(None, 50))  # type: ignore[arg-type]
    without = TooLarge(PROOF, 50)
    assert "traceback" in judge("here", LocalCluster(), case, without, "r1", "1").problem
    error = TooLarge(PROOF, 50)
    error.__cause__ = RuntimeError("raise TooLarge(proof(run), size)")
    assert judge("here", LocalCluster(), case, error, "r1", "1").is_ok
    assert not judge("here", LocalCluster(), case, ValueError("x"), "r1", "1").is_ok
    other = TooLarge(PROOF, 51)
    other.__cause__ = error.__cause__
    told = judge("here", LocalCluster(), case, other, "r1", "1").problem
    assert told == "It raised '51 is too large', not '50 is too large'."
    assert not judge("here", LocalCluster(), case, (PROOF, TooLarge), "r1", "1").is_ok


def test_the_modules_of_the_block_must_have_been_loaded() -> None:
    cluster = SlurmCluster(modules=["python/3.11", "gcc"])
    case = Case("helper", basic, 8)  # type: ignore[arg-type]

    def told(loaded: str) -> str:
        return judge("x", cluster, case, ({**PROOF, "modules": loaded}, 8), "r1", "1").problem

    assert told("python/3.11:gcc/12.2") == ""
    assert told("gcc:python/3.11") == ""
    assert "'python/3.11' was not loaded there, but 'python/3.1:gcc'" in told("python/3.1:gcc")
    assert "'gcc' was not loaded there" in told("python/3.11:gccgo/1")
    assert "'python/3.11' was not loaded" in told("")


@task(cache_policy=NO_CACHE)
def says_too_little(run: str) -> Any:
    return proof(run), 1


@task(cache_policy=NO_CACHE)
def takes_its_time(run: str) -> Any:
    time.sleep(3)
    return proof(run), 1


def test_each_case_has_a_time_of_its_own_and_its_log_is_read(
    saved: Save, ssh_host: SSHHost, far_pythons: FarPythons, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packaging, "LINES_SECONDS", 3.0)
    one_by_one = ssh_cluster(
        ssh_host,
        far_pythons,
        ssh_host.home / "validation",
        environment={"OMP_NUM_THREADS": "1"},
        modules=["tool"],
        max_parallel_calls=1,
    )
    name = saved(one_by_one, "slowly")
    checks: list[Check] = []

    @flow(task_runner=ClusterTaskRunner(name))
    def three_cases() -> None:
        silent = Case("silent", says_too_little, 1, lines=[(logging.INFO, "a line")])
        several = [Case("slow", takes_its_time, 1), Case("quick", says_too_little, 1), silent]
        checks.extend(run_cases(name, one_by_one, several, "r1", "1"))

    with ssh_host.bashrc('module() { [ "$1" = load ] && export LOADEDMODULES="$2/1.0"; }'):
        three_cases()
    slow, quick, _ = checks
    assert [check.problem for check in checks] == [
        "",
        "",
        "Its log has no line 'a line' at level INFO.",
    ]
    assert slow.seconds is not None
    assert quick.seconds is not None
    assert quick.seconds < slow.seconds, "not the time since all were submitted"


def test_only_the_package_a_case_needs_may_be_missing() -> None:
    case = Case("numpy argument", basic, 8, needs="numpy")  # type: ignore[arg-type]
    lacks = EnvironmentMismatch("no numpy", requirements=["numpy==2.4.6"])
    assert judge("here", LocalCluster(), case, lacks, "r1", "1").left_out
    more = EnvironmentMismatch("no numpy, no torch", requirements=["numpy==2.4.6", "torch==2"])
    assert not judge("here", LocalCluster(), case, more, "r1", "1").is_ok
    assert not judge("here", LocalCluster(), Case("x", basic, 8), lacks, "r1", "1").is_ok  # type: ignore[arg-type]


def test_each_case_has_a_name_of_its_own() -> None:
    names = [case.name for case in cases()]
    assert len(set(names)) == len(names)
    assert [case.task.name for case in cases()] == names
