"""What reacts by itself does: the trigger of prefect.yaml, and deployments/automations.yaml."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Cancelled, Completed, Crashed, Failed, Running

from clustrix_prefect.applying.automations import apply_automations, plan_automations
from tests.live.deployed import ROOT

PATIENCE = 90


def wait_for(look: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < deadline, what
        time.sleep(0.5)
    return found


def run_of(client: SyncPrefectClient, name: str, *states: State[Any]) -> FlowRun:
    """A run of a flow of this name that comes to these states, one after another."""
    made = client.create_flow_run(flow(name=name)(lambda: None), tags=["validation"])
    for state in states:
        client.set_flow_run_state(made.id, state, force=True)
    return made


@pytest.fixture
def nobody_begins(client: SyncPrefectClient) -> Iterator[None]:
    """Let no worker take a run for a while: ended behind its back it would be one that crashed."""
    client.update_work_pool("validation", WorkPoolUpdate(is_paused=True))
    yield
    client.update_work_pool("validation", WorkPoolUpdate(is_paused=False))


def test_packaging_is_tried_once_clusters_are_well_again(
    client: SyncPrefectClient, nobody_begins: None
) -> None:
    packaging = client.read_deployment_by_name("validate-packaging/nightly")

    def reactions() -> list[dict[str, Any]]:
        wanted = {"flow_runs": {"deployment_id": {"any_": [str(packaging.id)]}}, "limit": 200}
        found = client.request("POST", "/flow_runs/filter", json=wanted).json()
        return [one for one in found if (one["created_by"] or {}).get("type") == "AUTOMATION"]

    before = {one["id"] for one in reactions()}
    run_of(client, "validate-cluster-access", Running(), Failed())
    time.sleep(3)  # which was first is told by the time alone
    assert {one["id"] for one in reactions()} == before
    run_of(client, "validate-cluster-access", Running(), Completed())

    def new() -> list[dict[str, Any]]:
        return [one for one in reactions() if one["id"] not in before]

    (made,) = wait_for(new, "no run of the packaging was made")
    client.set_flow_run_state(made["id"], Cancelled(), force=True)


@pytest.fixture
def reactions(client: SyncPrefectClient, tmp_path: Path) -> Iterator[None]:
    """The shipped ones, with seconds where they have hours."""
    text = (ROOT / "deployments" / "automations.yaml").read_text()
    text = text.replace("within: 7200", "within: 10")
    first, last = text.rsplit("within: 3600", 1)
    (tmp_path / "automations.yaml").write_text(f"{first}within: 10{last}")
    planned = plan_automations([tmp_path / "automations.yaml"])
    assert len(apply_automations(planned)) == 3
    yield
    for one in planned:
        for made in client.read_automations_by_name(one.name):
            client.delete_automation(made.id)


def test_a_run_that_hangs_is_cancelled(client: SyncPrefectClient, reactions: None) -> None:
    hangs = run_of(client, "hangs", Running())
    done = run_of(client, "does-not", Running(), Completed())

    def is_cancelled() -> bool:
        state = client.read_flow_run(hangs.id).state
        return state is not None and (state.is_cancelled() or state.is_cancelling())

    wait_for(is_cancelled, "it is not cancelled")
    state = client.read_flow_run(done.id).state
    assert state is not None
    assert state.is_completed()


def test_crashes_pause_the_work_pool_for_a_while(
    client: SyncPrefectClient, reactions: None
) -> None:
    def is_paused() -> bool:
        return client.read_work_pool("validation").is_paused

    for _ in range(4):
        run_of(client, "crashes", Running(), Crashed())
    time.sleep(3)
    assert not is_paused()
    run_of(client, "crashes", Running(), Crashed())
    wait_for(is_paused, "it is not paused")
    wait_for(lambda: not is_paused(), "it stays paused")
