"""What a person sees in the Prefect UI, in a real browser; the screenshots are kept.

Some are also in docs/images, where the documentation has them from.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
from prefect import flow, runtime, task
from prefect.blocks.core import Block
from prefect.client.orchestration import SyncPrefectClient
from prefect.context import refresh_global_settings_context
from pydantic import SecretStr

from clustrix_prefect import ClusterTaskRunner, SlurmCluster
from clustrix_prefect.pricing.blocks import PricingCredentials
from tests.deployments.conftest import RunDeployment, wait_for_end
from tests.deployments.test_deployments import NOBODY
from tests.live import pam_host as pam
from tests.live.clusters import ssh_cluster
from tests.live.daemon import wait_until
from tests.live.deployed import ROOT, Deployed
from tests.live.pam_host import PAMHost
from tests.live.pythons import FarPythons
from tests.live.slurm import Slurm
from tests.pricing.servers import huggingface
from tests.pricing.servers.tls import AUTHORITY
from tests.pricing.world import SOURCES
from tests.validation.test_filesystem import HOSTILE

SCREENSHOTS = ROOT / "build" / "screenshots"
PATIENCE = 20_000
FIELDS = set(SlurmCluster.model_fields) - set(Block.model_fields) - {"credentials"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    with sync_playwright() as playwright:
        # The sandbox of Chromium does not start as root; it visits our own server only.
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, deployed: Deployed) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1400, "height": 900}, base_url=deployed.ui_url)
    page.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    yield page
    page.close()


def send(page: Page, button: str, shows: Locator) -> None:
    """Press a form's button until the page shows this.

    Prefect's server now and then answers that its SQLite database is locked; the page says that
    something went wrong, and a person presses again.
    """
    for _ in range(3):
        page.get_by_role("button", name=button).click()
        try:
            expect(shows).to_be_visible()
        except AssertionError:
            if not page.get_by_text("Something went wrong").count():
                raise
        else:
            return
    raise AssertionError(f"{button} went wrong three times")


def keep(page: Page, name: str) -> None:
    """A screenshot, once what moves has come to rest."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.wait_for_timeout(500)
    page.screenshot(path=SCREENSHOTS / f"{name}.png")


def newest(client: SyncPrefectClient, what: str, **wanted: Any) -> dict[str, Any]:
    """The newest artifact or flow run that fits."""
    sort = "CREATED_DESC" if what == "artifacts" else "START_TIME_DESC"
    found = client.request("POST", f"/{what}/filter", json={"sort": sort, what: wanted}).json()  # type: ignore[arg-type]
    assert found, wanted
    first: dict[str, Any] = found[0]
    return first


def test_a_call_in_the_queue_and_then_far_away(
    client: SyncPrefectClient, clusters: list[str], slurm: Slurm, page: Page
) -> None:
    def partition(state: str) -> None:
        change = slurm.command("scontrol", "update", "PartitionName=debug", f"State={state}")
        assert change.returncode == 0, change.stderr

    partition("down")
    try:
        deployment = client.read_deployment_by_name("validate-packaging/nightly")
        asked = {"clusters": ["slurm-cluster/ndoli"]}
        made = client.create_flow_run_from_deployment(deployment.id, parameters=asked)
        deadline = time.monotonic() + 60
        while not (
            subflows := client.request(
                "POST",
                "/flow_runs/filter",
                json={"flow_runs": {"parent_flow_run_id": {"any_": [str(made.id)]}}},
            ).json()
        ):
            assert time.monotonic() < deadline
            time.sleep(0.5)
        # The page asks for what it lists only now and then: what it shows first has to be it.
        queued = {
            "flow_runs": {"id": {"any_": [subflows[0]["id"]]}},
            "task_runs": {"state": {"name": {"any_": ["Queued"]}}},
        }
        while client.request("POST", "/task_runs/count", json=queued).json() < 25:
            assert time.monotonic() < deadline
            time.sleep(0.5)
        page.goto(f"/runs/flow-run/{subflows[0]['id']}?tab=Task+Runs")
        page.get_by_text("Task Runs", exact=True).first.click()
        expect(page.get_by_text("Queued").first).to_be_visible()
        keep(page, "queued")
        # The pages show states by their names; why calls wait is in the flow run's log.
        page.goto(f"/runs/flow-run/{subflows[0]['id']}")
        expect(
            page.get_by_text(re.compile(r"Queued: SLURM job \d+.*: PartitionDown")).first
        ).to_be_visible()
        keep(page, "queued-log")
    finally:
        partition("up")
    state = wait_for_end(client, made.id, deadline + 90 - time.monotonic()).state
    assert state is not None
    assert state.is_completed(), state

    # The line that the task printed on the node, under its task run.
    tasks = client.request(
        "POST",
        "/task_runs/filter",
        json={"flow_runs": {"id": {"any_": [subflows[0]["id"]]}}, "limit": 200},
    ).json()
    (basic,) = (one for one in tasks if one["name"].startswith("basic"))
    page.goto(f"/runs/task-run/{basic['id']}")
    expect(page.get_by_text(re.compile(r"host \S+, process \d+, Python 3")).first).to_be_visible()
    keep(page, "task-run")

    # The table of calls, with the jobs' ids; one case is about a failure.
    calls = newest(client, "artifacts", key={"any_": ["cluster-calls"]})
    assert calls["flow_run_id"] == subflows[0]["id"]
    page.goto(f"/artifacts/artifact/{calls['id']}")
    article = page.get_by_role("article").first
    expect(article).to_contain_text(re.compile(r"[12] of 2[78] calls failed"))
    jobs = page.locator("td", has_text=re.compile(r"^\s*\d+(_\d+)?\s*$"))
    expect(jobs.first).to_be_visible()
    keep(page, "calls")

    packaging = newest(client, "artifacts", key={"any_": ["packaging"]})
    page.goto(f"/artifacts/artifact/{packaging['id']}")
    expect(page.get_by_text(re.compile("^Passed: 2[78] checks on 1 cluster")).first).to_be_visible()
    proofs = page.locator("td", has_text=re.compile(r"process \d+, .*job \d+"))
    expect(proofs.first).to_be_visible()
    keep(page, "packaging")


