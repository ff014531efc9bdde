"""What counts as wrong with prices: every limit of the checks, and the reason for it.

A flow takes others with `thresholds={"drift_failure": 0.10}`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """The limits of the checks. Shares are of 1: 0.03 is 3 %."""

    # --- bounds: dollars an hour -------------------------------------------------------------

    # The cheapest processor on demand is half of a t4g.nano (0.0021 a vCPU); as spot, a third.
    least_per_vcpu: float = 0.0015
    least_per_vcpu_spot: float = 0.0004
    # 24 TiB machines cost 0.49 a vCPU; the dearest regions 1.8 times us-east-1. Anything above
    # is a price for another time than an hour.
    most_per_vcpu: float = 2.0
    # Where accelerators are not counted apart, their machines cost up to 1.02 a vCPU.
    most_per_vcpu_accelerated: float = 6.0
    # The cheapest accelerators for rent cost 0.35 (T4); K80s of old were 0.0375 as spot.
    least_per_accelerator: float = 0.10
    least_per_accelerator_spot: float = 0.02
    # B200s cost up to 15. A T4 priced by the minute, taken for the hour, costs 36.
    most_per_accelerator: float = 30.0
    # The dearest machine there is (32 TiB of memory) costs 407; for those of unknown size.
    most_per_machine: float = 1000.0
    # What is really free: provider, instance type, licence.
    free: frozenset[tuple[str, str, str | None]] = frozenset(
        {("huggingface", "cpu-basic", "Spaces"), ("huggingface", "zero-a10g", "Spaces")}
    )

    # --- unit and currency -------------------------------------------------------------------

    # The sources are asked for dollars.
    currencies: frozenset[str] = frozenset({"USD"})
    # Where prices are in another one, because nothing else is sold for there: AWS's partition in
    # China.
    regional_currencies: Mapping[tuple[str, str], str] = field(
        default_factory=lambda: {("aws", "cn-"): "CNY"}
    )
    # What the bounds are in, which are in dollars, in other currencies: how many are about a
    # dollar (2026-11). Bounds are wide; a rate that is a third off does not matter. In a currency
    # that is not here they are not applied, with a warning.
    to_the_dollar: Mapping[str, float] = field(
        default_factory=lambda: {
            "USD": 1.0,
            "AUD": 1.5,
            "BRL": 5.5,
            "CAD": 1.4,
            "CHF": 0.85,
            "CNY": 7.1,
            "DKK": 6.6,
            "EUR": 0.9,
            "GBP": 0.76,
            "INR": 87.0,
            "JPY": 150.0,
            "KRW": 1400.0,
            "NOK": 10.3,
            "NZD": 1.7,
            "SEK": 9.8,
            "TWD": 31.0,
        }
    )

    # --- structure ---------------------------------------------------------------------------

    # Sizes of one family cost the same for each unit of size. Rounding to four digits makes
    # up to 1 % of the smallest; dedicated tenancy makes 6 to 10 %.
    family_tolerance: float = 0.03
    # Where the ratios of a family are known they hold to 1 % but for single ones, 4 % off (gr6 in
    # eu-central-2).
    ratio_tolerance: float = 0.05
    # With fewer sizes there is no majority to say which is wrong.
    least_family: int = 3
    # The largest and the smallest of a family may be so much cheaper: a warning.
    cheaper_at_the_end: float = 0.25
    # Beside the same machines in other regions: so many regions say what is usual, ...
    least_regions: int = 4
    # ... if so many of a machine's prices, and of a region's, are exactly so.
    exact_share: float = 0.6
    # Kinds that came out together differ by up to 5 % from each other in single regions.
    region_tolerance: float = 0.08
    # Accelerators of different kinds beside each other, from region to region.
    # One of Azure's is half as dear again in eastasia.
    kind_spread: float = 0.75
    # So many of a family are right if the others are dearer.
    agreeing_share: float = 0.34
    # Machines with accelerators cost so much for each accelerator and so much for each processor.
    # That a size is on the line of two others is chance if it may be further off.
    line_tolerance: float = 0.01
    # Many accelerators at once are cheaper, each, where the provider says so: Lambda sells
    # eight H100 at 91 % of one's price each, Hugging Face four A10G at 83 %.
    volume_discount: Mapping[str, float] = field(
        default_factory=lambda: {"lambda_cloud": 0.30, "huggingface": 0.30}
    )
    # The hour of one accelerator, against the median of the other providers. The widest honest
    # gap known is 5.6 times (V100).
    accelerator_spread: float = 8.0
    # Spot is never dearer. AWS caps it at the on-demand price, and rounds at the fourth digit.
    spot_tolerance: float = 0.005

    # --- coverage ----------------------------------------------------------------------------

    # Against the last run that passed. Providers retire types slowly; a lost page of a hundred
    # is 7 % of AWS's region.
    lost_share: float = 0.03
    # Types that everybody sells. A run has to find them in each region in which they were approved;
    # of a region without approved prices nobody knows what is sold there, but for these.
    home_regions: Mapping[str, str] = field(
        default_factory=lambda: {"aws": "us-east-1", "gcp": "us-central1", "azure": "eastus"}
    )
    required_types: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: {
            "aws": ("t3.micro", "m5.large", "c5.large"),
            "gcp": ("n1-standard-1", "e2-standard-2"),
            "azure": ("Standard_D2s_v3", "Standard_D4s_v3"),
            "lambda_cloud": ("gpu_1x_h100_sxm5",),
            "huggingface": ("cpu-basic", "t4-small"),
        }
    )

    # --- freshness ---------------------------------------------------------------------------

    # A cache may hold an answer for an hour or two; yesterday's is wrong.
    oldest_answer: timedelta = timedelta(hours=6)
    # AWS publishes its list several times a week. A month without is a file left behind.
    oldest_publication: timedelta = timedelta(days=30)
    # Further ahead of our clock than this, one of the two is wrong.
    clock_skew: timedelta = timedelta(minutes=10)

    # --- drift -------------------------------------------------------------------------------

    # List prices change rarely, and by much. Below this it is rounding.
    drift_warning: float = 0.005
    # Hugging Face's millionths a minute make 0.005 %, new digits of AWS's up to 1 %.
    drift_failure: float = 0.03

    # --- agreement ---------------------------------------------------------------------------

    # Two sources of one price say the same, but for rounding.
    agreement_tolerance: float = 0.005
    # What one has and the other lacks: lists are published at different times.
    agreement_missing: float = 0.05

    # --- the service -------------------------------------------------------------------------

    # One request: pages of thousands of rows take some seconds.
    slow_request: float = 30.0
    # Half of the usual deadline: what grows further will fail before long.
    slow_fetch: float = 240.0
    # Left of the API's quota.
    quota_left: float = 0.10


DEFAULT = Thresholds()

NOT_BY_SIZE: Mapping[str, re.Pattern[str]] = {
    # HPC machines are whole hosts at one price, with fewer processors switched on. The sizes of
    # u- machines are those of their memory.
    "aws": re.compile(r"hpc\d|u-|u\d|mac"),
    # z3 has a local disk for each host, not for each size; n2-highmem-128 has 6.75 GB for each
    # processor, the others of its family 8.
    "gcp": re.compile(r"z3-|n2-highmem-128\Z"),
}
"""Families whose prices do not grow with the size in the name."""


@dataclass(frozen=True, slots=True)
class KnownOff:
    """A size that is known to be off its family.

    Attributes:
        provider: Whose.
        sizes: Which.
        least: How far it is off, at least, as a share: -0.10 is 10 % cheaper.
        most: How far it is off, at most.
        reason: Why.
        since: When it was looked at (ISO 8601).
    """

    provider: str
    sizes: re.Pattern[str]
    least: float
    most: float
    reason: str
    since: str

    @property
    def may_be_none(self) -> bool:
        """Whether it is off in some regions only."""
        return self.least <= 0 <= self.most


OFF_THEIR_FAMILY: tuple[KnownOff, ...] = tuple(
    KnownOff(provider, re.compile(sizes), least, most, reason, "2026-11-30")
    for provider, sizes, least, most, reason in (
        (
            "aws",
            r"t2\.nano\Z",
            0.0,
            0.16,
            "In China it was left behind when the others of t2 became cheaper.",
        ),
        (
            "aws",
            r"x8i\.96xlarge\Z",
            0.0,
            0.20,
            "It is listed at the price of the metal host, 16 % above its family.",
        ),
        (
            "aws",
            r"u-6tb1\.56xlarge\Z",
            -0.17,
            -0.13,
            "It has half the processors of u-6tb1.112xlarge for the same memory.",
        ),
        (
            "azure",
            r"Standard_E64s?_v3\Z",
            -0.18,
            0.0,
            "It has 432 GiB of memory, not 512: https://learn.microsoft.com/azure/"
            "virtual-machines/sizes/memory-optimized/ev3-esv3-series",
        ),
        (
            "azure",
            r"Standard_E(2|4|8|16|20|32|48)s?_v3\Z",
            -0.08,
            0.20,
            "Some sizes of Ev3 were priced anew in some regions, and others not.",
        ),
        (
            "azure",
            r"Standard_D4nds_v6\Z",
            -0.09,
            0.0,
            "In nearly every region it costs what D4nds would without its local disk.",
        ),
    )
)
"""What providers really ask for single sizes, looked up in their lists."""


@lru_cache(maxsize=65536)
def known_off(provider: str, instance_type: str) -> KnownOff | None:
    """Return what is known of a size that is off its family."""
    for known in OFF_THEIR_FAMILY:
        if known.provider == provider and known.sizes.match(instance_type):
            return known
    return None


NOT_YET_PRICED: frozenset[str] = frozenset({"azure"})
"""Who lists whole series of machines at 0 before they are sold in a region (68 sizes in 21 of
Azure's regions, 2026-11). A single size at 0 among others that cost something is wrong."""
