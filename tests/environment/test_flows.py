"""Environments as a flow meets them: calls wait for theirs, and what is missing is an error."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, task
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.sorting import LogSort
from prefect.runtime import flow_run

from clustrix_prefect import ClusterTaskRunner, ManagedEnvironment
from clustrix_prefect.environments.building import environments_of
from clustrix_prefect.errors import ConfigurationError, EnvironmentMismatch, EnvironmentNotBuilt
from clustrix_prefect.far_side.wire import protocol
from tests.contract.api import eventually, history
from tests.environment.conftest import Place, code, opened
from tests.live.clusters import slurm_cluster
from tests.live.pythons import FarPythons
from tests.live.slurm import Slurm
from tests.live.ssh_host import SSHHost

pytestmark = pytest.mark.usefixtures("quick_prefect")

HERE = "{}.{}".format(*sys.version_info[:2])


@task
def where(number: int) -> tuple[int, str, str]:
    import six  # type: ignore[import-untyped]

    return number, six.__version__, sys.prefix


@task
def count(number: int) -> int:
    return number + 1


@task
def program_there(name: str) -> str | None:
    import shutil

    return shutil.which(name)


def flow_log(flow_run_id: UUID, until: str) -> list[str]:
    """The lines of the flow run's own log, once one contains the text."""
    of_flow_run = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run_id]))
    lines = eventually(
        lambda client: client.read_logs(
            of_flow_run, limit=200, offset=0, sort=LogSort.TIMESTAMP_ASC
        ),
        lambda lines: any(until in line.message for line in lines),
    )
    return [line.message for line in lines]


@pytest.mark.usefixtures("package_index")
@pytest.mark.parametrize(
    "place", ["local", pytest.param("ssh", marks=pytest.mark.every)], indirect=True
)
def test_calls_wait_for_their_environment(place: Place) -> None:
    wanted = ManagedEnvironment(python=HERE)
    cluster = place.cluster(managed_environment=wanted)
    ids: list[Any] = []

    @flow(task_runner=ClusterTaskRunner(cluster))
    def study() -> Sequence[Any]:
        ids.append(UUID(flow_run.id))
        futures = where.map(range(20))
        # Of other code, with an environment of its own: it has no packages.
        other = count.submit(1)
        ids.append(futures[0].task_run_id)
        return futures.result(), other.result()

    results, other = study()
    assert [number for number, *_ in results] == list(range(20))
    assert other == 2
    ((version, prefix),) = {tuple(rest) for _, *rest in results}
    import six

    assert version == six.__version__
    assert prefix.startswith(str(place.work_dir / "environments"))
    lines = flow_log(ids[0], "is ready")
    assert any(f"six=={six.__version__}" in line for line in lines)
    assert any("Building with" in line for line in lines)
    messages = [state.message or "" for state in history(ids[1])]
    assert "Its environment is being prepared" in " ".join(messages)

    results, other = study()
    assert len(results) == 20


def test_what_is_missing_fails_the_task_before_anything_is_queued(
    here: Place, bare_environment: Path
) -> None:
    cluster = here.cluster(virtual_environment=str(bare_environment))

    @flow(task_runner=ClusterTaskRunner(cluster))
    def study() -> Sequence[Any]:
        states = [future.state for future in _waited(where.map(range(3)))]
        return [
            count.submit(1).result(),
            *(state.result(raise_on_failure=False) for state in states),
        ]

    one, *errors = study()
    assert one == 2
    for error in errors:
        assert isinstance(error, EnvironmentMismatch)
        assert "six" in str(error)
        assert "ManagedEnvironment" in str(error)
    assert not list(here.work_dir.glob("runs/*/*/*/*"))


def _waited(futures: Any) -> Any:
    futures.wait()
    return futures


def test_a_build_that_fails_fails_every_call(here: Place) -> None:
    wanted = ManagedEnvironment(python=HERE, requirements=["tinypkg==7.0"])
    cluster = here.cluster(managed_environment=wanted, environment=here.offline)

    @flow(task_runner=ClusterTaskRunner(cluster))
    def study() -> list[Any]:
        return [
            future.state.result(raise_on_failure=False) for future in _waited(count.map([1, 2]))
        ]

    errors = study()
    assert len(errors) == 2
    assert all(isinstance(error, EnvironmentNotBuilt) for error in errors)
    assert all("tinypkg==7.0" in str(error) for error in errors)


def test_programs_of_a_virtual_environment_are_found(here: Place, bare_environment: Path) -> None:
    program = bare_environment / "bin" / "only-in-here"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)

    @flow(task_runner=ClusterTaskRunner(here.cluster(virtual_environment=str(bare_environment))))
    def study() -> Any:
        return program_there.submit("only-in-here").result()

    assert study() == str(program)


@task
def activated() -> tuple[Any, ...]:
    import os

    names = ("CONDA_DEFAULT_ENV", "CONDA_PREFIX", "FROM_A_PACKAGE", "SET", "OF_A_PACKAGE", "UNSET")
    return (sys.prefix, *(os.environ.get(name) for name in names))


