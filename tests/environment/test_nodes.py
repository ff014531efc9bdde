"""Compute nodes that are not set up as their login node is: each job looks at its own."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import six  # type: ignore[import-untyped]
from prefect import flow, task

from clustrix_prefect import ClusterTaskRunner, SlurmCluster
from clustrix_prefect.errors import NodeMismatch
from tests.environment.wheels import unpacked
from tests.live.clusters import slurm_cluster
from tests.live.pythons import FarPythons
from tests.live.rundir import RunDirectory
from tests.live.slurm import Slurm
from tests.live.ssh_host import SSHHost

HERE = "{}.{}".format(*sys.version_info[:2])

pytestmark = pytest.mark.usefixtures("prefect_server")


@task
def version_there() -> str:
    import six

    return str(six.VERSION)


@task
def python_there() -> tuple[int, ...]:
    return tuple(sys.version_info[:2])


@pytest.fixture
def shared(run_directory: RunDirectory) -> Path:
    """A directory that the account reads, too."""
    path = Path(tempfile.mkdtemp(dir=run_directory.child("nodes")))
    path.chmod(0o755)
    return path


@pytest.fixture
def cluster_of(
    slurm: Slurm, ssh_host: SSHHost, far_pythons: FarPythons, remote_work_dir: Path
) -> Callable[..., SlurmCluster]:
    """Makes a block of the SLURM cluster."""
    return lambda **fields: slurm_cluster(ssh_host, far_pythons, remote_work_dir, **fields)


def outcome_of(what: Any, cluster: SlurmCluster) -> Any:
    @flow(task_runner=ClusterTaskRunner(cluster))
    def study() -> Any:
        return what.submit().result(raise_on_failure=False)

    return study()


@pytest.mark.parametrize(
    ("on_the_node", "says"),
    [
        (None, "`six` is not installed there"),
        ("0.9", f"six is 0.9 there and {six.__version__} on the login node"),
        ("1.0", None),
    ],
)
def test_packages_of_the_node(
    on_the_node: str | None,
    says: str | None,
    shared: Path,
    slurm: Slurm,
    cluster_of: Callable[..., SlurmCluster],
) -> None:
    # The account's interpreters have no packages of their own.
    unpacked(shared / "login", six.__version__, name="six")
    if on_the_node:
        unpacked(shared / "node", on_the_node, name="six")
    place = f'{shared}/$(if [ "$SLURM_JOB_ID" ]; then echo node; else echo login; fi)'
    found = outcome_of(version_there, cluster_of(setup=[f'export PYTHONPATH="{place}"']))
    if says is None:
        assert found == on_the_node
        return
    assert type(found) is NodeMismatch
    assert f"The node {slurm.node} is not set up as the login node is" in str(found)
    assert says in str(found)
    assert "managed_environment=ManagedEnvironment()" in found.remedy
    assert found.job_id


def test_another_python_of_the_same_path(
    shared: Path, far_pythons: FarPythons, cluster_of: Callable[..., SlurmCluster]
) -> None:
    older = Path(far_pythons["3.8"])
    # It says of itself that it is this file, as a program of this path would.
    program = shared / "python"
    program.write_text(
        "#!/bin/bash\n"
        'if [ "$SLURM_JOB_ID" ]; then\n'
        f'  export PYTHONHOME={older.parents[1]}; exec -a "$0" {older} "$@"\n'
        "fi\n"
        f"export PYTHONHOME={Path(far_pythons[HERE]).parents[1]};"
        f' exec -a "$0" {far_pythons[HERE]} "$@"\n'
    )
    program.chmod(0o755)
    found = outcome_of(python_there, cluster_of(python=str(program)))
    assert type(found) is NodeMismatch
    assert f"its {program} is Python 3.8 and the login node's {HERE}" in str(found)
