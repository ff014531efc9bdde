"""Which accelerators machines have, as their providers document them.

Azure's price list says nothing of machines, and AWS's says how many GPUs there are, not which,
and nothing of other chips. The documents:

* https://docs.aws.amazon.com/ec2/latest/instancetypes/ac.html
* https://learn.microsoft.com/azure/virtual-machines/sizes/overview#gpu-accelerated
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

NAMES: Mapping[str, re.Pattern[str]] = {
    "aws": re.compile(r"(?:p|g|gr|inf|trn|dl|f|vt)\d"),
    "azure": re.compile(r"(?:Standard|Basic)_N"),
    "gcp": re.compile(r"(?:a|g|ct)\d"),
}
"""The names of machine types with accelerators, whether in a table or not."""


@dataclass(frozen=True, slots=True)
class Accelerators:
    """The accelerators of a machine type.

    Attributes:
        model: Which, in short: `A100`, `INFERENTIA2`.
        memory_gib: Memory of a whole one in GiB; `None` if not documented.
        count: How many; part of one where it is shared; `None` if not documented.
        vcpus: The machine's processors; `None` if the price list says it.
        machine_gib: The machine's memory in GiB, as for `vcpus`.
    """

    model: str
    memory_gib: Decimal | None = None
    count: Decimal | None = None
    vcpus: Decimal | None = None
    machine_gib: Decimal | None = None


def is_accelerated(provider: str, instance_type: str) -> bool:
    """Return whether the name of a machine type says that it has accelerators."""
    pattern = NAMES.get(provider)
    return pattern is not None and pattern.match(instance_type) is not None


@lru_cache(maxsize=65536)
def accelerators_of(provider: str, instance_type: str) -> Accelerators | None:
    """Return what is documented of a machine type's accelerators; `None` if nothing is."""
    if provider == "aws":
        family, _, size = instance_type.partition(".")
        if (known := _AWS.get(family)) is None:
            return None
        model, memory, counts = known
        count = counts.get(size)
        return Accelerators(model, _decimal(memory), None if count is None else Decimal(str(count)))
    if provider == "azure":
        return _azure(instance_type)
    return None


def name_of(provider: str, instance_type: str) -> str:
    """What the provider calls the accelerator within a machine type's name, or the family."""
    if provider == "azure" and (match := _AZURE_NAME.search(instance_type)):
        return match[1]
    return instance_type.partition(".")[0]


# --- AWS ------------------------------------------------------------------------------------

_G = {"xlarge": 1, "2xlarge": 1, "4xlarge": 1, "8xlarge": 1, "16xlarge": 1}
_G_MANY = {**_G, "12xlarge": 4, "24xlarge": 4, "48xlarge": 8}

