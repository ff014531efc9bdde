"""Every deployment of prefect.yaml on a fresh server, run to its end by a worker."""

from __future__ import annotations

from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from clustrix_prefect.block_types import BLOCK_TYPES
from tests.deployments.conftest import RunDeployment, wait_for_end
from tests.live.clusters import local_cluster
from tests.live.daemon import wait_until
from tests.live.deployed import Deployed, Served
from tests.live.rundir import RunDirectory

NAMES = {
    "approve-pricing-baseline/on-demand",
    "benchmark-transfer/weekly",
    "primes-below-one-million/on-demand",
    "validate-all/daily",
    "validate-cluster-access/hourly",
    "validate-credentials/daily",
    "validate-filesystem/hourly",
    "validate-packaging/nightly",
    "validate-pricing/daily",
}
# Nobody answers there: the flow says so, and ends.
NOBODY = {
    "providers": ["huggingface"],
    "options": {"huggingface": {"endpoint": "https://127.0.0.1:9"}},
    "deadline": 3,
}
PARAMETERS: dict[str, dict[str, Any]] = {
    "approve-pricing-baseline/on-demand": {**NOBODY, "yes": True, "reason": "a test"},
    "validate-pricing/daily": NOBODY,
    "validate-all/daily": {"sizes": ["1KiB"], "pricing": NOBODY},
    "benchmark-transfer/weekly": {"sizes": ["1KiB"]},
}
# What serve.py runs: with parameters of prefect.yaml, with paths of the checkout, with subflows.
SERVED: dict[str, dict[str, Any]] = {
    "benchmark-transfer/weekly": {"sizes": ["1KiB"]},
    "validate-all/daily": {"only": ["filesystem"]},
}
DEGRADED = {
    "approve-pricing-baseline/on-demand": "Nothing was approved",
    "validate-pricing/daily": "Degraded: 1 failure",
    "validate-all/daily": "Failed: 1 of 6 validations (pricing).",
}


def deployments_of(client: SyncPrefectClient) -> dict[str, dict[str, Any]]:
    found = client.request("POST", "/deployments/filter", json={}).json()
    flows = {
        one["id"]: one["name"] for one in client.request("POST", "/flows/filter", json={}).json()
    }
    return {f"{flows[one['flow_id']]}/{one['name']}": one for one in found}


def test_all_are_deployed_and_complete(deployed: Deployed, client: SyncPrefectClient) -> None:
    assert deployed.deploying is not None
    assert deployed.deploying.returncode == 0, deployed.deploying.stderr
    found = deployments_of(client)
    assert set(found) == NAMES
    for name, one in found.items():
        assert one["description"], name
        assert one["tags"], name
        assert one["work_pool_name"] == "validation"
        assert one["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
        assert bool(one["schedules"]) == (not name.endswith("/on-demand"))
        assert one["parameter_openapi_schema"]["type"] == "object"


def test_deploying_again_duplicates_nothing(deployed: Deployed, client: SyncPrefectClient) -> None:
    def automations() -> list[str]:
        found = client.request("POST", "/automations/filter", json={}).json()
        return sorted(one["name"] for one in found)

    before = automations()
    assert before == ["Packaging is tried once clusters are well again"]
    assert deployed.prefect("--no-prompt", "deploy", "--all").returncode == 0
    assert set(deployments_of(client)) == NAMES
    assert automations() == before


def test_what_is_scheduled(client: SyncPrefectClient) -> None:
    """The server plans runs for everything that has a schedule."""
    wanted = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}, "limit": 200}
    deployments = {one["id"]: name for name, one in deployments_of(client).items()}

    def with_runs() -> set[str]:
        planned = client.request("POST", "/flow_runs/filter", json=wanted).json()
        return {deployments[one["deployment_id"]] for one in planned if one["deployment_id"]}

    scheduled = {name for name in NAMES if not name.endswith("/on-demand")}
    wait_until(lambda: with_runs() == scheduled, 120)


# Its subflows are most of the others.
_IN_THE_SHORT_RUN = {"validate-all/daily"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in _IN_THE_SHORT_RUN else [pytest.mark.every])
        for name in sorted(NAMES)
    ],
)
def test_a_worker_runs_it_to_the_end(name: str, run: RunDeployment, clusters: list[str]) -> None:
    ended = run(name, PARAMETERS.get(name))
    assert ended.state is not None
    if name in DEGRADED:
        assert ended.state.is_failed()
        assert str(ended.state.message).startswith(DEGRADED[name])
    else:
        assert ended.state.is_completed(), ended.state


def test_the_server_offers_the_blocks_without_being_asked(client: SyncPrefectClient) -> None:
    ours = {kind.get_block_type_slug(): kind.get_block_type_name() for kind in BLOCK_TYPES}
    found = {kind.slug: kind.name for kind in client.read_block_types()}
    assert ours.items() <= found.items()
    assert not {"batchcluster", "onepasswordblock", "knownfields"} & found.keys()


@pytest.mark.service  # a Prefect server of its own
def test_runs_of_what_is_served(run_directory: RunDirectory) -> None:
    """serve.py makes the deployments on a server that knows none, and runs what is asked for."""
    served = Served(run_directory.child("served"))
    try:
        served.start()
        with (
            temporary_settings({PREFECT_API_URL: served.api_url}),
            get_client(sync_client=True) as client,
        ):
            assert set(deployments_of(client)) == NAMES
            reactions = client.request("POST", "/automations/filter", json={}).json()
            names = [one["name"] for one in reactions]
            assert names == ["Packaging is tried once clusters are well again"]
            here = local_cluster(run_directory.child("served-work"))
            here.save("here", overwrite=True, _sync=True)  # type: ignore[call-arg]
            runs = [
                client.create_flow_run_from_deployment(
                    client.read_deployment_by_name(name).id, parameters=parameters
                )
                for name, parameters in SERVED.items()
            ]
            for made in runs:
                state = wait_for_end(client, made.id, 600).state
                assert state is not None
                assert state.is_completed(), state
    finally:
        served.stop()


def test_all_can_be_served_without_a_work_pool() -> None:
    import importlib.util
    from pathlib import Path

    path = Path(__file__).parents[2] / "deployments" / "serve.py"
    spec = importlib.util.spec_from_file_location("serve_all", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    served = {f"{one.flow_name}/{one.name}": one for one in module.deployments()}
    assert set(served) == NAMES
    assert all(one.description and one.tags for one in served.values())
    assert {bool(one.schedules) for name, one in served.items() if "on-demand" in name} == {False}
