"""Code that strangers write: the same value everywhere, the same exception, or a refusal.

Each case is a plain call here, and a call in an interpreter that has nothing but what travels.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.task_runners import ThreadPoolTaskRunner

from clustrix_prefect import ClusterTaskRunner, LocalCluster
from clustrix_prefect.errors import CallNotPortable, NotPortable
from tests.live.prefect_server import PrefectServer
from tests.packaging.elsewhere import Elsewhere
from tests.packaging.strangers import refused

KINDS = ("closures", "patched", "annotated", "graphs", "raised", "modules", "inside", "wild")
OWN = ".".join(map(str, sys.version_info[:2]))
OTHERS = tuple(minor for minor in ("3.6", "3.8", "3.13") if minor != OWN)


def cases(kind: str, name: str = "CASES") -> list[tuple[Any, ...]]:
    """The cases of a kind: each a function and its arguments."""
    found = getattr(importlib.import_module(f"tests.packaging.strangers.{kind}"), name)
    return [case if isinstance(case, tuple) else (case,) for case in found]


ALL = [(kind, number) for kind in KINDS for number in range(len(cases(kind)))]
NAMES = [f"{kind}-{number}" for kind, number in ALL]


def shown(value: Any) -> Any:
    """A value, as far as it has to be the same: its type and what it says of itself."""
    text = repr(value)
    # Addresses differ, and the order of sets.
    return type(value).__qualname__, (text.partition(" at 0x")[0] if " at 0x" in text else text)


def outcome(function: Any, *args: Any) -> Any:
    """What a call comes to."""
    try:
        value = function(*args)
    except Exception as error:
        if isinstance(error, (NotPortable, CallNotPortable)):
            raise
        state = {k: v for k, v in vars(error).items() if k != "__notes__"}
        notes = list(getattr(error, "__notes__", ()))
        return "raised", type(error).__qualname__, str(error), repr(error.args), repr(state), notes
    if isinstance(value, (set, frozenset)):
        return "value", type(value).__qualname__, value
    return "value", *shown(value)


@pytest.fixture(scope="module")
def far(
    request: pytest.FixtureRequest,
    pythons: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Elsewhere]:
    """An interpreter of the version that is asked for."""
    if request.param not in pythons:
        pytest.skip(f"no Python {request.param} on this machine")
    python = sys.executable if request.param == OWN else pythons[request.param]
    interpreter = Elsewhere(python, tmp_path_factory.mktemp("far"))
    yield interpreter
    interpreter.close()


@pytest.mark.parametrize(("kind", "number"), ALL, ids=NAMES)
@pytest.mark.parametrize("far", [OWN], indirect=True)
def test_the_same_version(far: Elsewhere, kind: str, number: int) -> None:
    function, *args = cases(kind)[number]
    there = outcome(far.call, function, *args)  # first: some count how often they are called
    assert there == outcome(function, *args)


@pytest.mark.parametrize("number", range(len(cases("modules", "FILES"))))
@pytest.mark.parametrize("far", [OWN], indirect=True)
def test_modules_are_files(far: Elsewhere, number: int) -> None:
    function, *args = cases("modules", "FILES")[number]
    assert outcome(far.call, function, *args) == outcome(function, *args)


def in_flow(runner: Any, found: list[tuple[Any, ...]]) -> list[Any]:
    """What tasks of these functions come to."""

    @flow(task_runner=runner)
    def all_of_them() -> list[Any]:
        futures = [task(function).submit(*args) for function, *args in found]
        return [outcome(future.result) for future in futures]

    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        return all_of_them()


def test_a_local_cluster(prefect_server: PrefectServer, tmp_path: Path) -> None:
    found = [case for kind in KINDS for case in cases(kind)]
    cluster = LocalCluster(remote_work_dir=str(tmp_path / "work"), max_parallel_calls=1)
    there = in_flow(ClusterTaskRunner(cluster), found)
    here = [outcome(function, *args) for function, *args in found]
    assert {n: t for n, t, h in zip(NAMES, there, here, strict=True) if t != h} == {}


def test_tasks_inside_tasks(prefect_server: PrefectServer, tmp_path: Path) -> None:
    found = cases("prefect_parts")
    cluster = LocalCluster(remote_work_dir=str(tmp_path / "work"), max_parallel_calls=1)
    there = in_flow(ClusterTaskRunner(cluster), found)  # first: some count their calls
    assert there == in_flow(ThreadPoolTaskRunner(), found)


def test_there_are_many() -> None:
    assert len(ALL) >= 150


@pytest.mark.parametrize(("kind", "number"), ALL, ids=NAMES)
@pytest.mark.parametrize("far", OTHERS, indirect=True)
def test_another_version(far: Elsewhere, kind: str, number: int) -> None:
    """The same, or refused for the reason that is known: never another value."""
    function, *args = cases(kind)[number]
    name, minor = f"{kind}-{number}", ".".join(map(str, far.version))
    why = refused.BY_OTHERS.get(name) or refused.BY_AGE.get(minor, {}).get(name)
    if why is not None:
        with pytest.raises((NotPortable, CallNotPortable), match=why):
            outcome(far.call, function, *args)
        return
    there, here = outcome(far.call, function, *args), outcome(function, *args)
    said = refused.BY_PYTHON.get(minor, {}).get(name)
    if name in refused.BEGINS_ANEW:
        assert there == (*here[:2], refused.BEGINS_ANEW[name])
    elif said is None:
        assert there == here
    else:
        assert there[:1] == ("raised",)
        assert said in there[2]
