"""The flows on a world of price sources, with a real Prefect server: what a user sees of them."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter
from prefect.client.schemas.objects import Artifact, State
from prefect.events.worker import EventsWorker
from prefect.flow_runs import resume_flow_run

from clustrix_prefect.pricing.blocks import PricingBaseline
from clustrix_prefect.pricing.checks.waivers import Waiver
from flows.approve_pricing_baseline import approve_pricing_baseline
from flows.validate_pricing import validate_pricing
from tests.contract.api import eventually
from tests.live.prefect_server import empty_database
from tests.pricing.servers import azure, huggingface, lambda_cloud
from tests.pricing.servers.aws import AWSServer
from tests.pricing.servers.faults import Fault
from tests.pricing.servers.tls import TLSServer
from tests.pricing.world import CREDENTIALS, SOURCES

pytestmark = pytest.mark.usefixtures("quick_prefect")

ASKED = ("azure", "huggingface", "lambda_cloud")


@pytest.fixture(scope="module")
def servers() -> Iterator[Mapping[str, TLSServer]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(SOURCES[name].server()) for name in ASKED}


@pytest.fixture
def world(servers: Mapping[str, TLSServer], prefect_server: Any) -> Iterator[dict[str, Any]]:
    """The flows' parameters; no server does anything wrong, and nothing is approved."""
    CREDENTIALS.save("loopback", overwrite=True, _sync=True)  # type: ignore[call-arg]
    for server in servers.values():
        server.fault = None
    yield {
        "providers": list(ASKED),
        "regions": {"azure": ["eastus", "westeurope"]},
        "credentials": "loopback",
        "options": {name: SOURCES[name].options(server) for name, server in servers.items()},
        "deadline": 20,
    }
    for server in servers.values():
        server.fault = None
    with suppress(ValueError):
        PricingBaseline.delete("approved", _sync=True)  # type: ignore[call-arg]


@pytest.fixture
def approved(world: dict[str, Any], tmp_path: Path) -> PricingBaseline:
    state = approve_pricing_baseline(
        **world, folder=str(tmp_path), yes=True, reason="as listed", return_state=True
    )
    assert state.is_completed(), state.message
    return load()


def load() -> PricingBaseline:
    block = PricingBaseline.load("approved", _sync=True)  # type: ignore[call-arg]
    assert isinstance(block, PricingBaseline)
    return block


def validate(world: dict[str, Any], **changes: Any) -> State[Any]:
    return validate_pricing(**{**world, **changes}, return_state=True)


def artifacts(key: str) -> list[Artifact]:
    """Newest first."""
    with get_client(sync_client=True) as client:
        wanted = {"artifacts": {"key": {"any_": [key]}}, "sort": "CREATED_DESC"}
        answer = client.request("POST", "/artifacts/filter", json=wanted)
        return Artifact.model_validate_list(answer.json())


def summary() -> str:
    return str(artifacts("prices")[0].data).replace("\\", "")


def log_of(state: State[Any], text: str) -> str:
    """The run's log, once a line with this text is in it."""
    run = str(state.state_details.flow_run_id)

    def read(client: Any) -> list[str]:
        chosen = LogFilter(flow_run_id={"any_": [run]})
        return [log.message for log in client.read_logs(chosen, limit=200, offset=0)]

    return "\n".join(eventually(read, lambda lines: any(text in line for line in lines)))


# --- validation -----------------------------------------------------------------------------


def test_a_clean_world_without_a_baseline(world: dict[str, Any]) -> None:
    state = validate(world)
    assert state.is_completed()
    assert state.message == "Passed: 114 prices of 3 providers, 3 warnings."
    log_of(state, "Passed: 114 prices of 3 providers")
    page = summary()
    assert "no baseline" in page
    assert "No baseline: run approve_pricing_baseline" in page
    assert "[azure.microsoft.com](https://azure.microsoft.com/pricing/" in page
    assert "savings plans" in page