def test_the_summary_says_what_is_not_green_first(
    client: SyncPrefectClient, clusters: list[str], run: RunDeployment, page: Page
) -> None:
    only = ["cluster access", "pricing"]
    ended = run("validate-all/daily", {"only": only, "pricing": NOBODY})
    page.goto(f"/runs/flow-run/{ended.id}")
    expect(page.get_by_text("Failed: 1 of 2 validations (pricing).").first).to_be_visible()
    keep(page, "validate-all")

    summary = newest(client, "artifacts", key={"any_": ["validation"]})
    page.goto(f"/artifacts/artifact/{summary['id']}")
    rows = page.get_by_role("row")
    expect(rows.nth(1)).to_contain_text("failed")
    expect(rows.nth(1)).to_contain_text("pricing")
    expect(rows.nth(2)).to_contain_text("ok")
    table = page.get_by_role("table")
    assert table.evaluate("table => table.scrollWidth <= table.parentElement.clientWidth"), (
        "cut off"
    )
    keep(page, "validation")
    # A link leads to the validation's own run.
    with page.expect_popup() as opened:
        page.get_by_role("link", name="cluster access").click()
    expect(opened.value.get_by_text("validate-cluster-access").first).to_be_visible()
    opened.value.close()

    prices = newest(client, "artifacts", key={"any_": ["prices"]})
    page.goto(f"/artifacts/artifact/{prices['id']}")
    expect(page.get_by_role("columnheader", name="provider")).to_be_visible()
    expect(page.get_by_role("cell", name="unavailable").first).to_be_visible()
    keep(page, "prices")


@pytest.mark.every
def test_prices_with_a_link_to_where_they_are_from(client: SyncPrefectClient, page: Page) -> None:
    """What the Hub of Hugging Face says, and our server on loopback in its place."""
    PricingCredentials(huggingface_token=SecretStr(huggingface.TOKEN)).save(  # type: ignore[call-arg]
        "loopback", overwrite=True, _sync=True
    )
    deployment = client.read_deployment_by_name("validate-pricing/daily")
    with SOURCES["huggingface"].server() as server:
        asked = {
            "providers": ["huggingface"],
            "credentials": "loopback",
            "options": {"huggingface": SOURCES["huggingface"].options(server)},
        }
        made = client.create_flow_run_from_deployment(
            deployment.id, parameters=asked, job_variables={"env": AUTHORITY.environment()}
        )
        state = wait_for_end(client, made.id, 150).state
    assert state is not None
    assert state.is_completed(), state
    table = newest(client, "artifacts", key={"any_": ["prices-huggingface"]})
    page.goto(f"/artifacts/artifact/{table['id']}")
    # One of Spaces, and one of Jobs.
    rows = page.get_by_role("row").filter(has_text="t4-small").filter(has_text="read from")
    expect(rows).to_have_count(2)
    for row in rows.all():
        expect(row).to_contain_text("0.40002 USD")
    keep(page, "prices-table")
    summary = newest(client, "artifacts", key={"any_": ["prices"]})
    page.goto(f"/artifacts/artifact/{summary['id']}")
    expect(page.get_by_role("link", name="huggingface.co").first).to_be_visible()
    expect(page.get_by_text(re.compile(r"^Passed: \d+ prices of 1 provider")).first).to_be_visible()
    keep(page, "prices-summary")


@pytest.mark.every
def test_hostile_names_are_seen_as_they_are(
    client: SyncPrefectClient, clusters: list[str], run: RunDeployment, page: Page
) -> None:
    asked = [{"path": f"/nowhere/{name}", "kind": "file"} for name in HOSTILE]
    run("validate-filesystem/hourly", {"clusters": clusters[:1], "expectations": asked})
    found = newest(client, "artifacts", key={"any_": ["filesystem"]})
    page.goto(f"/artifacts/artifact/{found['id']}")
    table = page.get_by_role("table").first
    expect(table).to_be_visible()
    texts = [re.sub(r"\s", "", text) for text in table.get_by_role("cell").all_inner_texts()]
    for name in HOSTILE:
        assert re.sub(r"\s", "", f"/nowhere/{name}".replace("\n", "\\n")) in texts
    for element in ("img", "a", "code", "em", "del", "b"):
        assert table.locator(element).count() == 0, element
    keep(page, "hostile-names")


