"""The checks on a real, dirty table: apache-libcloud's."""

from __future__ import annotations

import pytest

from tests.pricing.libcloud_prices import aws, aws_second, flagged


def test_every_zero_is_told_of() -> None:
    prices = aws("us-east-1")
    zeros = {price.instance_type for price in prices.prices if price.hourly == 0}
    assert len(zeros) == 142
    assert flagged(prices)["bounds"] == zeros


def test_rows_that_stand_out_of_their_family() -> None:
    found = flagged(aws("us-east-1"))["structure"]
    # AWS's own page: m6i.xlarge 0.192, m5.16xlarge 3.072, r7a.2xlarge 0.6086; these are not.
    assert {"m6i.xlarge", "m5.16xlarge", "r7a.2xlarge"} <= found
    assert not {"m6i.large", "m5.large", "r7a.large", "t2.nano"} & found
    # HPC hosts have no price for each size.
    assert not {name for name in found if name.startswith(("hpc", "u-"))}
    # AWS's own page: g4dn.4xlarge 1.204, g5.8xlarge 2.448, g6.12xlarge 4.6016, inf1.24xlarge 4.721,
    # inf2.48xlarge 12.98127, g4ad.16xlarge 3.468.
    wrong = {"g4dn.4xlarge", "g5.8xlarge", "g6.12xlarge", "inf1.24xlarge", "inf2.48xlarge"}
    assert {*wrong, "g4ad.16xlarge"} <= found
    assert not {"g4dn.xlarge", "g4dn.16xlarge", "g5.xlarge", "g6.xlarge", "p3.2xlarge"} & found


def test_few_rows_are_wrongly_told_of() -> None:
    """1.06 and 1.10 times the family's price is dedicated tenancy; nothing else stands out."""
    prices = aws("us-east-1")
    rows = {price.instance_type: float(price.hourly) for price in prices.prices if price.hourly}
    found = flagged(prices)["structure"]
    inflated = {name for name in found if _times_its_twins(name, rows) > 1.05}
    assert len(inflated) > 90
    others = len(rows) - len(inflated)
    assert len(found - inflated) <= 0.01 * others, found - inflated


def _times_its_twins(name: str, rows: dict[str, float]) -> float:
    """A row beside the cheapest of its family, both for each unit of size."""
    family, _, _ = name.partition(".")
    each = {other: rows[other] / size for other, size in _sizes(family, rows)}
    return each[name] / min(each.values())


def _sizes(family: str, rows: dict[str, float]) -> list[tuple[str, float]]:
    names = {"medium": 0.25, "small": 0.125, "large": 0.5, "xlarge": 1.0}
    found = []
    for other in rows:
        prefix, _, size = other.partition(".")
        times = size.removesuffix("xlarge")
        if prefix == family and size in names:
            found.append((other, names[size]))
        elif prefix == family and times.isdigit():
            found.append((other, float(times)))
    return found


def test_the_second_source_inside_the_file() -> None:
    found = flagged(aws("us-east-1"), aws_second("ec2_us_east", "us-east-1"))["agreement"]
    # Written down twice, at 0.816 and 0.768 and the like.
    assert {"c5.4xlarge", "m5d.4xlarge", "i3.xlarge", "h1.8xlarge", "r4.large"} <= found
    first = {price.instance_type: price.hourly for price in aws("us-east-1").prices}
    second = {
        price.instance_type: price.hourly for price in aws_second("ec2_us_east", "us-east-1").prices
    }
    assert found == {
        name
        for name in first.keys() & second.keys()
        if abs(first[name] - second[name]) * 200 > second[name]
    }


@pytest.mark.parametrize("region", ["us-east-2", "us-west-2", "eu-west-1", "ap-south-1"])
def test_elsewhere_too(region: str) -> None:
    prices = aws(region)
    found = flagged(prices)
    zeros = {price.instance_type for price in prices.prices if price.hourly == 0}
    assert found["bounds"] == zeros
    assert 0 < len(found["structure"]) < 0.2 * len(prices.prices)