def test_a_clean_world_that_was_approved(world: dict[str, Any], approved: PricingBaseline) -> None:
    state = validate(world)
    assert state.is_completed()
    assert state.message == "Passed: 114 prices of 3 providers."
    page = summary()
    assert f"sha256 {approved.digest[:16]}" in page
    assert "as listed" in page
    rows = json.loads(str(artifacts("prices-lambda-cloud")[0].data))
    assert all(isinstance(cell, str) for row in rows for cell in row.values())
    (h100,) = [row for row in rows if row["check"] == "price"]
    assert (h100["type"], h100["an hour"]) == ("gpu\\_1x\\_h100\\_sxm5", "3.29 USD")
    assert {row["level"] for row in rows} == {"ok", ""}


def test_earlier_runs_are_an_image(world: dict[str, Any]) -> None:
    before = len(artifacts("prices"))
    for _ in range(2):
        validate(world, providers=["huggingface"])
    page = str(artifacts("prices")[0].data)
    _, _, image = page.partition("(data:image/svg+xml;base64,")
    svg = base64.b64decode(image.partition(")")[0]).decode()
    assert svg.startswith("<svg ")
    assert svg.count("<rect ") == before + 2


def test_one_that_fails_stops_no_other(
    world: dict[str, Any], servers: Mapping[str, TLSServer], approved: PricingBaseline
) -> None:
    servers["lambda_cloud"].fault = Fault.EXPIRED_TOKEN
    state = validate(world)
    assert (state.type.value, state.name) == ("FAILED", "Failed")
    lines = str(state.message).splitlines()
    assert lines[0] == (
        "Degraded: 1 failure (lambda_cloud: authentication); 103 prices of 3 providers."
    )
    assert lines[1].startswith("- lambda_cloud: authentication: unavailable (unauthorised)")
    log_of(state, lines[0])
    page = summary()
    assert "| lambda_cloud | unavailable |" in page
    assert "| azure | 80 |" in page


@pytest.mark.parametrize("provider", ASKED)
def test_no_body_of_an_answer_is_shown(
    world: dict[str, Any], servers: Mapping[str, TLSServer], provider: str
) -> None:
    servers[provider].fault = Fault.HTML_200
    state = validate(world, providers=[provider])
    assert state.is_failed()
    table = artifacts(f"prices-{provider.replace('_', '-')}")[0].data
    shown = f"{state.message} {summary()} {table} {log_of(state, 'Degraded: ')}"
    assert "log in to the network" not in shown
    for secret in (huggingface.TOKEN, lambda_cloud.KEY, azure.SECRET):
        assert secret not in shown


def test_an_event_for_each_failure(
    world: dict[str, Any], servers: Mapping[str, TLSServer], approved: PricingBaseline
) -> None:
    servers["huggingface"].fault = Fault.ZERO_PRICE
    state = validate(world)
    EventsWorker.drain_all(timeout=5)
    run = f"prefect.flow-run.{state.state_details.flow_run_id}"
    wanted = {"filter": {"event": {"name": ["clustrix-prefect.prices.failed"]}}, "limit": 50}

    def read(client: Any) -> list[dict[str, Any]]:
        events = client.request("POST", "/events/filter", json=wanted).json()["events"]
        return [e for e in events if run in {r["prefect.resource.id"] for r in e["related"]}]

    events = eventually(read, lambda found: len(found) == 2)
    payloads = {event["payload"]["check"]: event["payload"] for event in events}
    assert payloads.keys() == {"bounds", "drift"}
    assert payloads["bounds"]["evidence"] == ["t4-medium: the price is 0"] * 2
    assert {event["resource"]["prefect.resource.id"] for event in events} == {
        "clustrix-prefect.prices.huggingface"
    }


def test_the_message_names_the_failures(
    world: dict[str, Any], servers: Mapping[str, TLSServer], approved: PricingBaseline
) -> None:
    servers["azure"].fault = Fault.WRONG_UNIT
    servers["huggingface"].fault = Fault.CHEAP_GPU
    servers["lambda_cloud"].fault = Fault.CHEAP_GPU
    state = validate(world)
    lines = str(state.message).splitlines()
    assert lines[0].startswith("Degraded: 9 failures (azure: bounds, structure, drift; ")
    assert len(lines) == 1 + 9


