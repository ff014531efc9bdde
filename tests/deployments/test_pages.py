"""What a person sees in the Prefect UI, in a real browser; the screenshots are kept."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from prefect.client.orchestration import SyncPrefectClient

from tests.live.deployed import ROOT, Deployed

SCREENSHOTS = ROOT / "build" / "screenshots"
PATIENCE = 20_000


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


def keep(page: Page, name: str) -> None:
    """A screenshot, once what moves has come to rest."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.wait_for_timeout(500)
    page.screenshot(path=SCREENSHOTS / f"{name}.png")


def test_a_cluster_can_be_described_in_a_form(page: Page, clusters: list[str]) -> None:
    page.goto("/blocks/catalog/slurm-cluster/create")
    for label in ("Host", "Partition", "Environment variables"):
        expect(page.get_by_text(label).first).to_be_visible()
    keep(page, "block-form")


def test_a_deployment_asks_for_its_parameters(page: Page, client: SyncPrefectClient) -> None:
    deployment = client.read_deployment_by_name("benchmark-transfer/weekly")
    page.goto(f"/deployments/deployment/{deployment.id}/run")
    expect(page.get_by_text("clusters").first).to_be_visible()
    expect(page.get_by_text("sizes").first).to_be_visible()
    keep(page, "run-form")
