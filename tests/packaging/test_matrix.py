"""Every acceptance case on every far Python of this machine: the same value, or refused.

The calls go the whole way: a flow, a cluster block with that interpreter, warm workers.
"""

from __future__ import annotations

import inspect
import subprocess
from typing import Any

import pytest

from clustrix_prefect import LocalCluster
from clustrix_prefect.errors import NotPortable
from tests.live.prefect_server import PrefectServer
from tests.packaging import cases
from tests.packaging.cases import CASES, TooLarge
from tests.packaging.outcomes import expected, is_same, outcomes_on

FAR = ("3.6", "3.8", "3.11", "3.13")


@pytest.fixture(scope="module", params=FAR)
def far(request: pytest.FixtureRequest, pythons: dict[str, str]) -> str:
    if request.param not in pythons:
        pytest.skip(f"no Python {request.param} on this machine")
    return str(request.param)


@pytest.fixture(scope="module")
def facts(far: str, pythons: dict[str, str]) -> set[str]:
    """What is to be known of a far Python: its version, and what it lacks."""
    asked = subprocess.run([pythons[far], "-c", "import numpy"], capture_output=True)
    return {far, "without numpy"} if asked.returncode else {far}


@pytest.fixture(scope="module")
def outcomes(
    far: str,
    pythons: dict[str, str],
    prefect_server: PrefectServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    """What each case came to on one far Python: its value, or the exception."""
    cluster = LocalCluster(
        python=pythons[far],
        remote_work_dir=str(tmp_path_factory.mktemp("work")),
        max_parallel_calls=1,
    )

    return outcomes_on(cluster, [*CASES, ("raises", cases.raises, (50,), {}, ())])


@pytest.mark.parametrize("case", CASES, ids=[case[0].replace(" ", "-") for case in CASES])
def test_a_case_gives_the_same_value_or_is_refused(
    case: tuple[Any, ...], far: str, facts: set[str], outcomes: dict[str, Any]
) -> None:
    name, *_, refused_on = case
    outcome = outcomes[name]
    if facts.intersection(refused_on):
        assert isinstance(outcome, NotPortable), outcome
        return
    if isinstance(outcome, BaseException):
        raise outcome
    assert is_same(expected(case), outcome), outcome


def test_an_exception_is_what_it_was(outcomes: dict[str, Any]) -> None:
    error = outcomes["raises"]
    assert type(error) is TooLarge
    assert (error.size, error.limit, str(error)) == (50, 7, "50 is more than 7")
    text = str(error.__cause__)
    line = inspect.getsourcelines(cases.raises.fn)[1] + 2
    assert f'File "tests/packaging/cases.py", line {line}, in raises' in text
    assert "raise TooLarge(size, BASE)" in text
