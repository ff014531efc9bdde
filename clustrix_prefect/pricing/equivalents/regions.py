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
class Place:
    """A place, and the regions there."""

    name: str
    aws: tuple[str, ...] = ()
    gcp: tuple[str, ...] = ()
    azure: tuple[str, ...] = ()

    def region_of(self, provider: str) -> str | None:
        """Return the provider's usual region there; `None` if it has none."""
        regions: tuple[str, ...] = getattr(self, provider, ())
        return regions[0] if regions else None


# fmt: off
PLACES = (
    # North America
    Place("Virginia", ("us-east-1",), ("us-east4",), ("eastus", "eastus2")),
    Place("Ohio", ("us-east-2",), ("us-east5",)),
    Place("Iowa", (), ("us-central1",), ("centralus",)),
    Place("Texas", (), ("us-south1",), ("southcentralus",)),
    Place("Pacific Northwest", ("us-west-2",), ("us-west1",), ("westus2",)),
    Place("California", ("us-west-1",), ("us-west2",), ("westus",)),
    Place("Montreal and Quebec", ("ca-central-1",), ("northamerica-northeast1",), ("canadaeast",)),
    Place("Toronto", (), ("northamerica-northeast2",), ("canadacentral",)),
    Place("Queretaro", ("mx-central-1",), ("northamerica-south1",), ("mexicocentral",)),
    # South America
    Place("Sao Paulo", ("sa-east-1",), ("southamerica-east1",), ("brazilsouth",)),
    Place("Santiago", (), ("southamerica-west1",), ("chilecentral",)),
    # Europe
    Place("Dublin", ("eu-west-1",), (), ("northeurope",)),
    Place("London", ("eu-west-2",), ("europe-west2",), ("uksouth",)),
    Place("Paris", ("eu-west-3",), ("europe-west9",), ("francecentral",)),
    Place("Frankfurt", ("eu-central-1",), ("europe-west3",), ("germanywestcentral",)),
    Place("Netherlands", (), ("europe-west4",), ("westeurope",)),
    Place("Berlin", (), ("europe-west10",), ("germanynorth",)),
    Place("Belgium", (), ("europe-west1",), ("belgiumcentral",)),
    Place("Zurich", ("eu-central-2",), ("europe-west6",), ("switzerlandnorth",)),
    Place("Milan", ("eu-south-1",), ("europe-west8",), ("italynorth",)),
    Place("Spain", ("eu-south-2",), ("europe-southwest1",), ("spaincentral",)),
    Place("Stockholm", ("eu-north-1",), ("europe-north2",), ("swedencentral",)),
    Place("Warsaw", (), ("europe-central2",), ("polandcentral",)),
    # Asia
    Place("Tokyo", ("ap-northeast-1",), ("asia-northeast1",), ("japaneast",)),
    Place("Osaka", ("ap-northeast-3",), ("asia-northeast2",), ("japanwest",)),
    Place("Seoul", ("ap-northeast-2",), ("asia-northeast3",), ("koreacentral",)),
    Place("Taiwan", ("ap-east-2",), ("asia-east1",), ("taiwannorth",)),
    Place("Hong Kong", ("ap-east-1",), ("asia-east2",), ("eastasia",)),
    Place("Singapore", ("ap-southeast-1",), ("asia-southeast1",), ("southeastasia",)),
    Place("Malaysia", ("ap-southeast-5",), (), ("malaysiawest",)),
    Place("Thailand", ("ap-southeast-7",), ("asia-southeast3",)),
    Place("Jakarta", ("ap-southeast-3",), ("asia-southeast2",), ("indonesiacentral",)),
    Place("Mumbai and Pune", ("ap-south-1",), ("asia-south1",), ("centralindia", "westindia")),
    # Australia
    Place("Sydney", ("ap-southeast-2",), ("australia-southeast1",), ("australiaeast",)),
    Place("Melbourne", ("ap-southeast-4",), ("australia-southeast2",), ("australiasoutheast",)),
    Place("New Zealand", ("ap-southeast-6",), (), ("newzealandnorth",)),
    # Middle East and Africa
    Place("Israel", ("il-central-1",), ("me-west1",), ("israelcentral",)),
    Place("Emirates", ("me-central-1",), (), ("uaenorth",)),
    Place("Qatar", (), ("me-central1",), ("qatarcentral",)),
    Place("South Africa", ("af-south-1",), ("africa-south1",), ("southafricanorth",)),
)
# fmt: on


def place_of(region: str) -> Place:
    """Return the place of a region, whichever provider calls it so.

    Raises:
        ConfigurationError: No provider has such a region, or only one has a region there.
    """
    for place in PLACES:
        if region in place.aws + place.gcp + place.azure:
            # That region, where a provider has several.
            return Place(
                place.name,
                _first(region, place.aws),
                _first(region, place.gcp),
                _first(region, place.azure),
            )
    raise ConfigurationError(
        f"{region!r} is not in the table of regions.",
        "Name one as its provider does, such as us-east-1, europe-west3 or westeurope; the table "
        "is clustrix_prefect/pricing/equivalents/regions.py.",
    )


def _first(region: str, regions: tuple[str, ...]) -> tuple[str, ...]:
    return (region, *(r for r in regions if r != region)) if region in regions else regions