# As `conda env config vars set` and `unset` leave them.
VARIABLES = {"SET": "two $words", "UNSET": "***unset***"}
OF_A_PACKAGE = {"OF_A_PACKAGE": "1", "SET": "no"}


class TestConda:
    """An environment as conda leaves it: its list of environments, a prefix, activation scripts."""

    @pytest.fixture
    def prefix(self, ssh_host: SSHHost, far_pythons: FarPythons) -> str:
        path = ssh_host.home / "somewhere" / "envs" / "analysis"
        script = f"{path}/etc/conda/activate.d/some package.sh"
        done = ssh_host.run(
            f"{far_pythons[HERE]} -m venv --without-pip {path} && mkdir -p '{Path(script).parent}'"
            f" ~/.conda && echo 'export FROM_A_PACKAGE=\"$CONDA_PREFIX\"' > '{script}'"
            f" && echo {path} > ~/.conda/environments.txt && cd {path}"
            " && mkdir -p conda-meta etc/conda/env_vars.d"
            f" && echo '{json.dumps({'env_vars': VARIABLES})}' > conda-meta/state"
            f" && echo '{json.dumps(OF_A_PACKAGE)}' > etc/conda/env_vars.d/package.json"
        )
        assert done.returncode == 0, done.stderr
        return str(path)

    def test_by_its_name(self, ssh_host: SSHHost, prefix: str, remote_work_dir: Path) -> None:
        cluster = self.cluster(ssh_host, remote_work_dir, conda_environment="analysis")

        @flow(task_runner=ClusterTaskRunner(cluster))
        def study() -> tuple[Any, ...]:
            return activated.submit().result()

        assert study() == (prefix, "analysis", prefix, prefix, "two $words", "1", None)

    def test_one_that_is_not_there(
        self, ssh_host: SSHHost, prefix: str, remote_work_dir: Path
    ) -> None:
        cluster = self.cluster(ssh_host, remote_work_dir, conda_environment="torch")
        with (
            ClusterTaskRunner(cluster) as runner,
            pytest.raises(ConfigurationError, match=f"conda environment 'torch'.*{prefix}"),
        ):
            runner.submit(activated, {})

    @staticmethod
    def cluster(host: SSHHost, work_dir: Path, **fields: Any) -> Any:
        from clustrix_prefect import SSHCluster
        from tests.live.clusters import account

        given = account(host, {HERE: ""}, work_dir)  # type: ignore[arg-type]
        return SSHCluster(**{**given, "python": None, **fields})


class TestSlurm:
    @pytest.mark.usefixtures("package_index")
    def test_an_environment_is_built_in_a_job(
        self,
        slurm: Slurm,
        ssh_host: SSHHost,
        far_pythons: FarPythons,
        remote_work_dir: Path,
    ) -> None:
        nothing = {"PIP_CONFIG_FILE": "/dev/null", "PIP_NO_INDEX": "1", "UV_NO_INDEX": "1"}
        wanted = ManagedEnvironment(
            python=HERE, wheelhouse=True, build_in_job=True, build_resources={"memory": "512MB"}
        )
        cluster = slurm_cluster(
            ssh_host,
            far_pythons,
            remote_work_dir,
            managed_environment=wanted,
            environment=nothing,
        )
        ids: list[UUID] = []

        @flow(task_runner=ClusterTaskRunner(cluster))
        def study() -> list[Any]:
            ids.append(UUID(flow_run.id))
            return where.map(range(3)).result()

        results = study()
        assert [number for number, *_ in results] == [0, 1, 2]
        assert {prefix.startswith(f"{remote_work_dir}/environments") for *_, prefix in results} == {
            True
        }
        lines = flow_log(ids[0], "is ready")
        assert any("SLURM job" in line and "builds it" in line for line in lines)
        assert any("Sending" in line and "six" in line for line in lines)

    def test_a_build_job_that_is_cancelled_does_not_block(
        self,
        slurm: Slurm,
        ssh_host: SSHHost,
        far_pythons: FarPythons,
        remote_work_dir: Path,
    ) -> None:
        wanted = ManagedEnvironment(python=HERE, requirements=["tinypkg"], build_in_job=True)
        cluster = slurm_cluster(
            ssh_host,
            far_pythons,
            remote_work_dir,
            managed_environment=wanted,
            extra_directives=["--hold"],
        )

        with opened(cluster) as session:

            def cancel(level: int, line: str) -> None:
                if job := re.search(r"SLURM job (\d+) builds it", line):
                    session.request(protocol.command(argv=["scancel", job[1]]))

            with pytest.raises(EnvironmentNotBuilt, match=r"SLURM job \d+ .* cancelled"):
                environments_of(session).prepare(code("tinypkg"), cancel)
        assert not list(remote_work_dir.glob("environments/*/lock"))
