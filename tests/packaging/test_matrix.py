"""Every acceptance case on every far Python of this machine: the same value, or refused.

The calls go the whole way: a flow, a cluster block with that interpreter, warm workers.
"""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from clustrix_prefect import LocalCluster
from tests.live.prefect_server import PrefectServer
from tests.packaging import cases
from tests.packaging.cases import CASES, TooLarge
from tests.packaging.outcomes import is_right, outcomes_on

FAR = (
    "3.6",
    pytest.param("3.8", marks=pytest.mark.every),
    pytest.param("3.11", marks=pytest.mark.every),
    "3.13",
    "3.12 without numpy",
)


@pytest.fixture(scope="module", params=FAR)
def far(request: pytest.FixtureRequest, pythons: dict[str, str]) -> str:
    """A far Python: its version, and what it lacks."""
    if request.param.partition(" ")[0] not in pythons:
        pytest.skip(f"no Python {request.param} on this machine")
    return str(request.param)


@pytest.fixture(scope="module")
def python(far: str, pythons: dict[str, str], numpy_pythons: dict[str, str]) -> str:
    """The path of its interpreter."""
    minor, _, lacks = far.partition(" ")
    return pythons[minor] if lacks else numpy_pythons[minor]


@pytest.fixture(scope="module")
def outcomes(
    python: str, prefect_server: PrefectServer, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What each case came to on one far Python: its value, or the exception."""
    cluster = LocalCluster(
        python=python,
        remote_work_dir=str(tmp_path_factory.mktemp("work")),
        max_parallel_calls=1,
        # For an older Python there is no numpy of the client's major version.
        package_versions="any",
    )

    return outcomes_on(cluster, [*CASES, ("raises", cases.raises, (50,), {}, {})])


@pytest.mark.parametrize("case", CASES, ids=[case[0].replace(" ", "-") for case in CASES])
def test_a_case_gives_the_same_value_or_is_refused(
    case: tuple[Any, ...], far: str, outcomes: dict[str, Any]
) -> None:
    minor, _, lacks = far.partition(" ")
    assert is_right(case, outcomes, {minor, lacks}), outcomes[case[0]]


def test_an_exception_is_what_it_was(outcomes: dict[str, Any]) -> None:
    error = outcomes["raises"]
    assert type(error) is TooLarge
    assert (error.size, error.limit, str(error)) == (50, 7, "50 is more than 7")
    text = str(error.__cause__)
    line = inspect.getsourcelines(cases.raises.fn)[1] + 2
    assert f'File "tests/packaging/cases.py", line {line}, in raises' in text
    assert "raise TooLarge(size, BASE)" in text
