"""`modules` and `setup` of a block: what a call finds loaded, and what it does not find."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from prefect import flow, task

from clustrix_prefect import ClusterTaskRunner, SlurmCluster, SSHCluster
from clustrix_prefect.errors import WorkerNotStarted
from tests.dispatch.test_named_failures import end_of
from tests.live.ssh_host import SSHHost

pytestmark = pytest.mark.usefixtures("quick_prefect")

# What each kind does for the module tool/1.0, its alias `newest`, and for all others. Lmod 8 and
# Environment Modules 5 were watched; of 3.2 the words and the status are known.
_LOADED = """
module() {
  case "$2" in
    tool | tool/1.0 | newest) export LOADEDMODULES=tool/1.0 TOOL=loaded; return 0 ;;
  esac
  %s
}
"""
KINDS = {
    "lmod": "export LMOD_CMD=/opt/lmod/libexec/lmod\n"
    + _LOADED % "echo 'The following module(s) are unknown: \"'$2'\"' >&2; return 1",
    "modules 5": "export MODULES_CMD=/opt/modules/libexec/modulecmd.tcl\n"
    + _LOADED % "echo \"ERROR: Unable to locate a modulefile for '$2'\" >&2; return 1",
    "modules 3.2": "export LOADEDMODULES=\n"
    + _LOADED
    % (
        'echo "ModuleCmd_Load.c(213):ERROR:105: Unable to locate a modulefile for '
        "'$2'\" >&2; return 0"
    ),
    # A site's own, which keeps no list.
    "other": 'module() { test "$2" != nosuch/2.0 && TOOL=loaded && export TOOL; }',
}


@task
def variable(name: str) -> str | None:
    return os.environ.get(name)


@pytest.fixture(
    params=[
        pytest.param(kind, marks=[pytest.mark.every] if kind.startswith("modules") else [])
        for kind in KINDS
    ]
)
def kind(request: pytest.FixtureRequest, ssh_host: SSHHost) -> Iterator[str]:
    """Each kind of `module` in turn, for every login."""
    with ssh_host.bashrc(KINDS[request.param]):
        yield request.param


@pytest.fixture(params=["on_slurm", pytest.param("over_ssh", marks=pytest.mark.every)])
def cluster(kind: str, request: pytest.FixtureRequest) -> SSHCluster | SlurmCluster:
    """With warm workers, and with jobs."""
    found: SSHCluster | SlurmCluster = request.getfixturevalue(request.param)
    return found


def run(cluster: SSHCluster | SlurmCluster, name: str = "TOOL") -> Any:
    """What a call finds in a variable, or why it failed."""
    found = []

    @flow(task_runner=ClusterTaskRunner(cluster))
    def look() -> None:
        found.append(end_of(variable.submit(name)).error)

    look(return_state=True)
    return found[0]


def test_modules_that_do_and_do_not_load(cluster: SSHCluster | SlurmCluster, kind: str) -> None:
    for modules in (["tool/1.0"], ["tool"], ["newest", "tool"]):
        assert run(cluster.model_copy(update={"modules": modules})) == "loaded"
    error = run(cluster.model_copy(update={"modules": ["tool", "nosuch/2.0"]}))
    assert type(error) is WorkerNotStarted, repr(error)
    assert "cannot load the module nosuch/2.0" in str(error)
    if kind != "other":
        assert "nosuch/2.0" in error.stderr_tail.splitlines()[-2], "what `module` itself said"


def test_a_module_that_the_login_node_lacks(on_slurm: SlurmCluster, ssh_host: SSHHost) -> None:
    only_on_nodes = 'module() { test -n "$SLURM_JOB_ID" && export TOOL=loaded; }'
    with ssh_host.bashrc(only_on_nodes):
        assert run(on_slurm.model_copy(update={"modules": ["cuda/12.4"]})) == "loaded"


@pytest.mark.parametrize("where", ["over_ssh", "on_slurm"])
def test_a_setup_line_that_fails(where: str, request: pytest.FixtureRequest) -> None:
    """It stops the worker if it says so, as in any shell script."""
    cluster = request.getfixturevalue(where)
    lines = ["source /no/such/venv/bin/activate", "export TOOL=loaded"]
    assert run(cluster.model_copy(update={"setup": lines})) == "loaded"
    lines[0] += " || exit 1"
    error = run(cluster.model_copy(update={"setup": lines}))
    assert type(error) is WorkerNotStarted
    assert "/no/such/venv/bin/activate" in error.stderr_tail
