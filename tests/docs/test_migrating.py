"""The guides on migrating: both sides of a pair give the same; names in the tables are right.

Clustrix itself is not installed. What stands for it takes the arguments that version 0.1.1 takes,
and runs the function here.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import clustrix_prefect
from clustrix_prefect import PBSCluster, SlurmCluster, SSHCredentials
from clustrix_prefect.task_resources import Resources
from tests.docs.pages import DOCS, code_of

PAGE = DOCS / "migrate/clustrix.md"
# The fields of `clustrix.config.ClusterConfig`, version 0.1.1.
_SETTINGS = set(
    """
    api_key username password key_file cluster_type cluster_host cluster_port default_cores
    default_memory default_time default_partition default_queue remote_work_dir local_cache_dir
    conda_env_name python_executable auto_parallel max_parallel_jobs job_poll_interval
    cleanup_on_success prefer_local_parallel local_parallel_threshold environment_variables
    module_loads pre_execution_commands
    """.split()  # noqa: SIM905
)


def _cluster(
    function: Callable[..., Any] | None = None,
    *,
    cores: int | None = None,
    memory: str | None = None,
    time: str | None = None,
    partition: str | None = None,
    queue: str | None = None,
    parallel: bool | None = None,
    environment: str | None = None,
) -> Any:
    return function or (lambda decorated: decorated)


def _settings(**given: Any) -> SimpleNamespace:
    assert given.keys() <= _SETTINGS
    return SimpleNamespace(**given)


def _here(name: str) -> Callable[..., Any]:
    ours = getattr(clustrix_prefect, name)
    return lambda *args: ours(*args[:-1], None)


@pytest.fixture
def clustrix(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module in the place of Clustrix."""
    module, config = ModuleType("clustrix"), ModuleType("clustrix.config")
    names = [name for name in clustrix_prefect.__all__ if name.startswith("cluster_")]
    vars(module).update({name: _here(name) for name in names}, cluster=_cluster)
    vars(config).update(ClusterConfig=_settings)
    monkeypatch.setitem(sys.modules, "clustrix", module)
    monkeypatch.setitem(sys.modules, "clustrix.config", config)


def test_both_sides_give_the_same(clustrix: None, stand_ins: dict[str, str]) -> None:
    before, after = [], []
    names: dict[str, Any] = {"__name__": "a_page"}
    for code in code_of(PAGE):
        if code.language == "text":  # what the script above prints, as test_scripts.py sees
            after.append(code.text.strip())
        if code.language != "python":
            continue
        text = code.text.replace("/scratch/ana", stand_ins["/scratch/ana"])
        exec(compile(text, str(code), "exec"), names)
        if "clustrix import" in text:
            before.append(repr(names.pop("result")))
        elif "count" in names:
            after.append(repr(names["count"]))
    assert len(before) == 3
    assert before == after


def _rows(page: str, heading: str) -> list[tuple[str, str]]:
    """The rows of the first table below a heading."""
    text = (DOCS / "migrate" / page).read_text().partition(f"## {heading}\n")[2]
    table = re.search(r"^\|.*?\n\n", text, re.MULTILINE | re.DOTALL)
    assert table
    cells = [line.strip("| ").split(" | ", 1) for line in table[0].strip().splitlines()[2:]]
    return [(left, right) for left, right in cells]


def _names(text: str) -> set[str]:
    return set(re.findall(r"`([a-z_]+)`", text))


def test_every_setting_of_clustrix_has_its_line() -> None:
    rows = _rows("clustrix.md", "The configuration file")
    assert {name for left, _ in rows for name in _names(left)} == _SETTINGS


@pytest.mark.parametrize(
    ("page", "heading"),
    [
        ("clustrix.md", "The configuration file"),
        ("submitit.md", "Parameters"),
        ("prefect-dask.md", "Parameters"),
    ],
)
def test_a_table_leads_to_fields_that_there_are(page: str, heading: str) -> None:
    models = (SlurmCluster, PBSCluster, SSHCredentials, Resources)
    known = {name for model in models for name in model.model_fields}
    values = {"never", "on_failure", "always"}
    for _, right in _rows(page, heading):
        assert _names(right) <= known | values, right
