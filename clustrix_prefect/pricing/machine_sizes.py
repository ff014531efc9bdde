"""What the names of machine types say of their sizes, as the providers document the names.

For checks only: a `Price` holds what its source says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Literal

from clustrix_prefect.pricing import accelerators
from clustrix_prefect.pricing.price import Price
from clustrix_prefect.pricing.thresholds import NOT_BY_SIZE

# https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-instance-regions.html: large is four
# units of what xlarge is eight, Nxlarge N times eight.
_AWS_SIZES = {"nano": 0.25, "micro": 0.5, "small": 1, "medium": 2, "large": 4, "xlarge": 8}
# Machines of large memory are called by their memory: u7i-12tb.224xlarge.
_AWS_MEMORY = re.compile(r"(?P<family>u\w*)-(?P<tib>\d+)tb1?\.\d+xlarge\Z")
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
# https://learn.microsoft.com/azure/virtual-machines/sizes/previous-gen-sizes-list: the first
# series count their sizes, not their processors.
_AZURE_ORDINALS: Mapping[str, Mapping[int, int]] = {
    "A": {0: 1, 1: 1, 2: 2, 3: 4, 4: 8, 5: 2, 6: 4, 7: 8, 8: 8, 9: 16, 10: 8, 11: 16},
    "D": {1: 1, 2: 2, 3: 4, 4: 8, 5: 16, 11: 2, 12: 4, 13: 8, 14: 16, 15: 20},
    "G": {1: 2, 2: 4, 3: 8, 4: 16, 5: 32},
}
_AZURE_ORDINAL = re.compile(
    r"(?:Standard|Basic)_(?P<letter>[ADG])S?(?P<size>\d+)(?:-\d+)?i?(?P<version>_v2)?(?:_Promo)?\Z"
)

Size = tuple[str, float]


def size_units(price: Price, what: Literal["family", "processors"]) -> float | None:
    """Return how many units of size a machine has; `None` if its name does not say.

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
    """Return the family within which prices grow with the size, and the size.

    `None` for bare metal, for machines with accelerators, and for families whose prices do not
    grow so.
    """
    if accelerators.is_accelerated(provider, instance_type) or _excluded(provider, instance_type):
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


@lru_cache(maxsize=65536)
def family_and_memory(provider: str, instance_type: str) -> Size | None:
    """Return the family within which prices grow with the memory, and the memory in TiB."""
    match = _AWS_MEMORY.match(instance_type) if provider == "aws" else None
    return (match["family"], float(match["tib"])) if match else None


@lru_cache(maxsize=65536)
def accelerated_size(provider: str, instance_type: str) -> tuple[str, float, float] | None:
    """Of a machine with accelerators: the family, how many, and how many processors.

    `None` if it is not documented, or the prices do not grow so.
    """
    found = accelerators.accelerators_of(provider, instance_type)
    if found is None or found.count is None or _excluded(provider, instance_type):
        return None
    count = float(found.count)
    if provider == "azure":
        return None  # all of which are known are in `family_and_weight`
    family = instance_type.partition(".")[0]
    match = _AWS.match(instance_type)
    if match is None:
        return None
    units = 8.0 * int(match["times"]) if match["times"] else _AWS_SIZES.get(match["size"], 0.0)
    return family, count, units / 2


@lru_cache(maxsize=65536)
def series_of(provider: str, instance_type: str) -> str | None:
    """Accelerated machines whose prices differ alike from region to region; `None` for others.

    Families of one or two sizes are priced with their successors.
    """
    if provider == "aws" and (match := _AWS_SERIES.match(instance_type)):
        return match[1]
    if provider == "azure" and (match := _AZURE_SERIES.match(instance_type)):
        return f"{match['letters']} {match['rest']}"
    return None


_AWS_SERIES = re.compile(r"(p|trn|u|g\d\w*|gr\d\w*|inf\d|dl|f\d|vt\d)[^.]*\.\d*\w+\Z")
_AZURE_SERIES = re.compile(r"Standard_(?P<letters>N[A-Z]+)\d+[a-z]*(?P<rest>\w*)\Z")


def is_accelerated(price: Price) -> bool:
    """Return whether a machine has accelerators, as far as it is known."""
    return bool(price.gpu_count) or accelerators.is_accelerated(price.provider, price.instance_type)


@lru_cache(maxsize=65536)
def _excluded(provider: str, instance_type: str) -> bool:
    pattern = NOT_BY_SIZE.get(provider)
    return bool(pattern and pattern.match(instance_type))


@lru_cache(maxsize=65536)
def _processors(provider: str, instance_type: str) -> float | None:
    if provider != "azure":
        return None
    match = _AZURE_ORDINAL.match(instance_type)
    # From version 2 on, only D is still counted; A is called by its processors.
    if match and (match["version"] is None or match["letter"] == "D"):
        known = _AZURE_ORDINALS[match["letter"]].get(int(match["size"]))
        return None if known is None else float(known)
    if match := _AZURE_COUNT.match(instance_type):
        return float(match["vcpus"])
    return None