# Model, GiB of each, how many in each size.
_AWS: Mapping[str, tuple[str, int | None, Mapping[str, float]]] = {
    "g2": ("K520", 4, {"2xlarge": 1, "8xlarge": 4}),
    "g3": ("M60", 8, {"4xlarge": 1, "8xlarge": 2, "16xlarge": 4}),
    "g3s": ("M60", 8, {"xlarge": 1}),
    "g4ad": ("RADEONPROV520", 8, {**_G, "8xlarge": 2, "16xlarge": 4}),
    "g4dn": ("T4", 16, {**_G, "12xlarge": 4, "metal": 8}),
    "g5": ("A10G", 24, _G_MANY),
    "g5g": ("T4G", 16, {**_G, "16xlarge": 2, "metal": 2}),
    "g6": ("L4", 24, _G_MANY),
    "g6e": ("L40S", 48, _G_MANY),
    "g6f": ("L4", 24, {"large": 0.125, "xlarge": 0.125, "2xlarge": 0.25, "4xlarge": 0.5}),
    "g7": ("RTXPRO4500", 32, {}),
    "g7e": ("RTXPRO6000", 96, {**_G, "12xlarge": 2, "24xlarge": 4, "48xlarge": 8}),
    "gr6": ("L4", 24, {"4xlarge": 1, "8xlarge": 1}),
    "gr6f": ("L4", 24, {"4xlarge": 0.5}),
    "p2": ("K80", 12, {"xlarge": 1, "8xlarge": 8, "16xlarge": 16}),
    "p3": ("V100", 16, {"2xlarge": 1, "8xlarge": 4, "16xlarge": 8}),
    "p3dn": ("V100", 32, {"24xlarge": 8}),
    "p4d": ("A100", 40, {"24xlarge": 8}),
    "p4de": ("A100", 80, {"24xlarge": 8}),
    "p5": ("H100", 80, {"4xlarge": 1, "48xlarge": 8}),
    "p5e": ("H200", 141, {"48xlarge": 8}),
    "p5en": ("H200", 141, {"48xlarge": 8}),
    "p6-b200": ("B200", 180, {"48xlarge": 8}),
    "p6-b300": ("B300", 288, {"48xlarge": 8}),
    "p6e-gb200": ("GB200", 185, {"36xlarge": 4}),
    # Not GPUs: chips for inference and training, and FPGAs.
    "inf1": ("INFERENTIA", 8, {"xlarge": 1, "2xlarge": 1, "6xlarge": 4, "24xlarge": 16}),
    "inf2": ("INFERENTIA2", 32, {"xlarge": 1, "8xlarge": 1, "24xlarge": 6, "48xlarge": 12}),
    "trn1": ("TRAINIUM", 32, {"2xlarge": 1, "32xlarge": 16}),
    "trn1n": ("TRAINIUM", 32, {"32xlarge": 16}),
    "trn2": ("TRAINIUM2", 96, {"3xlarge": 1, "48xlarge": 16}),
    "trn2u": ("TRAINIUM2", 96, {"48xlarge": 16}),
    "dl1": ("GAUDI", 32, {"24xlarge": 8}),
    "dl2q": ("AI100", 16, {"24xlarge": 8}),
    "f1": ("VU9PFPGA", 64, {"2xlarge": 1, "4xlarge": 2, "16xlarge": 8}),
    "f2": ("VU47PFPGA", 16, {"6xlarge": 1, "12xlarge": 2, "48xlarge": 8}),
    "vt1": ("U30", None, {"3xlarge": 1, "6xlarge": 2, "24xlarge": 8}),
}


# --- Azure ----------------------------------------------------------------------------------

# The name of the accelerator is between the size and the version: Standard_NC24ads_A100_v4,
# Standard_NC144ds_xl_RTXPRO6000BSE_v6, Standard_ND128isr_NDR_GB200_v6, Standard_NM16ads_MA35D.
_AZURE_NAME = re.compile(r"_([A-Z]+\d+[A-Za-z0-9]*)(?:_v\d+)?\Z")
_AZURE_N = re.compile(
    r"Standard_(?P<series>N[A-Z]+)(?P<vcpus>\d+)(?P<features>[a-z]*)(?P<rest>(?:_\w+)?)\Z"
)