def test_a_cluster_can_be_described_in_a_form(page: Page, clusters: list[str]) -> None:
    page.goto("/blocks/catalog/slurm-cluster/create")
    for label in ("Host", "Partition", "Environment variables"):
        expect(page.get_by_text(label).first).to_be_visible()
    keep(page, "block-form")
    page.locator("input[type=text]").first.fill("typed")
    page.locator("textarea").first.fill("ndoli.example.edu")
    page.locator("input[type=number]").first.fill("2222")
    page.get_by_placeholder(re.compile("OMP_NUM_THREADS")).fill('{"OMP_NUM_THREADS": "2"}')
    send(page, "Create", page.get_by_text('SlurmCluster.load("typed")'))
    expect(page.get_by_text("ndoli.example.edu")).to_be_visible()
    expect(page.get_by_text("&gt;")).to_have_count(0)
    keep(page, "block")
    typed: Any = SlurmCluster.load("typed", _sync=True)  # type: ignore[call-arg]
    # The deployments look at every saved cluster.
    SlurmCluster.delete("typed", _sync=True)  # type: ignore[call-arg]
    written = SlurmCluster(
        host="ndoli.example.edu", port=2222, environment={"OMP_NUM_THREADS": "2"}
    )
    # The form makes a block of credentials without any, which is a login by ~/.ssh as well.
    assert typed.destination == written.destination
    assert typed.model_dump(include=FIELDS) == written.model_dump(include=FIELDS)


@pytest.mark.every
def test_a_deployment_asks_for_its_parameters(
    page: Page, client: SyncPrefectClient, clusters: list[str]
) -> None:
    deployment = client.read_deployment_by_name("benchmark-transfer/weekly")
    page.goto(f"/deployments/deployment/{deployment.id}/run")
    expect(page.get_by_text("clusters").first).to_be_visible()
    expect(page.get_by_text("sizes").first).to_be_visible()
    keep(page, "run-form")
    page.locator("input[type=text]").first.fill("asked-for-in-a-form")
    page.locator("textarea").first.fill('"1KiB"')
    # Each step is awaited: the form is drawn anew after each.
    adding, items = page.get_by_role("button", name="Add item"), page.locator("textarea")
    page.get_by_role("button", name="list").first.click()
    expect(adding).to_have_count(2)
    adding.first.click()
    expect(items).to_have_count(4)
    items.first.fill("local-cluster/here")
    expect(items.first).to_have_value("local-cluster/here")
    send(page, "Submit", page.get_by_text("asked-for-in-a-form").first)
    made = newest(client, "flow_runs", name={"any_": ["asked-for-in-a-form"]})
    assert made["parameters"] == {
        "clusters": ["local-cluster/here"],
        "sizes": ["1KiB", "1MiB", "16MiB"],
    }
    state = wait_for_end(client, made["id"], 150).state
    assert state is not None
    assert state.is_completed(), state


@pytest.fixture
def reporting(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Flows of this process, whatever their thread, report to that server."""
    with monkeypatch.context() as patched:
        patched.setenv("PREFECT_API_URL", deployed.api_url)
        refresh_global_settings_context()
        yield
    refresh_global_settings_context()


@task
def answer() -> int:
    return 42


def test_the_form_for_a_one_time_code(
    reporting: None, pam_host: PAMHost, far_pythons: FarPythons, page: Page
) -> None:
    """A flow run that waits for a login has a form on its page, as a person would look for it."""
    cluster = ssh_cluster(
        pam_host,
        far_pythons,
        pam_host.home / "work",
        connection="openssh",
        login_in_ui=True,
        login_timeout=100,
    )
    ids: list[str] = []

    @flow(task_runner=ClusterTaskRunner(cluster))
    def asking() -> int:
        ids.append(str(runtime.flow_run.id))
        return answer.submit().result()

    methods = "AuthenticationMethods publickey,keyboard-interactive"
    with (
        pam_host.codes(),
        pam_host.asking(pam.KEYBOARD, methods, auth=[pam.CODE]),
        ThreadPoolExecutor() as pool,
    ):
        try:
            running = pool.submit(asking)
            wait_until(lambda: bool(ids), seconds=60)
            page.goto(f"/runs/flow-run/{ids[0]}")
            page.get_by_role("button", name="Resume").click()
            expect(page.get_by_text("Type the one-time code alone")).to_be_visible()
            page.locator("textarea").fill(pam_host.code())
            keep(page, "one-time-code")
            page.get_by_role("button", name="Submit").click()
            assert running.result(60) == 42
        finally:
            cluster.master.close()
