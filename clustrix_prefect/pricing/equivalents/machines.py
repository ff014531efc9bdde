"""What a machine is: as its price says, or else as its provider documents it.

Azure's price list says nothing of machines (its list of sizes needs credentials), and AWS's says
how many GPUs there are and not which. What is missing is taken from the documents:

* https://learn.microsoft.com/azure/virtual-machines/sizes/overview
* https://docs.aws.amazon.com/ec2/latest/instancetypes/ac.html

A machine that neither says is unknown, and like no other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from clustrix_prefect.pricing.price import Price

MEMORY_TOLERANCE = Decimal("0.10")
"""Machines are alike if the memory of one is within so much of the other's."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What makes machines alike.

    Attributes:
        vcpus: Virtual CPUs.
        memory_gib: Memory.
        gpu_count: GPUs, 0 for none.
        gpu_model: Their model in short, such as `A100`; `None` if not known, or there are none.
        gpu_memory_gib: Memory of one.
        is_documented: Whether some of it is from the documents, not from the price list.
    """

    vcpus: Decimal
    memory_gib: Decimal
    gpu_count: int = 0
    gpu_model: str | None = None
    gpu_memory_gib: Decimal | None = None
    is_documented: bool = False

    def is_like(self, other: Machine) -> bool:
        """Same processors, memory within `MEMORY_TOLERANCE`, same GPUs."""
        if self.vcpus != other.vcpus or not _near(self.memory_gib, other.memory_gib):
            return False
        if self.gpu_count != other.gpu_count:
            return False
        if not self.gpu_count:
            return True
        if self.gpu_model is None or self.gpu_model != other.gpu_model:
            return False
        # An A100 has 40 or 80 GiB.
        mine, theirs = self.gpu_memory_gib, other.gpu_memory_gib
        return mine is None or theirs is None or _near(mine, theirs)

    def __str__(self) -> str:
        gpus = "no GPU"
        if self.gpu_count:
            memory = f" of {self.gpu_memory_gib:f} GiB" if self.gpu_memory_gib else ""
            gpus = f"{self.gpu_count} x {self.gpu_model or 'unknown GPU'}{memory}"
        plural = "" if self.vcpus == 1 else "s"
        return f"{short(self.vcpus)} vCPU{plural}, {short(self.memory_gib)} GiB, {gpus}"


def machine_of(price: Price) -> Machine | None:
    """The machine that a price is for; `None` if nobody says what it is."""
    documented = _azure(price.instance_type) if price.provider == "azure" else None
    if price.vcpus is None or price.memory_gib is None:
        return documented
    machine = Machine(price.vcpus, price.memory_gib, price.gpu_count or 0)
    if not machine.gpu_count:
        return machine
    if price.gpu_model is not None:
        return replace(
            machine, gpu_model=model_of(price.gpu_model), gpu_memory_gib=price.gpu_memory_gib
        )
    if documented is not None:
        model, memory = documented.gpu_model, documented.gpu_memory_gib
    elif price.provider == "aws" and (known := _AWS_GPUS.get(price.family or "")):
        model, memory = known[0], Decimal(known[1])
    else:
        return machine
    return replace(machine, gpu_model=model, gpu_memory_gib=memory, is_documented=True)


_NOISE = re.compile(
    r"\b(nvidia|amd|tesla|gpu|tensor core|sxm\d*|pcie|hbm\d*e?|mega|\d+ ?gi?b)\b", re.IGNORECASE
)


def model_of(text: str | None) -> str | None:
    """A GPU's model without maker, memory and socket: `A100` of `NVIDIA Tesla A100 80GB`."""
    if text is None:
        return None
    words = _NOISE.sub(" ", text.replace("-", " ").replace("_", " ")).split()
    return "".join(words).upper() or None


def short(number: Decimal) -> str:
    """A number without zeros at its end."""
    return f"{number.normalize():f}"


def _near(one: Decimal, other: Decimal) -> bool:
    return abs(one - other) <= MEMORY_TOLERANCE * max(one, other)


# --- AWS: which GPUs a family has; GiB of each ----------------------------------------------

