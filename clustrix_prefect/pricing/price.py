"""What a price is, and what makes two prices the same one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import NamedTuple


class PurchaseOption(str, Enum):
    """How a machine is bought."""

    ON_DEMAND = "on-demand"
    SPOT = "spot"


class Commitment(str, Enum):
    """For how long the buyer is bound. Savings plans and the like are not covered."""

    NONE = "none"
    ONE_YEAR = "1 year"
    THREE_YEARS = "3 years"


class PriceKey(NamedTuple):
    """What a price is the price of. A source gives exactly one price for each."""

    provider: str
    region: str | None
    zone: str | None
    instance_type: str
    operating_system: str | None
    licence: str | None
    tenancy: str | None
    purchase_option: PurchaseOption
    commitment: Commitment
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """One hour of one machine, as its provider prices it.

    What the source does not say is `None`, never a guess.

    Attributes:
        provider: `aws`, `gcp`, `azure`, `lambda_cloud` or `huggingface`.
        region: The provider's own name of the region; `None` if its prices have none.
        zone: The zone, for prices that differ by zone (AWS spot).
        instance_type: The provider's own name of the machine type.
        family: The provider's family of the type, such as `m5` or `Dsv3`.
        operating_system: `Linux`, `Windows`, ... as the source says it.
        licence: What software the price pays for besides the system; `None` if not said.
        tenancy: `Shared`, `Dedicated`, ...; `None` if not said.
        hourly: Per hour in `currency`, at full precision.
        currency: As the source says it (ISO 4217), never converted.
        amount: The number in the source.
        unit: Its unit in the source, such as `Hrs`, `1 Hour`, `minute`.
        vcpus: Virtual CPUs; shared-core machines have fractions.
        memory_gib: Memory in GiB (2**30 bytes).
        gpu_count: Accelerators, 0 if the source says there are none; parts of one where it is
            shared.
        gpu_model: Their model, as the source names it.
        gpu_memory_gib: Memory of one accelerator in GiB.
        effective: Since when the price holds; it may rightly be years ago.
        published_at: When the source published its list.
        source: Where the price was read: the endpoint's URL, without secrets.
        fetched_at: When it was read (UTC).
    """

    provider: str
    region: str | None
    instance_type: str
    purchase_option: PurchaseOption
    hourly: Decimal
    currency: str
    amount: Decimal
    unit: str
    source: str
    fetched_at: datetime
    commitment: Commitment = Commitment.NONE
    zone: str | None = None
    family: str | None = None
    operating_system: str | None = None
    licence: str | None = None
    tenancy: str | None = None
    vcpus: Decimal | None = None
    memory_gib: Decimal | None = None
    gpu_count: int | Decimal | None = None
    gpu_model: str | None = None
    gpu_memory_gib: Decimal | None = None
    effective: datetime | None = None
    published_at: datetime | None = None

    @property
    def key(self) -> PriceKey:
        """What this is the price of."""
        return PriceKey(
            self.provider,
            self.region,
            self.zone,
            self.instance_type,
            self.operating_system,
            self.licence,
            self.tenancy,
            self.purchase_option,
            self.commitment,
            self.currency,
        )
