"""What a machine is: as its price says, or else as its provider documents it.

Azure's price list says nothing of machines (its list of sizes needs credentials), and AWS's says
how many GPUs there are and not which. What is missing is taken from the documents:
`clustrix_prefect.pricing.accelerators`, and for the rest of Azure's sizes
https://learn.microsoft.com/azure/virtual-machines/sizes/overview.

A machine that neither says is unknown, and like no other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from clustrix_prefect.pricing.accelerators import accelerators_of, is_accelerated, name_of
from clustrix_prefect.pricing.price import Price

MEMORY_TOLERANCE = Decimal("0.10")
"""Machines are alike if the memory of one is within so much of the other's."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What makes machines alike.

    Attributes:
        vcpus: Virtual CPUs.
        memory_gib: Memory; `None` if nobody says.
        gpu_count: GPUs or other accelerators, 0 for none, parts of one where it is shared; `None`
            if there are some and nobody says how many.
        gpu_model: Their model in short, such as `A100`; `None` if not known, or there are none.
        gpu_memory_gib: Memory of a whole one.
        is_documented: Whether some of it is from the documents, not from the price list.
        gpu_name: What the provider calls them, if that is all there is to know.
    """

    vcpus: Decimal
    memory_gib: Decimal | None
    gpu_count: Decimal | int | None = 0
    gpu_model: str | None = None
    gpu_memory_gib: Decimal | None = None
    is_documented: bool = False
    gpu_name: str | None = None

    def is_like(self, other: Machine) -> bool:
        """Same processors, memory within `MEMORY_TOLERANCE`, same GPUs."""
        if self.memory_gib is None or other.memory_gib is None:
            return False
        if self.vcpus != other.vcpus or not _near(self.memory_gib, other.memory_gib):
            return False
        if self.gpu_count is None or self.gpu_count != other.gpu_count:
            return False
        if not self.gpu_count:
            return True
        if self.gpu_model is None or self.gpu_model != other.gpu_model:
            return False
        # An A100 has 40 or 80 GiB.
        mine, theirs = self.gpu_memory_gib, other.gpu_memory_gib
        return mine is None or theirs is None or _near(mine, theirs)

    def __str__(self) -> str:
        plural = "" if self.vcpus == 1 else "s"
        memory = "memory not said" if self.memory_gib is None else f"{short(self.memory_gib)} GiB"
        return f"{short(self.vcpus)} vCPU{plural}, {memory}, {self._gpus()}"

    def _gpus(self) -> str:
        if self.gpu_count == 0:
            return "no GPU"
        times = ""
        if self.gpu_count is not None:
            times = f"{Fraction(self.gpu_count).limit_denominator(64)} x "
        if self.gpu_model is None or self.gpu_count is None:
            name = self.gpu_name or self.gpu_model
            return f"{times}GPU: {f'{name}, ' if name else ''}as its provider names it"
        memory = f" of {self.gpu_memory_gib:f} GiB" if self.gpu_memory_gib else ""
        return f"{times}{self.gpu_model}{memory}"


def machine_of(price: Price) -> Machine | None:
    """Return the machine that a price is for; `None` if nobody says what it is."""
    names = (price.provider, price.instance_type)
    known = accelerators_of(*names)
    vcpus, memory, count = price.vcpus, price.memory_gib, price.gpu_count
    is_documented = False
    if vcpus is None or memory is None:
        if price.provider != "azure":
            return None
        if not is_accelerated(*names):
            return _azure(price.instance_type)
        vcpus, memory, is_documented = _processors(price.instance_type), None, True
        if known is not None and known.vcpus is not None:
            vcpus, memory = known.vcpus, known.machine_gib
        if vcpus is None:
            return None
    if known is not None and known.count is not None:
        # Azure's list counts a part of a GPU as one, and AWS's knows no other chips.
        is_documented = is_documented or known.count != count
        count = known.count
    elif not count and is_accelerated(*names):
        count = None
    if count == 0:
        return Machine(vcpus, memory, 0, is_documented=is_documented)
    if price.gpu_model is not None:
        model, gpu_memory = model_of(price.gpu_model), price.gpu_memory_gib
    elif known is not None:
        model, gpu_memory, is_documented = known.model, known.memory_gib, True
    else:
        model, gpu_memory = None, None
    name = name_of(*names) if model is None or count is None else None
    return Machine(vcpus, memory, count, model, gpu_memory, is_documented, name)


_NOISE = re.compile(
    r"\b(nvidia|amd|tesla|gpu|tensor core|sxm\d*|pcie|hbm\d*e?|mega|\d+ ?gi?b)\b", re.IGNORECASE
)


def model_of(text: str | None) -> str | None:
    """Return a GPU's model without maker, memory and socket: `A100` of `NVIDIA Tesla A100 80GB`."""
    if text is None:
        return None
    words = _NOISE.sub(" ", text.replace("-", " ").replace("_", " ")).split()
    return "".join(words).upper() or None


def short(number: Decimal) -> str:
    """Return a number without zeros at its end."""
    return f"{number.normalize():f}"


def _near(one: Decimal, other: Decimal) -> bool:
    return abs(one - other) <= MEMORY_TOLERANCE * max(one, other)


# --- Azure: the series whose memory grows with the processors -------------------------------

# Of these the number is that of the processors. Larger ones have less memory than the rule says,
# constrained ones (Standard_E4-2s_v5) fewer processors; neither matches.
_AZURE_SERIES = re.compile(
    r"Standard_(?P<letter>[DEF])(?P<vcpus>\d+)(?P<features>[a-z]*)_v(?P<version>\d+)\Z"
)
_GIB_PER_VCPU = {"D": 4, "E": 8, "F": 2}
_MOST_VCPUS = {"D": 96, "E": 48, "F": 72}
_FIRST_VERSION = {"D": 3, "E": 3, "F": 2}
_AZURE_NUMBER = re.compile(r"Standard_[A-Z]+(\d+)")


def _processors(size: str) -> Decimal | None:
    match = _AZURE_NUMBER.match(size)
    return Decimal(match[1]) if match else None


def _azure(size: str) -> Machine | None:
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
