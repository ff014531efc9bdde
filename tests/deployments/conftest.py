"""The shipped deployments, started once for all tests that look at them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings

from tests.live.clusters import local_cluster, slurm_cluster
from tests.live.daemon import wait_until
from tests.live.deployed import Deployed
from tests.live.pythons import FarPythons
from tests.live.rundir import RunDirectory
from tests.live.slurm import Slurm
from tests.live.ssh_host import SSHHost

# A fixture of all tests makes flows of this process report to another server.
RunDeployment = Callable[..., FlowRun]


def wait_for_end(client: SyncPrefectClient, flow_run_id: UUID, within: float) -> FlowRun:
    """The flow run, once it has ended; fails if that takes more than so many seconds."""
    deadline = time.monotonic() + within
    while True:
        found = client.read_flow_run(flow_run_id)
        if found.state is not None and found.state.is_final():
            return found
        assert time.monotonic() < deadline, f"{found.name} has not ended: {found.state}"
        time.sleep(0.5)


def wait_until_idle(client: SyncPrefectClient, deployment_id: UUID) -> None:
    """Wait until no run of a deployment is about to begin, or runs."""
    wanted = {
        "deployments": {"id": {"any_": [str(deployment_id)]}},
        "flow_runs": {"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}},
    }
    wait_until(
        lambda: not client.request("POST", "/flow_runs/filter", json=wanted).json(), seconds=600
    )


@pytest.fixture(scope="session")
def deployed(run_directory: RunDirectory) -> Iterator[Deployed]:
    """A fresh server with every deployment and a worker."""
    service = Deployed(run_directory.child("deployed"))
    try:
        service.start()
        yield service
    finally:
        service.stop()


@pytest.fixture(scope="package")  # the tests of other packages report to a server of their own
def client(deployed: Deployed) -> Iterator[SyncPrefectClient]:
    """Asks that server."""
    with (
        temporary_settings({PREFECT_API_URL: deployed.api_url}),
        get_client(sync_client=True) as client,
    ):
        yield client


@pytest.fixture(scope="package")
def clusters(
    client: SyncPrefectClient,
    slurm: Slurm,
    ssh_host: SSHHost,
    far_pythons: FarPythons,
    run_directory: RunDirectory,
) -> list[str]:
    """This machine and a SLURM cluster over SSH, saved on that server."""
    local_cluster(run_directory.child("deployed-work")).save("here", overwrite=True, _sync=True)  # type: ignore[call-arg]
    slurm_cluster(ssh_host, far_pythons, ssh_host.home / "deployed").save(  # type: ignore[call-arg]
        "ndoli", overwrite=True, _sync=True
    )
    return ["local-cluster/here", "slurm-cluster/ndoli"]


@pytest.fixture(scope="package")
def run(client: SyncPrefectClient) -> RunDeployment:
    """Runs a deployment by name, and waits until it has ended."""

    def run(name: str, parameters: Mapping[str, Any] | None = None) -> FlowRun:
        deployment = client.read_deployment_by_name(name)
        # A run of its schedule would cancel this one, which is one too many then.
        client.request("PATCH", f"/deployments/{deployment.id}", json={"paused": True})  # type: ignore[arg-type]
        wait_until_idle(client, deployment.id)
        made = client.create_flow_run_from_deployment(
            deployment.id, parameters=dict(parameters or {})
        )
        return wait_for_end(client, made.id, 600)

    return run
