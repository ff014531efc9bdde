"""`clustrix-prefect automations apply`, against a real Prefect server."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.blocks.notifications import SlackWebhook
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.sorting import AutomationSort
from prefect.exceptions import ObjectAlreadyExists

from clustrix_prefect.cli.main import main
from tests.live.prefect_server import PrefectServer

ROOT = Path(__file__).parents[2]
ONE = """\
name: NAME
description: tells
trigger:
  type: event
  posture: Reactive
  expect: [prefect.flow-run.Failed]
  threshold: 1
actions:
  - type: send-notification
    block: slack-webhook/NAME
    subject: failed
    body: "{{ flow_run.name }}"
  - type: run-deployment
    deployment: react-to-it/NAME
    parameters: {}
  - type: pause-work-pool
    work_pool: validation
  - type: pause-work-queue
    work_queue: validation/default
"""


@flow
def react_to_it() -> None:
    """Does nothing."""


def automations(name: str) -> list[Any]:
    with get_client(sync_client=True) as client:
        return client.read_automations_by_name(name)


def updated(automation_id: uuid.UUID) -> str:
    """When it was last written."""
    with get_client(sync_client=True) as client:
        return str(client.request("GET", f"/automations/{automation_id}").json()["updated"])  # type: ignore[arg-type]


@pytest.fixture
def name(prefect_server: PrefectServer) -> Iterator[str]:
    name = f"n{uuid.uuid4().hex[:8]}"
    with get_client(sync_client=True) as client:
        with contextlib.suppress(ObjectAlreadyExists):
            client.create_work_pool(WorkPoolCreate(name="validation", type="process"))
        flow_id = client.create_flow(react_to_it)
        client.create_deployment(flow_id=flow_id, name=name)
    SlackWebhook(url="https://hooks.example.org/x").save(name, _sync=True)  # type: ignore[call-arg]
    yield name
    with get_client(sync_client=True) as client:
        for one in automations(name):
            client.delete_automation(one.id)
    SlackWebhook.delete(name, _sync=True)  # type: ignore[call-arg]


@pytest.fixture
def file(name: str, tmp_path: Path) -> Path:
    path = tmp_path / "automations.yaml"
    path.write_text(ONE.replace("NAME", name))
    return path


def apply(*arguments: Any) -> int:
    return main(["automations", "apply", *map(str, arguments)])


def test_names_become_ids_and_a_second_time_nothing_changes(
    file: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert apply("--dry-run", file) == 0
    assert "1 of 1 automation would be saved." in capsys.readouterr().out
    assert automations(name) == []
    assert apply(file) == 0
    assert "1 of 1 automation saved." in capsys.readouterr().out
    (made,) = automations(name)
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name(f"react-to-it/{name}")
        block = client.read_block_document_by_name(name, "slack-webhook")
        pool = client.read_work_pool("validation")
    tells, runs, pauses, queue = made.actions
    assert tells.block_document_id == block.id
    assert (runs.deployment_id, runs.source) == (deployment.id, "selected")
    assert (pauses.work_pool_id, pauses.source) == (pool.id, "selected")
    assert queue.work_queue_id == pool.default_queue_id
    before = updated(made.id)
    assert apply(file) == 0
    assert "0 of 1 automation saved." in capsys.readouterr().out
    assert apply(file, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["saved"] == []
    assert [(one["new"], one["differences"]) for one in told["automations"]] == [(False, [])]
    (again,) = automations(name)
    assert (again.id, updated(again.id)) == (made.id, before)


def test_an_update_is_by_name(file: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    apply(file)
    (made,) = automations(name)
    file.write_text(file.read_text().replace("threshold: 1", "threshold: 3"))
    assert apply("--dry-run", file) == 0
    assert "trigger: " in capsys.readouterr().out
    assert automations(name)[0].trigger.threshold == 1
    assert apply(file) == 0
    (again,) = automations(name)
    assert (again.id, again.trigger.threshold) == (made.id, 3)
    assert len(again.actions) == 4


MORE = """\
name: NAME
description: tells
enabled: false
tags: [nightly]
trigger:
  type: sequence
  within: 60
  triggers:
    - {type: event, expect: [a.b, a.c], threshold: 2, match: {prefect.resource.id: "x.*"}}
    - {type: event, expect: [a.d], posture: Proactive, within: 30}
actions:
  - type: run-deployment
    deployment: react-to-it/NAME
    parameters: {id: 1, day: 2026-01-02}
actions_on_trigger:
  - {type: send-notification, block: slack-webhook/NAME, subject: begins, body: b}
actions_on_resolve:
  - {type: send-notification, block: slack-webhook/NAME, subject: ends, body: b}
"""
LESS = """\
name: NAME
trigger: {type: event, expect: [a.b]}
actions:
  - {type: run-deployment, deployment: react-to-it/NAME, parameters: {id: 2}}
