"""What counts as wrong with prices: every limit of the checks, and the reason for it.

A flow takes others with `thresholds={"drift_failure": 0.10}`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta


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

    # The sources are asked for dollars. AWS's endpoint in China answers in CNY: say so there.
    currencies: frozenset[str] = frozenset({"USD"})

    # --- structure ---------------------------------------------------------------------------

    # Sizes of one family cost the same for each unit of size. Rounding to four digits makes
    # up to 1 % of the smallest; dedicated tenancy makes 6 to 10 %.
    family_tolerance: float = 0.03
    # With fewer sizes there is no majority to say which is wrong.
    least_family: int = 3
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
    # Types that everybody sells and every run has to find, in one of its regions at least.
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

ACCELERATED: Mapping[str, re.Pattern[str]] = {
    "aws": re.compile(r"(?:p|g|gr|inf|trn|dl|f|vt)\d"),
    "azure": re.compile(r"(?:Standard|Basic)_N"),
    "gcp": re.compile(r"(?:a|g|ct)\d"),
}
"""Machine types with accelerators, by their names: AWS lists inference chips, FPGAs and the
like not as GPUs, and Azure's prices say nothing of machines."""

NOT_BY_SIZE: Mapping[str, re.Pattern[str]] = {
    # HPC machines are whole hosts at one price, with fewer processors switched on. The sizes of
    # u- machines are those of their memory.
    "aws": re.compile(r"hpc\d|u-|u\d|mac"),
    # z3 has a local disk for each host, not for each size; n2-highmem-128 has 6.75 GB for each
    # processor, the others of its family 8.
    "gcp": re.compile(r"z3-|n2-highmem-128\Z"),
}
"""Families whose prices do not grow with the size in the name."""
