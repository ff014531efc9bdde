"""Real rows pass, and wrong ones among them are found by nothing but those beside them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from decimal import Decimal

import pytest

from clustrix_prefect.pricing.accelerators import accelerators_of, is_accelerated
from clustrix_prefect.pricing.asking import Question, ask
from clustrix_prefect.pricing.checks import Asked, Finding, Level, run_checks
from clustrix_prefect.pricing.checks.structure import structure
from clustrix_prefect.pricing.fetch import Fetch, PriceList
from clustrix_prefect.pricing.price import Price
from clustrix_prefect.pricing.report import verdict
from clustrix_prefect.pricing.thresholds import DEFAULT, OFF_THEIR_FAMILY
from tests.pricing.real_rows import amounts, prices
from tests.pricing.servers.aws import AWSServer, Machine
from tests.pricing.servers.azure import AzureServer
from tests.pricing.servers.azure import row as azure_row
from tests.pricing.world import CREDENTIALS

REGIONS = [(provider, region) for provider in ("azure", "aws") for region in amounts(provider)]


def listed(rows: Sequence[Price], provider: str) -> PriceList:
    regions = tuple({str(price.region) for price in rows})
    fetch = Fetch(
        provider=provider,
        source="https://prices.example",
        authentication="none",
        started_at=datetime.now(timezone.utc),
        regions=regions,
    )
    return PriceList(tuple(rows), fetch)


def doubts(rows: Sequence[Price], provider: str) -> dict[str, Finding]:
    found = run_checks([Asked(provider=provider, answer=listed(rows, provider))])
    assert not [finding for finding in found if finding.level is Level.FAILURE]
    return {f.check: f for f in found if f.level is Level.WARNING and f.check != "drift"}


@pytest.mark.parametrize(("provider", "region"), REGIONS)
def test_a_real_region_passes(provider: str, region: str) -> None:
    found = doubts(prices(provider, region), provider)
    told = {check: len(finding.evidence) for check, finding in found.items()}
    assert told == {
        "eastus": {"bounds": 6},  # M v4 is not sold yet
        "spaincentral": {"bounds": 8},
        "uaenorth": {"structure": 1},  # F72s_v2 is 3 % cheaper
    }.get(region, {})


@pytest.mark.parametrize("provider", ["azure", "aws"])
def test_real_regions_pass_together(provider: str) -> None:
    rows = [price for region in amounts(provider) for price in prices(provider, region)]
    assert doubts(rows, provider).keys() <= {"bounds", "structure"}


def test_what_the_server_of_azures_format_answers_passes() -> None:
    """As the first command of the guide asks it: without credentials, all rows of each size."""
    rows = [
        row
        for region in ("eastus", "westeurope", "uaenorth")
        for name, amount in amounts("azure")[region].items()
        for row in (
            azure_row(region, name, "Virtual Machines X Series", name, float(amount)),
            azure_row(region, name, "Virtual Machines X Series", f"{name} Spot", float(amount) / 5),
            azure_row(region, name, "Virtual Machines X Series", f"{name} Expired", 99.0),
        )
    ]
    with AzureServer(rows) as server:
        question = Question(
            provider="azure",
            regions=("eastus", "westeurope", "uaenorth"),
            options={"endpoint": server.prices_url},
            deadline=60,
        )
        asked = [Asked(provider="azure", answer=ask(question))]
    judged = verdict(asked, run_checks(asked))
    assert not judged.is_degraded, judged.message


@pytest.mark.parametrize("source", ["api", "bulk"])
def test_what_the_server_of_awss_format_answers_passes(source: str) -> None:
    region = "us-gov-west-1"
    machines = []
    for name, amount in amounts("aws")[region].items():
        found = accelerators_of("aws", name)
        size = name.partition(".")[2].removesuffix("xlarge")
        vcpus = 4 * int(size) if size.isdigit() else 4
        # The list counts GPUs, and no other chips.
        gpus = int(found.count or 0) if found and name[0] in "gp" else 0
        machines.append(Machine(name, vcpus, "64", str(amount), gpus, "16 GB" if gpus else ""))
    regions = {region: ("AWS GovCloud (US-West)", "UGW1-", "1")}
    with AWSServer(machines, regions) as server:
        question = Question(
            provider="aws",
            regions=(region,),
            credentials=CREDENTIALS if source == "api" else None,
            options={"endpoint": server.url, "bulk_endpoint": server.url, "source": source},
            deadline=60,
        )
        asked = [Asked(provider="aws", answer=ask(question))]
    judged = verdict(asked, run_checks(asked))
    assert not judged.is_degraded, judged.message
    assert isinstance(asked[0].answer, PriceList)
    assert len(asked[0].answer.prices) == len(machines)


def test_each_known_exception_has_a_reason_and_a_date_and_is_needed() -> None:
    rows = [p for provider, region in REGIONS for p in prices(provider, region)]
    for known in OFF_THEIR_FAMILY:
        assert len(known.reason.split()) >= 6
        assert datetime.fromisoformat(known.since).year >= 2026
        assert any(
            price.provider == known.provider and known.sizes.match(price.instance_type)
            for price in rows
        ), known


def wrong(rows: Sequence[Price], provider: str) -> set[tuple[str | None, str]]:
    return {
        (evidence.region, evidence.instance_type)
        for finding in structure(listed(rows, provider), DEFAULT)
        if finding.level is Level.FAILURE
        for evidence in finding.evidence
    }


def with_errors(
    rows: Sequence[Price], factor: str, chance: random.Random
) -> tuple[list[Price], set[tuple[str | None, str]]]:
    """The rows, one in twenty of those with accelerators at `factor` times its price."""
    made, hit = [], set()
    for price in rows:
        accelerated = is_accelerated(price.provider, price.instance_type)
        if accelerated and price.hourly and chance.random() < 0.05:
            hit.add((price.region, price.instance_type))
            price = replace(price, hourly=price.hourly * Decimal(factor))
        made.append(price)
    return made, hit


# Dedicated tenancy is 6 or 10 % dearer, Windows about a half, another currency or unit by much.
@pytest.mark.parametrize("factor", ["1.06", "1.10", "1.5", "3"])
def test_wrong_prices_of_accelerated_machines_are_found_by_structure_alone(factor: str) -> None:
    """Recall 0.9 at precision 0.98, in one region at a time, over 40 draws of errors in each.

    What is not found is alone in its family: nothing in the region says what it should cost.
    """
    chance = random.Random(17)
    injected = told = right = 0
    for provider, region in REGIONS:
        rows = prices(provider, region)
        for _ in range(40):
            made, hit = with_errors(rows, factor, chance)
            found = wrong(made, provider)
            injected, told, right = injected + len(hit), told + len(found), right + len(hit & found)
    assert injected > 500
    assert right / injected >= 0.9
    assert right / told >= 0.98


def test_a_machine_that_is_alone_of_its_kind_is_held_against_other_regions() -> None:
    """p4d at 1.10 in one of six regions: nothing there says so, those elsewhere do."""
    regions = {"a": 1.0, "b": 1.0, "c": 1.08, "d": 1.25, "e": 1.2, "f": 1.1}
    usual = {"p4d.24xlarge": 32.7726, "p3.2xlarge": 3.06, "p3.8xlarge": 12.24, "p5.48xlarge": 98.32}
    (sample,) = (p for p in prices("aws", "us-gov-west-1") if p.instance_type == "p4d.24xlarge")
    rows = [
        replace(sample, region=region, instance_type=name, hourly=Decimal(f"{amount * level:.6f}"))
        for region, level in regions.items()
        for name, amount in usual.items()
    ]
    assert wrong(rows, "aws") == set()
    rows = [
        replace(price, hourly=price.hourly * Decimal("1.10"))
        if (price.region, price.instance_type) == ("d", "p4d.24xlarge")
        else price
        for price in rows
    ]
    assert wrong(rows, "aws") == {("d", "p4d.24xlarge")}
