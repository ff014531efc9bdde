"""Which regions of the providers are in the same place.

One row for each metropolitan area or state in which at least two of them have a region. The names
and places are those of

* https://docs.aws.amazon.com/global-infrastructure/latest/regions/aws-regions.html
* https://cloud.google.com/compute/docs/regions-zones
* https://learn.microsoft.com/azure/reliability/regions-list

Where a provider has several regions in a place, the first is the usual one and the one that is
asked; each of them leads to the row. Lambda and Hugging Face have one price everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

from clustrix_prefect.errors import ConfigurationError

EVERYWHERE = ("lambda_cloud", "huggingface")
"""Providers whose prices have no region."""


@dataclass(frozen=True, slots=True)
class Area:
    """A part of the world, and the regions there."""

    name: str
    aws: tuple[str, ...] = ()
    gcp: tuple[str, ...] = ()
    azure: tuple[str, ...] = ()

    def region_of(self, provider: str) -> str | None:
        """Return the provider's usual region there; `None` if it has none."""
        regions: tuple[str, ...] = getattr(self, provider, ())
        return regions[0] if regions else None


# fmt: off
AREAS = (
    # North America
    Area("Virginia", ("us-east-1",), ("us-east4",), ("eastus", "eastus2")),
    Area("Ohio", ("us-east-2",), ("us-east5",)),
    Area("Iowa", (), ("us-central1",), ("centralus",)),
    Area("Texas", (), ("us-south1",), ("southcentralus",)),
    Area("Pacific Northwest", ("us-west-2",), ("us-west1",), ("westus2",)),
    Area("California", ("us-west-1",), ("us-west2",), ("westus",)),
    Area("Montreal and Quebec", ("ca-central-1",), ("northamerica-northeast1",), ("canadaeast",)),
    Area("Toronto", (), ("northamerica-northeast2",), ("canadacentral",)),
    Area("Queretaro", ("mx-central-1",), ("northamerica-south1",), ("mexicocentral",)),
    # South America
    Area("Sao Paulo", ("sa-east-1",), ("southamerica-east1",), ("brazilsouth",)),
    Area("Santiago", (), ("southamerica-west1",), ("chilecentral",)),
    # Europe
    Area("Dublin", ("eu-west-1",), (), ("northeurope",)),
    Area("London", ("eu-west-2",), ("europe-west2",), ("uksouth",)),
    Area("Paris", ("eu-west-3",), ("europe-west9",), ("francecentral",)),
    Area("Frankfurt", ("eu-central-1",), ("europe-west3",), ("germanywestcentral",)),
    Area("Netherlands", (), ("europe-west4",), ("westeurope",)),
    Area("Berlin", (), ("europe-west10",), ("germanynorth",)),
    Area("Belgium", (), ("europe-west1",), ("belgiumcentral",)),
    Area("Zurich", ("eu-central-2",), ("europe-west6",), ("switzerlandnorth",)),
    Area("Milan", ("eu-south-1",), ("europe-west8",), ("italynorth",)),
    Area("Spain", ("eu-south-2",), ("europe-southwest1",), ("spaincentral",)),
    Area("Stockholm", ("eu-north-1",), ("europe-north2",), ("swedencentral",)),
    Area("Warsaw", (), ("europe-central2",), ("polandcentral",)),
    # Asia
    Area("Tokyo", ("ap-northeast-1",), ("asia-northeast1",), ("japaneast",)),
    Area("Osaka", ("ap-northeast-3",), ("asia-northeast2",), ("japanwest",)),
    Area("Seoul", ("ap-northeast-2",), ("asia-northeast3",), ("koreacentral",)),
    Area("Taiwan", ("ap-east-2",), ("asia-east1",), ("taiwannorth",)),
    Area("Hong Kong", ("ap-east-1",), ("asia-east2",), ("eastasia",)),
    Area("Singapore", ("ap-southeast-1",), ("asia-southeast1",), ("southeastasia",)),
    Area("Malaysia", ("ap-southeast-5",), (), ("malaysiawest",)),
    Area("Thailand", ("ap-southeast-7",), ("asia-southeast3",)),
    Area("Jakarta", ("ap-southeast-3",), ("asia-southeast2",), ("indonesiacentral",)),
    Area("Mumbai and Pune", ("ap-south-1",), ("asia-south1",), ("centralindia", "westindia")),
    # Australia
    Area("Sydney", ("ap-southeast-2",), ("australia-southeast1",), ("australiaeast",)),
    Area("Melbourne", ("ap-southeast-4",), ("australia-southeast2",), ("australiasoutheast",)),
    Area("New Zealand", ("ap-southeast-6",), (), ("newzealandnorth",)),
    # Middle East and Africa
    Area("Israel", ("il-central-1",), ("me-west1",), ("israelcentral",)),
    Area("Emirates", ("me-central-1",), (), ("uaenorth",)),
    Area("Qatar", (), ("me-central1",), ("qatarcentral",)),
    Area("South Africa", ("af-south-1",), ("africa-south1",), ("southafricanorth",)),
)
# fmt: on


def area_of(region: str) -> Area:
    """Return the place of a region, whichever provider calls it so.

    Raises:
        ConfigurationError: No provider has such a region, or only one has a region there.
    """
    for area in AREAS:
        if region in area.aws + area.gcp + area.azure:
            # That region, where a provider has several.
            return Area(
                area.name,
                _first(region, area.aws),
                _first(region, area.gcp),
                _first(region, area.azure),
            )
    raise ConfigurationError(
        f"{region!r} is not in the table of regions.",
        "Name one as its provider does, such as us-east-1, europe-west3 or westeurope; the table "
        "is clustrix_prefect/pricing/equivalents/regions.py.",
    )


def _first(region: str, regions: tuple[str, ...]) -> tuple[str, ...]:
    return (region, *(r for r in regions if r != region)) if region in regions else regions