"""


def test_what_is_removed_from_the_file_is_removed_on_the_server(
    file: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(MORE.replace("NAME", name))
    assert apply(file) == 0
    (made,) = automations(name)
    assert (made.enabled, len(made.actions_on_resolve)) == (False, 1)
    capsys.readouterr()
    assert apply(file) == 0
    assert "0 of 1 automation saved." in capsys.readouterr().out
    file.write_text(LESS.replace("NAME", name))
    assert apply(file) == 0
    assert "1 of 1 automation saved." in capsys.readouterr().out
    (left,) = automations(name)
    assert (left.id, left.enabled, left.description, left.tags) == (made.id, True, "", [])
    assert (left.actions_on_trigger, left.actions_on_resolve) == ([], [])
    assert left.actions[0].parameters == {"id": 2}
    before = updated(left.id)
    assert apply(file) == 0
    assert "as in the file" in capsys.readouterr().out
    assert updated(left.id) == before


def test_what_was_paused_by_hand_runs_again(
    file: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    apply(file)
    with get_client(sync_client=True) as client:
        client.pause_automation(automations(name)[0].id)
    capsys.readouterr()
    assert apply(file) == 0
    assert "enabled: False -> True" in capsys.readouterr().out
    assert automations(name)[0].enabled
    assert apply(file) == 0
    assert "0 of 1 automation saved." in capsys.readouterr().out


def test_one_parameter_called_id_is_a_difference(file: Path, name: str) -> None:
    file.write_text(LESS.replace("NAME", name))
    apply(file)
    file.write_text(file.read_text().replace("{id: 2}", "{id: 3}"))
    assert apply(file) == 0
    assert automations(name)[0].actions[0].parameters == {"id": 3}


@pytest.mark.parametrize(
    ("old", "new", "line", "told"),
    [
        ("react-to-it/NAME", "react-to-it/gone", 14, "no deployment 'react-to-it/gone'"),
        ("slack-webhook/NAME", "slack-webhook/gone", 10, "no block 'slack-webhook/gone'"),
        ("slack-webhook/NAME", "gone/NAME", 10, "no block"),
        ("work_pool: validation", "work_pool: gone", 17, "no work pool 'gone'"),
        ("validation/default", "validation/gone", 19, "no work queue"),
        ("work_pool: validation", "work_pool_id: 5", 17, "ids differ"),
        ("description:", "descr:", 2, "no 'descr'"),
        ("posture: Reactive", "posture: Passive", 5, "posture"),
        ("name: NAME", "nam: x", 1, "has a `name`"),
        ("threshold: 1", "treshold: 5", 7, "event has no field 'treshold'; is it 'threshold'?"),
        ("send-notification", "send-notificaton", 9, "is it 'send-notification'?"),
        ("type: pause-work-queue", "type: resume-the-queue", 18, "no action 'resume-the-queue'"),
        ("subject: failed", "subjekt: failed", 11, "'subjekt'; is it 'subject'?"),
        (
            "slack-webhook/NAME",
            "slack-webhook/NAME\n    deployment: react-to-it/NAME",
            11,
            "send-notification has no field 'deployment'",
        ),
    ],
)
def test_mistakes_are_refused_with_their_line(
    file: Path,
    name: str,
    old: str,
    new: str,
    line: int,
    told: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text, old = file.read_text(), old.replace("NAME", name)
    assert old in text
    file.write_text(text.replace(old, new.replace("NAME", name), 1))
    assert apply(file) == 1
    err = capsys.readouterr().err
    assert any(f"{file}:{line}: " in one and told in one for one in err.splitlines()), err
    assert automations(name) == []


def test_a_misspelt_field_of_a_trigger_within_another(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = file.read_text()
    begin, end = text.index("trigger:"), text.index("actions:")
    composite = """\
trigger:
  type: sequence
  within: 60
  triggers:
    - {type: event, expect: [a.b], match_related: {anything: x}}
    - type: event
      expects: [a.c]
"""
    file.write_text(text[:begin] + composite + text[end:])
    assert apply(file) == 1
    assert f"{file}:9: event has no field 'expects'; is it 'expect'?" in capsys.readouterr().err
    file.write_text(file.read_text().replace("expects:", "expect:"))
    assert apply(file) == 0


def test_the_order_of_expected_events_means_nothing(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = file.read_text()
    events = [f"example.event.{number}" for number in range(20)]
    for turn in range(8):
        expected = ", ".join([*events[turn:], *events[:turn]])
        file.write_text(text.replace("prefect.flow-run.Failed", expected))
        assert apply(file) == 0
        saved = f"{1 if turn == 0 else 0} of 1 automation saved."
        assert saved in capsys.readouterr().out


def test_the_shipped_automations(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    shipped = ROOT / "deployments" / "automations.yaml"
    try:
        assert apply(shipped) == 0
        assert "3 of 3 automations saved." in capsys.readouterr().out
        assert apply(shipped) == 0
        assert "0 of 3 automations saved." in capsys.readouterr().out
    finally:
        with get_client(sync_client=True) as client:
            for one in client.read_automations(sort=AutomationSort.NAME_ASC, limit=200):
                client.delete_automation(one.id)