# Series, features and the rest of the name: model, GiB of one, and for each number of processors
# how many accelerators and GiB of the machine. `r` and `f` are about the network.
_Sizes = Mapping[int, tuple[int | str, int]]
_K80: _Sizes = {6: (1, 56), 12: (2, 112), 24: (4, 224)}
_P: _Sizes = {6: (1, 112), 12: (2, 224), 24: (4, 448)}
_RTX_D: _Sizes = {36: ("1/4", 132), 72: ("1/2", 264), 144: (1, 516), 288: (2, 1032)}
_RTX_LD: _Sizes = {24: ("1/4", 72), 36: ("1/4", 72), 72: ("1/2", 132), 144: (1, 264), 288: (2, 516)}
_AZURE: Mapping[str, tuple[str, int | None, _Sizes]] = {
    "NC": ("K80", 12, _K80),
    "NCs_v2": ("P100", 16, _P),
    "NCs_v3": ("V100", 16, _P),
    "NCas_T4_v3": ("T4", 16, {4: (1, 28), 8: (1, 56), 16: (1, 110), 64: (4, 440)}),
    "NCads_A100_v4": ("A100", 80, {24: (1, 220), 48: (2, 440), 96: (4, 880)}),
    "NCads_H100_v5": ("H100NVL", 94, {40: (1, 320)}),
    "NCadis_H100_v5": ("H100NVL", 94, {80: (2, 640)}),
    "NCCads_H100_v5": ("H100NVL", 94, {40: (1, 320)}),
    "NCds_xl_RTXPRO6000BSE_v6": ("RTXPRO6000", 96, _RTX_D),
    "NClds_xl_RTXPRO6000BSE_v6": ("RTXPRO6000", 96, _RTX_LD),
    "NDs": ("P40", 24, _P),
    "NDs_v2": ("V100", 32, {40: (8, 672)}),
    "NDas_v4": ("A100", 40, {96: (8, 900)}),
    "NDas_A100_v4": ("A100", 40, {96: (8, 900)}),
    "NDams_A100_v4": ("A100", 80, {96: (8, 1900)}),
    "NDis_H100_v5": ("H100", 80, {96: (8, 1900)}),
    "NDis_H200_v5": ("H200", 141, {96: (8, 1850)}),
    "NDis_MI300X_v5": ("MI300X", 192, {96: (8, 1850)}),
    "NDis_NDR_GB200_v6": ("GB200", 192, {128: (4, 900)}),
    "NGads_V620_v1": ("V620", 32, {8: ("1/4", 16), 16: ("1/2", 32), 32: (1, 64)}),
    "NGadms_V620": ("V620", 32, {32: (1, 176)}),
    "NPs": ("U250FPGA", 64, {10: (1, 168), 20: (2, 336), 40: (4, 672)}),
    "NV": ("M60", 8, _K80),
    "NVs_v2": ("M60", 8, _P),
    "NVs_v3": ("M60", 8, {12: (1, 112), 24: (2, 224), 48: (4, 448)}),
    "NVas_v4": ("MI25", 16, {4: ("1/8", 14), 8: ("1/4", 28), 16: ("1/2", 56), 32: (1, 112)}),
    "NVads_A10_v5": (
        "A10",
        24,
        {6: ("1/6", 55), 12: ("1/3", 110), 18: ("1/2", 220), 36: (1, 440), 72: (2, 880)},
    ),
    "NVadms_A10_v5": ("A10", 24, {36: (1, 880)}),
    "NVads_V710_v5": ("V710", 24, {4: ("1/6", 16), 8: ("1/3", 32), 12: ("1/2", 64), 24: (1, 128)}),
    "NVadms_V710_v5": ("V710", 24, {28: (1, 160)}),
}


def _azure(size: str) -> Accelerators | None:
    match = _AZURE_N.match(size)
    if match is None:
        return None
    features = match["features"].translate(str.maketrans("", "", "rf"))
    rest = re.sub(r"_Promo\Z|_flex(?=_)|_noIB(?=_)", "", match["rest"])
    known = _AZURE.get(f"{match['series']}{features}{rest}")
    if known is None:
        return None
    model, memory, sizes = known
    vcpus = int(match["vcpus"])
    if vcpus not in sizes:
        return Accelerators(model, _decimal(memory), vcpus=Decimal(vcpus))
    count, machine = sizes[vcpus]
    part = Fraction(count)
    return Accelerators(
        model,
        _decimal(memory),
        Decimal(part.numerator) / part.denominator,
        Decimal(vcpus),
        Decimal(machine),
    )


def _decimal(number: int | None) -> Decimal | None:
    return None if number is None else Decimal(number)