_AWS_GPUS: Mapping[str, tuple[str, str]] = {
    "g3": ("M60", "8"),
    "g3s": ("M60", "8"),
    "g4ad": ("RADEONPROV520", "8"),
    "g4dn": ("T4", "16"),
    "g5": ("A10G", "24"),
    "g5g": ("T4G", "16"),
    "g6": ("L4", "24"),
    "g6e": ("L40S", "48"),
    "gr6": ("L4", "24"),
    "p2": ("K80", "12"),
    "p3": ("V100", "16"),
    "p3dn": ("V100", "32"),
    "p4d": ("A100", "40"),
    "p4de": ("A100", "80"),
    "p5": ("H100", "80"),
    "p5e": ("H200", "141"),
    "p5en": ("H200", "141"),
    "p6-b200": ("B200", "180"),
}


# --- Azure: the series whose memory grows with the processors, and the GPU machines ---------

# Of these the number is that of the processors. Larger ones have less memory than the rule says,
# constrained ones (Standard_E4-2s_v5) fewer processors; neither matches.
_AZURE_SERIES = re.compile(
    r"Standard_(?P<letter>[DEF])(?P<vcpus>\d+)(?P<features>[a-z]*)_v(?P<version>\d+)\Z"
)
_GIB_PER_VCPU = {"D": 4, "E": 8, "F": 2}
_MOST_VCPUS = {"D": 96, "E": 48, "F": 72}
_FIRST_VERSION = {"D": 3, "E": 3, "F": 2}
# Name: processors, GiB, GPUs, their model, GiB of one.
_AZURE_GPUS: Mapping[str, tuple[int, int, int, str, int]] = {
    "Standard_NC4as_T4_v3": (4, 28, 1, "T4", 16),
    "Standard_NC8as_T4_v3": (8, 56, 1, "T4", 16),
    "Standard_NC16as_T4_v3": (16, 110, 1, "T4", 16),
    "Standard_NC64as_T4_v3": (64, 440, 4, "T4", 16),
    "Standard_NC6s_v3": (6, 112, 1, "V100", 16),
    "Standard_NC12s_v3": (12, 224, 2, "V100", 16),
    "Standard_NC24s_v3": (24, 448, 4, "V100", 16),
    "Standard_ND40rs_v2": (40, 672, 8, "V100", 32),
    "Standard_NC24ads_A100_v4": (24, 220, 1, "A100", 80),
    "Standard_NC48ads_A100_v4": (48, 440, 2, "A100", 80),
    "Standard_NC96ads_A100_v4": (96, 880, 4, "A100", 80),
    "Standard_ND96asr_v4": (96, 900, 8, "A100", 40),
    "Standard_ND96amsr_A100_v4": (96, 1900, 8, "A100", 80),
    "Standard_NC40ads_H100_v5": (40, 320, 1, "H100NVL", 94),
    "Standard_NC80adis_H100_v5": (80, 640, 2, "H100NVL", 94),
    "Standard_ND96isr_H100_v5": (96, 1900, 8, "H100", 80),
    "Standard_ND96isr_H200_v5": (96, 1850, 8, "H200", 141),
    "Standard_NV36ads_A10_v5": (36, 440, 1, "A10", 24),
    "Standard_NV72ads_A10_v5": (72, 880, 2, "A10", 24),
}


def _azure(size: str) -> Machine | None:
    if known := _AZURE_GPUS.get(size):
        vcpus, memory, gpus, model, gpu_memory = known
        return Machine(
            Decimal(vcpus), Decimal(memory), gpus, model, Decimal(gpu_memory), is_documented=True
        )
    match = _AZURE_SERIES.match(size)
    if match is None:
        return None
    letter, vcpus, version = match["letter"], int(match["vcpus"]), int(match["version"])
    if vcpus > _MOST_VCPUS[letter] or version < _FIRST_VERSION[letter]:
        return None
    share = _GIB_PER_VCPU[letter]
    if letter == "F" and version >= 6:
        share = 4
    if "l" in match["features"]:  # low memory
        share = 2
    elif "m" in match["features"]:  # memory-intensive
        share = 8
    return Machine(Decimal(vcpus), Decimal(share * vcpus), is_documented=True)
