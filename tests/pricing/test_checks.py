"""The checks one by one, on prices made for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from clustrix_prefect.errors import CredentialNotFound
from clustrix_prefect.pricing.baseline import approved_amounts
from clustrix_prefect.pricing.checks import Asked, Finding, Level, run_checks
from clustrix_prefect.pricing.checks.comparison import counts_of
from clustrix_prefect.pricing.checks.waivers import Waiver
from clustrix_prefect.pricing.errors import PricingThrottled
from clustrix_prefect.pricing.fetch import Fetch, PriceList
from clustrix_prefect.pricing.local_zones import local_zone_of, region_around
from clustrix_prefect.pricing.machine_sizes import family_and_size
from clustrix_prefect.pricing.price import Commitment, Price, PurchaseOption
from clustrix_prefect.pricing.thresholds import DEFAULT

NOW = datetime.now(timezone.utc)
LIMITS = replace(DEFAULT, required_types={})
M5 = {"m5.large": "0.096", "m5.xlarge": "0.192", "m5.2xlarge": "0.384", "m5.4xlarge": "0.768"}


def price(name: str, hourly: str, provider: str = "aws", **fields: Any) -> Price:
    amount = Decimal(hourly)
    usual: dict[str, Any] = {
        "region": "us-east-1",
        "operating_system": "Linux",
        "purchase_option": PurchaseOption.ON_DEMAND,
        "hourly": amount,
        "currency": "USD",
        "amount": amount,
        "unit": "Hrs",
        "source": "https://prices.example",
        "fetched_at": NOW,
    }
    return Price(provider=provider, instance_type=name, **{**usual, **fields})


def listed(prices: Sequence[Price], provider: str = "aws", **facts: Any) -> PriceList:
    usual = {"source": "https://prices.example", "authentication": "none", "started_at": NOW}
    return PriceList(tuple(prices), Fetch(provider=provider, **{**usual, **facts}))


def family(**changed: str) -> list[Price]:
    rows = {**M5, **{name.replace("_", "."): amount for name, amount in changed.items()}}
    return [price(name, amount) for name, amount in rows.items()]


def wrong(prices: PriceList, **options: Any) -> dict[str, Finding]:
    """What is not well, by check; that nothing was approved is left out."""
    asked = [Asked(provider=prices.fetch.provider, answer=prices)]
    found = run_checks(asked, **{"thresholds": LIMITS, **options})
    return {
        finding.check: finding
        for finding in found
        if finding.level is not Level.OK and "no baseline" not in finding.message
    }


# --- structure ------------------------------------------------------------------------------


def test_a_family_in_proportion() -> None:
    assert wrong(listed(family())) == {}


@pytest.mark.parametrize(("share", "told"), [("0.1978", True), ("0.1977", False)])
def test_three_percent_of_the_lower_median(share: str, told: bool) -> None:
    assert ("structure" in wrong(listed(family(m5_xlarge=share)))) is told


def test_of_four_of_which_two_are_dearer_the_lower_are_right() -> None:
    found = wrong(listed(family(m5_large="0.1056", m5_4xlarge="0.8448")))
    assert {e.instance_type for e in found["structure"].evidence} == {"m5.large", "m5.4xlarge"}


def test_two_sizes_have_no_majority() -> None:
    assert wrong(listed([price("m5.large", "0.096"), price("m5.xlarge", "0.4")])) == {}


@pytest.mark.parametrize(
    "name",
    ["m5.metal", "hpc7g.4xlarge", "g5.xlarge", "inf2.xlarge", "u-6tb1.56xlarge", "mac2.metal"],
)
def test_families_that_are_not_priced_by_size(name: str) -> None:
    assert family_and_size("aws", name) is None


def test_what_names_say_of_sizes() -> None:
    assert family_and_size("aws", "m5.24xlarge") == ("m5", 192)
    assert family_and_size("aws", "t3.nano") == ("t3", 0.25)
    assert family_and_size("gcp", "n2-highmem-16") == ("n2-highmem", 16)
    assert family_and_size("gcp", "e2-micro") is None
    assert family_and_size("azure", "Standard_D16ds_v5") == ("Ddsv5", 16)
    assert family_and_size("azure", "Standard_E4-2s_v5") is None  # paid for as four
    assert family_and_size("azure", "Standard_B2ms") is None
    assert family_and_size("azure", "Standard_D3_v2") is None  # four processors


def test_spot_above_on_demand() -> None:
    spot = price("m5.large", "0.097", purchase_option=PurchaseOption.SPOT, zone="us-east-1a")
    assert wrong(listed([price("m5.large", "0.096"), spot]))["structure"].evidence[0].text == (
        "spot 0.097 is above on-demand 0.096"
    )
    elsewhere = replace(spot, region="eu-west-1")
    assert wrong(listed([price("m5.large", "0.096"), elsewhere])) == {}


def test_spot_in_a_local_zone_is_held_against_its_own_on_demand_price() -> None:
    region, zone = "us-west-2", "us-west-2-lax-1"
    on_demand = [
        price("m5.large", "0.096", region=region),
        price("m5.large", "0.1152", region=zone),
    ]
    spot = price(
        "m5.large", "0.11", region=region, zone=f"{zone}a", purchase_option=PurchaseOption.SPOT
    )
    assert wrong(listed([*on_demand, spot])) == {}
    assert wrong(listed([on_demand[0], spot])) == {}  # nobody asked for its own
    dear = replace(spot, hourly=Decimal("0.12"))
    found = wrong(listed([*on_demand, dear]))["structure"]
    assert found.evidence[0].text == "spot 0.12 is above on-demand 0.1152 in us-west-2-lax-1"
    usual = replace(dear, zone="us-west-2a", hourly=Decimal("0.11"))
    assert "structure" in wrong(listed([*on_demand, usual]))


def test_where_local_zones_are() -> None:
    assert local_zone_of("us-west-2-lax-1a") == "us-west-2-lax-1"
    assert local_zone_of("us-east-1-wl1-bos-wlz-1") == "us-east-1-wl1-bos-wlz-1"
    assert local_zone_of("us-gov-west-1a") is local_zone_of("us-east-1a") is local_zone_of(None)
    assert region_around("us-west-2-lax-1") == "us-west-2"
    assert region_around("us-gov-west-1") == "us-gov-west-1"


def sizes(letter: str, **amounts: str) -> PriceList:
    return listed(
        [price(f"Standard_{letter}{n[1:]}s_v9", a, "azure") for n, a in amounts.items()], "azure"
    )


@pytest.mark.parametrize(
    ("amounts", "level"),
    [
        ({"n2": "0.1", "n4": "0.2", "n8": "0.4", "n16": "0.8", "n64": "2.88"}, Level.WARNING),
        ({"n2": "0.09", "n4": "0.2", "n8": "0.4", "n16": "0.8"}, Level.WARNING),
        ({"n2": "0.1", "n4": "0.18", "n8": "0.4", "n16": "0.8"}, Level.FAILURE),  # in the middle
        ({"n2": "0.1", "n4": "0.2", "n8": "0.4", "n64": "3.5"}, Level.FAILURE),  # dearer
        ({"n2": "0.1", "n4": "0.2", "n8": "0.4", "n64": "1.6"}, Level.FAILURE),  # half
    ],
)
def test_cheaper_at_the_end_of_a_family_is_a_warning(amounts: dict[str, str], level: Level) -> None:
    assert wrong(sizes("D", **amounts))["structure"].level is level


def gpus(provider: str, each: dict[int, str]) -> PriceList:
    return listed(
        [
            price(
                f"p{n}",
                amount,
                provider,
                family="p",
                gpu_count=n,
                vcpus=Decimal(8 * n),
                gpu_model="A6000",
            )
            for n, amount in each.items()
        ],
        provider,
    )


def test_accelerators_in_proportion_or_cheaper_by_the_dozen() -> None:
    assert wrong(gpus("aws", {1: "3.06", 4: "12.24", 8: "24.48"})) == {}
    assert "structure" in wrong(gpus("aws", {1: "3.06", 4: "11.0", 8: "24.48"}))
    assert wrong(gpus("lambda_cloud", {1: "3.29", 2: "6.38", 8: "23.92"})) == {}
    assert "structure" in wrong(gpus("lambda_cloud", {1: "1.09", 2: "2.40", 4: "4.36"}))


def test_an_accelerator_that_costs_what_nobody_else_asks() -> None:
    sellers = {"aws": "3.5", "azure": "3.6", "lambda_cloud": "2.5", "huggingface": "0.3"}
    asked = [
        Asked(
            provider=name,
            answer=listed([price("x", amount, name, gpu_count=1, gpu_model="NVIDIA A100")], name),
        )
        for name, amount in sellers.items()
    ]
    found = [f for f in run_checks(asked, thresholds=LIMITS) if f.check == "spread"]
    assert {f.provider: f.level.value for f in found} == {
        "aws": "ok",
        "azure": "ok",
        "lambda_cloud": "ok",
        "huggingface": "failure",
    }


# --- one by one -----------------------------------------------------------------------------


def test_bounds() -> None:
    assert "the price is 0" in wrong(listed([price("m5.large", "0")]))["bounds"].message
    free = price("cpu-basic", "0", "huggingface", region=None, licence="Spaces")
    assert wrong(listed([free], "huggingface")) == {}
    paid = replace(free, licence="Jobs")
    assert "bounds" in wrong(listed([paid], "huggingface"))
    cheap = price("p5.48xlarge", "0.08", gpu_count=8)
    assert "for an accelerator" in wrong(listed([cheap]))["bounds"].message
    monthly = price("m5.large", "70.08", vcpus=Decimal(2))
    assert "for a processor" in wrong(listed([monthly]))["bounds"].message
    unknown = price("Standard_D4s_v3", "140.16", "azure")
    assert "35.04 for a processor" in wrong(listed([unknown], "azure"))["bounds"].message


def test_known_prices_are_possible() -> None:
    rows = [
        ("t4g.nano", "0.0042", 2, 0),
        ("u7in-32tb.224xlarge", "407.68", 896, 0),
        ("p5.48xlarge", "98.32", 192, 8),
        ("g4dn.xlarge", "0.526", 4, 1),
        ("u-24tb1.112xlarge", "218.4", 448, 0),
    ]
    prices = [price(n, a, vcpus=Decimal(v), gpu_count=g) for n, a, v, g in rows]
    assert wrong(listed(prices)) == {}


def test_one_price_for_each_key() -> None:
    one = price("m5.large", "0.096")
    assert wrong(listed([one, price("m5.large", "0.188")]))["keys"].level is Level.FAILURE
    copy = wrong(listed([one, replace(one)]))["keys"]
    assert (copy.level, "one amount" in copy.message) == (Level.WARNING, True)
    reserved = replace(one, commitment=Commitment.ONE_YEAR, hourly=Decimal("0.06"))
    assert wrong(listed([one, reserved])) == {}


def test_unit_and_currency() -> None:
    yen = price("m5.large", "12", currency="JPY")
    assert "'JPY', not USD" in wrong(listed([yen]))["unit"].message
    assert wrong(listed([yen]), thresholds=replace(LIMITS, currencies=frozenset({"JPY"}))) == {}
    prices = listed(family())
    prices.fetch.skipped["the unit is 'Quantity'"] += 3
    assert "3 rows: the unit is 'Quantity'" in wrong(prices)["unit"].message


def test_china_has_its_own_currency_and_bounds() -> None:
    rows = [
        price("m5.large", "0.888", region="cn-north-1", currency="CNY", vcpus=Decimal(2)),
        price("u-12tb1.112xlarge", "1074.68508", region="cn-north-1", currency="CNY"),
    ]
    assert wrong(listed(rows)) == {}
    assert "not CNY" in wrong(listed([replace(rows[0], currency="USD")]))["unit"].message
    assert "not USD" in wrong(listed([replace(rows[0], region="us-east-1")]))["unit"].message
    cheap = replace(rows[0], hourly=Decimal("0.00888"))
    assert "0.00444 for a processor" in wrong(listed([cheap]))["bounds"].message


def test_bounds_are_by_currency_or_not_applied_with_one_warning() -> None:
    def in_currency(name: str, times: str) -> PriceList:
        rows = [replace(p, currency=name, hourly=p.hourly * Decimal(times)) for p in family()]
        return listed([replace(p, vcpus=Decimal(2)) for p in rows])

    for name, times in (("JPY", "150"), ("KRW", "1400"), ("EUR", "0.9")):
        limits = replace(LIMITS, currencies=frozenset({name}))
        assert wrong(in_currency(name, times), thresholds=limits) == {}
        # Who asked for a currency need not say so again.
        asked = in_currency(name, times)
        asked.fetch.currency = name
        assert wrong(asked) == {}
        asked.fetch.currency = "USD"
        assert "unit" in wrong(asked)
    unknown = replace(LIMITS, currencies=frozenset({"ISK"}))
    found = wrong(in_currency("ISK", "138"), thresholds=unknown)
    assert found.keys() == {"bounds"}
    assert (found["bounds"].level, len(found["bounds"].evidence)) == (Level.WARNING, 1)
    assert "4 prices in 'ISK'" in found["bounds"].message


def test_a_series_at_0_is_not_sold_yet_and_a_size_at_0_is_wrong() -> None:
    placeholders = [
        price(f"Standard_M{size}bds_{rest}v4", "0", "azure")
        for size, rest in ((16, ""), (32, ""), (64, "1_"))
    ]
    found = wrong(listed(placeholders, "azure"))["bounds"]
    assert (found.level, len(found.evidence)) == (Level.WARNING, 3)
    one = [*placeholders[:-1], replace(placeholders[-1], hourly=Decimal(7))]
    assert wrong(listed(one, "azure"))["bounds"].level is Level.FAILURE
    assert wrong(listed(placeholders[:1], "azure"))["bounds"].level is Level.FAILURE
    # Nobody else lists what is not sold.
    zeros = [replace(p, hourly=Decimal(0)) for p in family()]
    assert wrong(listed(zeros))["bounds"].level is Level.FAILURE


@pytest.mark.parametrize(
    ("size", "amount"),
    [("Standard_G5", "9.99"), ("Standard_GS5-8", "9.99"), ("Standard_D14", "1.542")],
)
def test_first_series_count_sizes_not_processors(size: str, amount: str) -> None:
    assert wrong(listed([price(size, amount, "azure")], "azure")) == {}
    monthly = str(Decimal(amount) * 73)
    assert "for a processor" in wrong(listed([price(size, monthly, "azure")], "azure"))[
        "bounds"
    ].message  # fmt: skip


def test_rows_without_a_price() -> None:
    prices = listed(family())
    prices.fetch.skipped.update({"no price": 2, "low priority": 40, "not yet in force": 1})
    assert wrong(prices)["schema"].message.endswith("2 rows: no price.")


@pytest.mark.parametrize(
    "facts",
    [
        {"http_date": NOW - timedelta(hours=25)},
        {"http_date": NOW + timedelta(hours=1)},
        {"published_at": NOW - timedelta(days=40)},
    ],
)
def test_what_is_old(facts: dict[str, Any]) -> None:
    assert wrong(listed(family(), **facts)).keys() == {"freshness"}


def test_a_price_may_hold_for_years() -> None:
    old = [price("m5.large", "0.096", effective=NOW - timedelta(days=2000))]
    assert wrong(listed(old, http_date=NOW, published_at=NOW - timedelta(days=5))) == {}


def test_the_service() -> None:
    assert wrong(listed(family(), throttled=2))["quota"].level is Level.WARNING
    low = listed(family(), quota_remaining=20, quota_limit=500)
    assert "20 of 500" in wrong(low)["quota"].message
    assert wrong(listed(family(), seconds=290.0))["latency"].level is Level.WARNING


def test_a_provider_that_gave_nothing() -> None:
    fetch = listed([], "azure").fetch
    missing = CredentialNotFound("env:KEY: it is not set.", "Set it.", reference="env:KEY")
    found = run_checks(
        [
            Asked(provider="azure", answer=PricingThrottled("No.", provider="azure", fetch=fetch)),
            Asked(provider="gcp", answer=missing),
            Asked(provider="aws", answer=KeyError("a body nobody should see")),
        ]
    )
    assert [(f.provider, f.check) for f in found] == [
        ("azure", "quota"),
        ("gcp", "authentication"),
        ("aws", "availability"),
    ]
    assert "nobody should see" not in found[2].message


# --- beside others --------------------------------------------------------------------------


def test_coverage() -> None:
    limits = replace(LIMITS, required_types={"aws": ("m5.large", "t3.micro")})
    found = wrong(listed(family(), regions=("us-east-1", "eu-west-1")), thresholds=limits)
    assert {str(e) for e in found["coverage"].evidence} == {
        "eu-west-1: the region has no prices",
        "t3.micro: the type is not there",
    }
    assert wrong(listed(family()), previous={"aws": {"us-east-1": 4}}) == {}
    assert (
        "4 prices, 5 in"
        in wrong(listed(family()), previous={"aws": {"us-east-1": 5}})["coverage"].message
    )
    other = {"aws": {"us-east-1": 4, "eu-west-1": 9}}  # which nobody asked for this time
    assert wrong(listed(family(), regions=("us-east-1",)), previous=other) == {}


def test_what_is_required_is_known_by_region_from_what_was_approved() -> None:
    limits = replace(LIMITS, required_types={"aws": ("m5.large", "t3.micro")})
    young = [price("m7i.large", "0.1", region="ap-southeast-7")]
    asked: dict[str, Any] = {"regions": ("ap-southeast-7",)}
    # Nobody knows what is sold there, or it was approved without.
    assert wrong(listed(young, **asked), thresholds=limits) == {}
    approved = approved_amounts(young)
    assert wrong(listed(young, **asked), thresholds=limits, baseline=approved) == {}
    both = [*young, price("m5.large", "0.12", region="ap-southeast-7")]
    found = wrong(listed(young, **asked), thresholds=limits, baseline=approved_amounts(both))
    told = {str(evidence) for evidence in found["coverage"].evidence}
    assert told == {"m5.large in ap-southeast-7: the type is not there"}


def test_drift_and_waivers() -> None:
    baseline = approved_amounts(family())
    cut = family(m5_large="0.0538", m5_xlarge="0.1075", m5_2xlarge="0.215", m5_4xlarge="0.4301")
    found = wrong(listed(cut), baseline=baseline)
    assert found.keys() == {"drift"}
    assert len(found["drift"].evidence) == 4
    assert "0.096 was approved, now 0.0538 (-44.0 %)" in found["drift"].message
    waiver = Waiver(
        provider="aws", instance_type="m5.*", reason="announced", expires=date(2026, 3, 31)
    )
    last_day, after = date(2026, 3, 31), date(2026, 4, 1)
    assert wrong(listed(cut), baseline=baseline, waivers=[waiver], today=last_day) == {}
    expired = wrong(listed(cut), baseline=baseline, waivers=[waiver], today=after)["drift"]
    assert "A waiver expired on 2026-03-31." in expired.message
    some = waiver.model_copy(update={"instance_type": "m5.*xlarge"})
    left = wrong(listed(cut), baseline=baseline, waivers=[some], today=last_day)["drift"]
    assert [e.instance_type for e in left.evidence] == ["m5.large"]
    elsewhere = waiver.model_copy(update={"region": "eu-*"})
    assert wrong(listed(cut), baseline=baseline, waivers=[elsewhere], today=last_day)
    assert approved_amounts(cut) != baseline
    assert wrong(listed(cut), baseline=approved_amounts(cut)) == {}  # a cut can be approved


def test_small_drift_is_a_warning_and_new_types_are_none() -> None:
    baseline = approved_amounts(family())
    moved = family(m5_large="0.0970")
    assert wrong(listed(moved), baseline=baseline)["drift"].level is Level.WARNING
    assert wrong(listed([*family(), price("m6i.large", "0.096")]), baseline=baseline) == {}
    assert wrong(listed(family()[1:]), baseline=baseline)["drift"].level is Level.WARNING


def test_no_baseline_says_so() -> None:
    found = run_checks([Asked(provider="aws", answer=listed(family()))])
    (drift,) = [finding for finding in found if finding.check == "drift"]
    assert drift.message.startswith("no baseline")


def test_what_cannot_be_asked_cannot_be_waived() -> None:
    with pytest.raises(ValueError, match="'availability' cannot be waived"):
        Waiver(
            provider="aws",
            check="availability",
            instance_type="*",
            reason="never mind",
            expires=date(2030, 1, 1),
        )


def test_agreement_of_two_sources() -> None:
    def disagreement(second: PriceList | Exception) -> Finding:
        asked = Asked(provider="aws", answer=listed(family()), second=second)
        (found,) = [f for f in run_checks([asked]) if f.check == "agreement"]
        return found

    assert disagreement(listed(family())).level is Level.OK
    differs = disagreement(listed(family(m5_xlarge="0.2112")))
    assert [e.instance_type for e in differs.evidence] == ["m5.xlarge"]
    assert disagreement(listed(family()[:2])).level is Level.FAILURE
    assert "second source unavailable" in disagreement(OSError("no")).message


def test_many_prices_that_are_right_are_ok() -> None:
    lists = [
        listed(
            [
                price(
                    f"m{kind}.{size}xlarge",
                    f"{0.02 * (kind % 5 + 1) * size * (100 + region) / 100:.6f}",
                    provider,
                    region=f"region-{region}",
                    vcpus=Decimal(4 * size),
                    gpu_count=0,
                    published_at=NOW,
                )
                for region in range(5)
                for kind in range(10)
                for size in range(1, 17)
            ],
            provider,
        )
        for provider in ("aws", "gcp", "azure", "lambda_cloud", "huggingface")
    ]
    asked = [Asked(provider=one.fetch.provider, answer=one) for one in lists]
    baseline = {k: v for one in lists for k, v in approved_amounts(one.prices).items()}
    previous = {one.fetch.provider: counts_of(one) for one in lists}
    found = run_checks(asked, thresholds=LIMITS, baseline=baseline, previous=previous)
    assert sum(len(one.prices) for one in lists) == 4_000
    assert {finding.level for finding in found} == {Level.OK}
