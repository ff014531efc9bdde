"""What calls of the strangers' code come to, so that it can be compared between processes.

`python -m tests.packaging.compared MODE DIRECTORY` writes what all cases come to in a process that
has run nothing before: plain calls, tasks in threads, or what cloudpickle made of them elsewhere.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
from prefect import flow, task
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from clustrix_prefect.errors import CallNotPortable, NotPortable

KINDS = (
    "closures",
    "patched",
    "annotated",
    "graphs",
    "raised",
    "modules",
    "inside",
    "wild",
    "kept",
)


def module(kind: str) -> Any:
    """The module with the cases of a kind."""
    return importlib.import_module(f"tests.packaging.strangers.{kind}")


def cases(kind: str, name: str = "CASES") -> list[tuple[Any, ...]]:
    """The cases of a kind: each a function and its arguments."""
    return [case if isinstance(case, tuple) else (case,) for case in getattr(module(kind), name)]


def everything() -> dict[str, tuple[Any, ...]]:
    """All cases, by name."""
    return {f"{kind}-{n}": case for kind in KINDS for n, case in enumerate(cases(kind))}


def shown(value: Any) -> list[Any]:
    """A value, as far as it has to be the same: its type and what it says of itself."""
    kind = type(value).__qualname__
    if isinstance(value, (set, frozenset)):
        return [kind, sorted(map(repr, value))]
    text = repr(value)
    return [kind, text.partition(" at 0x")[0]]


def outcome(function: Callable[..., Any], *args: Any) -> list[Any]:
    """What a call comes to."""
    try:
        value = function(*args)
    except Exception as error:
        if isinstance(error, (NotPortable, CallNotPortable)):
            raise
        state = {k: v for k, v in vars(error).items() if k != "__notes__"}
        notes = list(getattr(error, "__notes__", ()))
        kind = type(error).__qualname__
        return ["raised", kind, str(error), repr(error.args), repr(state), notes]
    return ["value", *shown(value)]


def _outcome_or_refusal(function: Callable[..., Any]) -> list[Any]:
    try:
        return outcome(function)
    except (NotPortable, CallNotPortable) as error:
        return ["refused", str(error)]


def in_flow(runner: TaskRunner[Any], found: list[tuple[Any, ...]]) -> list[Any]:
    """What tasks of these functions come to, all in one flow."""

    @flow(task_runner=runner)
    def all_of_them() -> list[Any]:
        futures = [task(function).submit(*args) for function, *args in found]
        return [_outcome_or_refusal(future.result) for future in futures]

    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        return all_of_them()


def _pickled(case: tuple[Any, ...]) -> bytes | None:
    try:
        return cloudpickle.dumps(case)
    except Exception:
        return None


def _unpickled(data: bytes) -> list[Any]:
    try:
        function, *args = cloudpickle.loads(data)
    except Exception as error:
        return ["refused", type(error).__name__]
    return outcome(function, *args)


def main(mode: str, directory: Path) -> None:
    """Write what the cases come to as `<mode>.json`."""
    if mode == "cloudpickle":
        names = sorted(path.name for path in directory.glob("*.case"))
        found = {name[:-5]: _unpickled((directory / name).read_bytes()) for name in names}
    elif mode == "threads":
        # One after the other: some count how often they are called.
        runner: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=1)
        found = dict(zip(everything(), in_flow(runner, list(everything().values())), strict=True))
    else:
        for kind in KINDS:
            cloudpickle.register_pickle_by_value(module(kind))
        for name, case in everything().items():
            if (data := _pickled(case)) is not None:
                (directory / f"{name}.case").write_bytes(data)
        found = {name: outcome(*case) for name, case in everything().items()}
    (directory / f"{mode}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
