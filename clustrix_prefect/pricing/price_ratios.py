"""What machines with accelerators cost beside each other: the shape of their families.

Prices of other machines grow with their size. Those of machines with accelerators do not: there
are so many of them, so many processors, disks and networks. But the ratios are the same, to 1 %,
in all regions that were looked at (33 of AWS in three partitions, 21 of Azure; 2026-11), and have
been since the families came out. Only the ratios are used, never an amount.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from clustrix_prefect.pricing.accelerators import accelerators_of


@lru_cache(maxsize=65536)
def family_and_weight(provider: str, instance_type: str) -> tuple[str, float] | None:
    """The family of a machine with accelerators, and what it costs beside the others of that.

    `None` if that is not known.
    """
    if provider == "aws":
        return _aws(instance_type)
    return _azure(instance_type) if provider == "azure" else None


# --- AWS ------------------------------------------------------------------------------------

# Several families may be priced as one.
_G6 = {"4xlarge": 1.3232, "8xlarge": 2.0144, "12xlarge": 4.6016, "16xlarge": 3.3968}
_AWS_WEIGHTS: Mapping[str, tuple[str, Mapping[str, float]]] = {
    "g3": ("g3", {"4xlarge": 1.14, "8xlarge": 2.28, "16xlarge": 4.56}),
    "g4ad": (
        "g4ad",
        {
            "xlarge": 0.37853,
            "2xlarge": 0.54117,
            "4xlarge": 0.867,
            "8xlarge": 1.734,
            "16xlarge": 3.468,
        },
    ),
    "g4dn": (
        "g4dn",
        {
            "xlarge": 0.526,
            "2xlarge": 0.752,
            "4xlarge": 1.204,
            "8xlarge": 2.176,
            "12xlarge": 3.912,
            "16xlarge": 4.352,
            "metal": 7.824,
        },
    ),
    "g5": (
        "g5",
        {
            "xlarge": 1.006,
            "2xlarge": 1.212,
            "4xlarge": 1.624,
            "8xlarge": 2.448,
            "12xlarge": 5.672,
            "16xlarge": 4.096,
            "24xlarge": 8.144,
            "48xlarge": 16.288,
        },
    ),
    "g5g": (
        "g5g",
        {
            "xlarge": 0.42,
            "2xlarge": 0.556,
            "4xlarge": 0.828,
            "8xlarge": 1.372,
            "16xlarge": 2.744,
            "metal": 2.744,
        },
    ),
    "g6": (
        "g6",
        {"xlarge": 0.8048, "2xlarge": 0.9776, **_G6, "24xlarge": 6.6752, "48xlarge": 13.3504},
    ),
    "g6e": (
        "g6e",
        {
            "xlarge": 1.861,
            "2xlarge": 2.24208,
            "4xlarge": 3.00424,
            "8xlarge": 4.52856,
            "12xlarge": 10.49264,
            "16xlarge": 7.57719,
            "24xlarge": 15.06559,
            "48xlarge": 30.13118,
        },
    ),
    "gr6": ("gr6", {"4xlarge": 1.5392, "8xlarge": 2.4464}),
    "inf1": ("inf1", {"xlarge": 0.228, "2xlarge": 0.362, "6xlarge": 1.18, "24xlarge": 4.721}),
    "inf2": (
        "inf2",
        {"xlarge": 0.7582, "8xlarge": 1.96786, "24xlarge": 6.49063, "48xlarge": 12.98127},
    ),
    "p3": ("p3", {"2xlarge": 3.06, "8xlarge": 12.24, "16xlarge": 24.48}),
    "p3dn": ("p3", {"24xlarge": 31.212}),
}
# Others are priced by the accelerator, whatever is around it: training chips, FPGAs, some GPUs.
_BY_THE_ACCELERATOR = re.compile(r"p\d|trn|dl|f\d|vt|g2\Z|g3\Z")


def _aws(instance_type: str) -> tuple[str, float] | None:
    family, _, size = instance_type.partition(".")
    if family in _AWS_WEIGHTS:
        group, weights = _AWS_WEIGHTS[family]
        return (group, weights[size]) if size in weights else None
    found = accelerators_of("aws", instance_type)
    if found is None or found.count is None or not _BY_THE_ACCELERATOR.match(family):
        return None
    return family, float(found.count)


# --- Azure ----------------------------------------------------------------------------------

_AZURE = re.compile(r"Standard_(?P<series>N[A-Z]+)(?P<vcpus>\d+)(?P<rest>\w*)\Z")
_RTX = "NC RTXPRO6000BSE v6"
# Series and features: family, and the weight of each number of processors.
_AZURE_WEIGHTS: Mapping[str, tuple[str, Mapping[int, float]]] = {
    "NCas_T4_v3": ("NC T4 v3", {4: 0.526, 8: 0.752, 16: 1.204, 64: 4.352}),
    "NCs_v3": ("NC v3", {6: 1, 12: 2, 24: 4}),
    "NCrs_v3": ("NC v3", {24: 4.4}),
    "NC_Promo": ("NC Promo", {6: 1, 12: 2, 24: 4}),
    "NCr_Promo": ("NC Promo", {24: 4.4}),
    "NCads_H100_v5": ("NC H100 v5", {40: 1}),
    "NCadis_H100_v5": ("NC H100 v5", {80: 2}),
    "NCds_xl_RTXPRO6000BSE_v6": (
        _RTX,
        {
            32: 1.442,
            36: 1.442,
            64: 2.83,
            72: 2.83,
            128: 6.38,
            132: 6.38,
            144: 5.5,
            256: 12.76,
            264: 12.76,
            288: 11.0,
            320: 16.588,
            324: 16.588,
        },
    ),
    "NClds_xl_RTXPRO6000BSE_v6": (
        _RTX,
        {
            16: 1.13,
            24: 1.13,
            32: 1.243,
            36: 1.243,
            64: 2.44,
            72: 2.44,
            128: 5.5,
            132: 5.5,
            144: 5.5,
            256: 11.0,
            264: 11.0,
            288: 11.0,
            320: 14.3,
            324: 14.3,
        },
    ),
    "NDasr_v4": ("ND A100 v4", {96: 1}),
    "NDasr_A100_v4": ("ND A100 v4", {96: 1}),
    "NDams_A100_v4": ("NDm A100 v4", {96: 1}),
    "NDamsr_A100_v4": ("NDm A100 v4", {96: 1}),
    "NDis_H100_v5": ("ND H100 v5", {96: 0.9}),
    "NDis_flex_H100_v5": ("ND H100 v5", {96: 0.9}),
    "NDis_noIB_H100_v5": ("ND H100 v5", {96: 0.9}),
    "NDisf_H100_v5": ("ND H100 v5", {96: 0.9}),
    "NDisr_H100_v5": ("ND H100 v5", {96: 1}),
    "NDis_MI300X_v5": ("ND MI300X v5", {96: 1}),
    "NDisr_MI300X_v5": ("ND MI300X v5", {96: 1}),
    "NDisr_NDR_GB200_v6": ("ND GB200 v6", {128: 1}),
    "NDisrf_NDR_GB200_v6": ("ND GB200 v6", {128: 1}),
    "NVads_A10_v5": ("NV A10 v5", {6: 0.454, 12: 0.908, 18: 1.6, 36: 3.2, 72: 6.52}),
    "NVadms_A10_v5": ("NV A10 v5", {36: 4.52}),
    "NVadms_V710_v5": ("NV V710 v5", {28: 28.8}),
}
# Of these the price grows with the processors, as the accelerators do.
_AZURE_EVENLY: Mapping[str, str] = {
    "NCads_A100_v4": "NC A100 v4",
    "NCads_A10_v4": "NC A10 v4",
    "NGads_V620_v1": "NG V620",
    "NPs": "NP",
    "NV_Promo": "NV Promo",
    "NVs_v2": "NV v2",
    "NVs_v3": "NV v3",
    "NVas_v4": "NV v4",
    "NVads_V710_v5": "NV V710 v5",
}


def _azure(instance_type: str) -> tuple[str, float] | None:
    match = _AZURE.match(instance_type)
    if match is None:
        return None
    name, vcpus = f"{match['series']}{match['rest']}", int(match["vcpus"])
    if name in _AZURE_EVENLY:
        return _AZURE_EVENLY[name], float(vcpus)
    family, weights = _AZURE_WEIGHTS.get(name, ("", {}))
    return (family, float(weights[vcpus])) if vcpus in weights else None