def test_fewer_prices_than_in_the_last_run_that_passed(
    world: dict[str, Any], servers: Mapping[str, TLSServer]
) -> None:
    assert validate(world, providers=["huggingface"]).is_completed()
    servers["huggingface"].fault = Fault.TRUNCATED_PAGE
    for _ in range(2):  # the run that failed is no measure for the next one
        state = validate(world, providers=["huggingface"])
        assert "huggingface: coverage" in str(state.message)
        assert "23 in the last run that passed" in summary()


def test_a_baseline_that_is_not_what_was_approved(
    world: dict[str, Any], approved: PricingBaseline
) -> None:
    path = Path(approved.path)
    path.write_bytes(path.read_bytes() + b" ")
    state = validate(world, providers=["huggingface"])
    assert "is not the one that was approved: its sha256 differs" in str(state.message)


def test_aws_with_spot_prices_and_its_second_source(world: dict[str, Any]) -> None:
    with AWSServer() as server:
        places = dict.fromkeys(("endpoint", "bulk_endpoint", "compute_endpoint"), server.url)
        asked = {
            "providers": ["aws"],
            "regions": {"aws": ["us-east-1"]},
            "options": {"aws": places},
        }
        state = validate(world, **asked, second_source=True)
        assert state.message == "Passed: 57 prices of 1 provider, 1 warning."  # no baseline
        rows = json.loads(str(artifacts("prices-aws")[0].data))
        assert "19 prices are the same in two sources" in {row["note"] for row in rows}
        state = validate(world, **asked, spot=False)
        assert state.message == "Passed: 19 prices of 1 provider, 1 warning."


def test_an_unknown_provider(world: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=r"providers|provider"):
        validate_pricing(**{**world, "providers": ["nowhere"]})


# --- approval -------------------------------------------------------------------------------


def dearer(servers: Mapping[str, TLSServer]) -> None:
    """One price of Hugging Face's changes by a tenth."""
    servers["huggingface"].fault = Fault.INFLATED


def test_a_change_fails_until_it_is_approved(
    world: dict[str, Any],
    servers: Mapping[str, TLSServer],
    approved: PricingBaseline,
    tmp_path: Path,
) -> None:
    dearer(servers)
    state = validate(world)
    assert "(huggingface: drift)" in str(state.message)
    again = approve_pricing_baseline(
        **world, folder=str(tmp_path), yes=True, reason="announced", return_state=True
    )
    assert again.message == "Approved 74 prices (2 changed, 0 new, 0 gone)."
    assert "0.6 → 0.66 (+10.0 %)" in str(artifacts("price-approval")[0].data).replace("\\", "")
    assert load().reason == "announced"
    assert load().digest != approved.digest
    assert Path(approved.path).exists()  # what was approved before is still there
    assert validate(world).is_completed()


def test_a_waiver_until_it_expires(
    world: dict[str, Any], servers: Mapping[str, TLSServer], approved: PricingBaseline
) -> None:
    dearer(servers)
    waiver = Waiver(
        provider="huggingface", instance_type="t4-*", reason="announced", expires=date.today()
    )
    approved.waivers = [waiver]
    approved.save("approved", overwrite=True, _sync=True)  # type: ignore[call-arg]
    assert validate(world).is_completed()
    approved.waivers = [
        waiver.model_copy(update={"expires": date.today() - timedelta(days=2)}),
    ]
    approved.save("approved", overwrite=True, _sync=True)  # type: ignore[call-arg]
    state = validate(world)
    assert "A waiver expired on" in str(state.message)


def test_yes_needs_a_reason(world: dict[str, Any], tmp_path: Path) -> None:
    state = approve_pricing_baseline(**world, folder=str(tmp_path), yes=True, return_state=True)
    assert state.is_failed()
    assert list(tmp_path.iterdir()) == []


def test_nobody_confirms(
    world: dict[str, Any],
    servers: Mapping[str, TLSServer],
    approved: PricingBaseline,
    tmp_path: Path,
) -> None:
    dearer(servers)
    state = approve_pricing_baseline(
        **world, folder=str(tmp_path), wait_seconds=2, return_state=True
    )
    # The server ends runs that nobody resumes, with words of its own; the log has ours.
    assert state.is_failed()
    log_of(state, "Nobody confirmed; the old baseline stands.")
    assert load().digest == approved.digest


