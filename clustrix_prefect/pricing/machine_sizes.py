"""What the names of machine types say of their sizes, as the providers document the names.

For checks only: a `Price` holds what its source says.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

from clustrix_prefect.pricing.price import Price
from clustrix_prefect.pricing.thresholds import ACCELERATED, NOT_BY_SIZE

# https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-instance-regions.html: large is four
# units of what xlarge is eight, Nxlarge N times eight.
_AWS_SIZES = {"nano": 0.25, "micro": 0.5, "small": 1, "medium": 2, "large": 4, "xlarge": 8}
_AWS = re.compile(r"(?P<family>[a-z0-9-]+)\.(?:(?P<times>\d+)xlarge|(?P<size>[a-z]+))\Z")
# https://cloud.google.com/compute/docs/machine-resource
_GCP = re.compile(r"(?P<family>[a-z]\d+[a-z]?-(?:standard|highmem|highcpu))-(?P<vcpus>\d+)\Z")
# https://learn.microsoft.com/azure/virtual-machines/vm-naming-conventions; sizes of versions 1
# and 2 count otherwise, and the burstable ones are priced one by one. F has linear prices from
# version 2 on. An i is a whole host.
_AZURE = re.compile(
    r"Standard_(?P<letters>[DEF]C?)(?P<vcpus>\d+)(?P<features>[a-hj-z]*)_v(?P<version>\d+)\Z"
)
_AZURE_COUNT = re.compile(r"Standard_[A-Z]+(?P<vcpus>\d+)(?:-\d+)?[a-z]*(?:_\w+)?\Z")

Size = tuple[str, float]


def size_units(price: Price, what: Literal["family", "processors"]) -> float | None:
    """How many units of size a machine has; `None` if its name does not say.

    Args:
        price: The price of the machine.
        what: `family`: units in which prices grow within a family. `processors`: about how
            many processors, for bounds.
    """
    if what == "processors":
        return _processors(price.provider, price.instance_type)
    size = family_and_size(price.provider, price.instance_type)
    return size[1] if size else None


@lru_cache(maxsize=65536)
def family_and_size(provider: str, instance_type: str) -> Size | None:
    """The family within which prices grow with the size, and the size.

    `None` for bare metal, for machines with accelerators, and for families whose prices do not
    grow so.
    """
    if _excluded(provider, instance_type):
        return None
    if provider == "aws":
        match = _AWS.match(instance_type)
        if match and match["times"]:
            return match["family"], 8.0 * int(match["times"])
        if match and match["size"] in _AWS_SIZES:
            return match["family"], _AWS_SIZES[match["size"]]
    elif provider == "gcp":
        match = _GCP.match(instance_type)
        if match:
            return match["family"], float(match["vcpus"])
    elif provider == "azure":
        match = _AZURE.match(instance_type)
        if match and int(match["version"]) >= (2 if match["letters"] == "F" else 3):
            family = f"{match['letters']}{match['features']}v{match['version']}"
            return family, float(match["vcpus"])
    return None


def is_accelerated(price: Price) -> bool:
    """Whether a machine has accelerators, as far as it is known."""
    return bool(price.gpu_count) or _named_accelerated(price.provider, price.instance_type)


@lru_cache(maxsize=65536)
def _named_accelerated(provider: str, instance_type: str) -> bool:
    pattern = ACCELERATED.get(provider)
    return pattern is not None and bool(pattern.match(instance_type))


def _excluded(provider: str, instance_type: str) -> bool:
    pattern = NOT_BY_SIZE.get(provider)
    return _named_accelerated(provider, instance_type) or bool(
        pattern and pattern.match(instance_type)
    )


@lru_cache(maxsize=65536)
def _processors(provider: str, instance_type: str) -> float | None:
    if provider == "azure" and (match := _AZURE_COUNT.match(instance_type)):
        return float(match["vcpus"])
    return None