@pytest.mark.parametrize("approves", [True, False])
def test_somebody_answers_in_the_ui(
    world: dict[str, Any],
    servers: Mapping[str, TLSServer],
    approved: PricingBaseline,
    tmp_path: Path,
    approves: bool,
) -> None:
    dearer(servers)
    ended: list[State[Any]] = []

    def approve() -> None:
        ended.append(
            approve_pricing_baseline.with_options(flow_run_name=f"paused-{approves}")(
                **world, folder=str(tmp_path), wait_seconds=10, return_state=True
            )
        )

    thread = threading.Thread(target=approve)
    thread.start()
    wanted = {
        "flow_runs": {
            "name": {"any_": [f"paused-{approves}"]},
            "state": {"name": {"any_": ["Paused"]}},
        }
    }
    (paused,) = eventually(
        lambda client: client.request("POST", "/flow_runs/filter", json=wanted).json(),
        lambda found: len(found) == 1,
    )
    time.sleep(0.2)
    answer = {"approve": approves, "approver": "ana", "reason": "the page says so"}
    resume_flow_run(paused["id"], run_input=answer)
    thread.join(60)
    (state,) = ended
    assert state.is_completed(), state.message
    assert (load().digest != approved.digest) is approves
    assert (load().approver == "ana") is approves


def test_what_was_not_asked_or_cannot_be_stays_approved(
    world: dict[str, Any],
    servers: Mapping[str, TLSServer],
    approved: PricingBaseline,
    tmp_path: Path,
) -> None:
    before = approved.amounts()
    dearer(servers)
    servers["lambda_cloud"].fault = Fault.EXPIRED_TOKEN
    state = approve_pricing_baseline(
        **{**world, "providers": ["huggingface", "lambda_cloud"]},
        folder=str(tmp_path),
        yes=True,
        reason="announced",
        return_state=True,
    )
    assert state.message == "Approved 74 prices (2 changed, 0 new, 0 gone)."
    after = load().amounts()
    assert {key.instance_type for key in before if before[key] != after[key]} == {"t4-medium"}


# --- as commands ----------------------------------------------------------------------------


def run(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, f"flows/{script}", *arguments],
        cwd=Path(__file__).parents[2],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=280,
        stdin=subprocess.DEVNULL,
    )


def test_without_credentials_and_without_a_server(
    world: dict[str, Any], servers: Mapping[str, TLSServer], tmp_path: Path
) -> None:
    """As the guide has it: Prefect starts a server of its own for as long as the run."""
    shutil.copyfile(empty_database(), tmp_path / "prefect.db")
    home = {
        "PREFECT_HOME": str(tmp_path),
        "PREFECT_API_URL": "",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    }
    hub = f"huggingface={servers['huggingface'].url}"
    ended = run("validate_pricing.py", "--provider", "huggingface", "--endpoint", hub, **home)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.splitlines()[-1] == "Passed: 23 prices of 1 provider, 1 warning."


def test_approving_and_validating_as_commands(
    world: dict[str, Any], servers: Mapping[str, TLSServer], tmp_path: Path
) -> None:
    asked = ["--provider", "huggingface", "--endpoint"]
    asked.append(f"huggingface={servers['huggingface'].url}")
    folder = ["--folder", str(tmp_path)]
    refused = run("approve_pricing_baseline.py", *asked, *folder, "--yes")
    assert (refused.returncode, list(tmp_path.iterdir())) == (1, [])
    approved = run("approve_pricing_baseline.py", *asked, *folder, "--yes", "--reason", "first")
    assert approved.returncode == 0, approved.stdout + approved.stderr
    assert approved.stdout.splitlines()[-1].startswith("Approved 23 prices")
    dearer(servers)
    degraded = run("validate_pricing.py", *asked)
    assert degraded.returncode == 1
    assert "Degraded: 1 failure (huggingface: drift)" in degraded.stdout


def test_wrong_arguments() -> None:
    for arguments in (["--provider", "nowhere"], ["--region", "eastus"], ["--endpoint", "aws"]):
        assert run("validate_pricing.py", *arguments).returncode == 2
