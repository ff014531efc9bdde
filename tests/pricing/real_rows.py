"""Rows of real price lists: odd sizes, machines with accelerators, placeholders, other currencies.

On demand, Linux, shared, as Azure and AWS listed them in mid 2026; figures only. Names are Azure's
without `Standard_`, each with what an hour costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from decimal import Decimal

from clustrix_prefect.pricing.price import Price, PurchaseOption
from clustrix_prefect.pricing.providers.azure import family_of

_AZURE: Mapping[str, str] = {
    "eastus": (
        "D128nds_v6 10.184 D16nds_v6 1.273 D2nds_v6 0.159 D2s_v3 0.096 D32nds_v6 2.546 "
        "D48nds_v6 3.819 D4nds_v6 0.293 D4s_v3 0.192 D64nds_v6 5.092 D8nds_v6 0.636 D96nds_v6 "
        "7.638 E16_v3 1.008 E20_v3 1.26 E2_v3 0.126 E32_v3 2.016 E48_v3 3.024 E4_v3 0.252 "
        "E64_v3 3.629 E8_v3 0.504 G1 0.55 G2 1.1 GS1 0.55 GS2 1.1 M16bds_v4 0 M16bs_v4 0 "
        "M32bds_v4 0 M32bs_v4 0 M48bds_v4 0 M48bs_v4 0 NC128ds_xl_RTXPRO6000BSE_v6 6.38 "
        "NC128lds_xl_RTXPRO6000BSE_v6 5.5 NC12_Promo 0.792 NC12s_v3 6.12 "
        "NC132ds_xl_RTXPRO6000BSE_v6 6.38 NC132lds_xl_RTXPRO6000BSE_v6 5.5 "
        "NC144ds_xl_RTXPRO6000BSE_v6 5.5 NC144lds_xl_RTXPRO6000BSE_v6 5.5 NC16as_T4_v3 1.204 "
        "NC16lds_xl_RTXPRO6000BSE_v6 1.13 NC24_Promo 1.584 NC24ads_A100_v4 3.673 "
        "NC24lds_xl_RTXPRO6000BSE_v6 1.13 NC24r_Promo 1.742 NC24rs_v3 13.46 NC24s_v3 12.24 "
        "NC256ds_xl_RTXPRO6000BSE_v6 12.76 NC256lds_xl_RTXPRO6000BSE_v6 11 "
        "NC264ds_xl_RTXPRO6000BSE_v6 12.76 NC264lds_xl_RTXPRO6000BSE_v6 11 "
        "NC288ds_xl_RTXPRO6000BSE_v6 11 NC288lds_xl_RTXPRO6000BSE_v6 11 "
        "NC320ds_xl_RTXPRO6000BSE_v6 16.588 NC320lds_xl_RTXPRO6000BSE_v6 14.3 "
        "NC324ds_xl_RTXPRO6000BSE_v6 16.588 NC324lds_xl_RTXPRO6000BSE_v6 14.3 "
        "NC32ds_xl_RTXPRO6000BSE_v6 1.442 NC32lds_xl_RTXPRO6000BSE_v6 1.243 "
        "NC36ds_xl_RTXPRO6000BSE_v6 1.442 NC36lds_xl_RTXPRO6000BSE_v6 1.243 NC40ads_H100_v5 "
        "6.98 NC48ads_A100_v4 7.346 NC4as_T4_v3 0.526 NC64as_T4_v3 4.352 "
        "NC64ds_xl_RTXPRO6000BSE_v6 2.83 NC64lds_xl_RTXPRO6000BSE_v6 2.44 NC6_Promo 0.396 "
        "NC6s_v3 3.06 NC72ds_xl_RTXPRO6000BSE_v6 2.83 NC72lds_xl_RTXPRO6000BSE_v6 2.44 "
        "NC80adis_H100_v5 13.96 NC8as_T4_v3 0.752 NC8lds_xl_RTXPRO6000BSE_v6 0.55 "
        "NC96ads_A100_v4 14.692 ND128isr_NDR_GB200_v6 108.16 ND40rs_v2 22.032 ND40s_v2 12.24 "
        "ND96ams_A100_v4 32.77 ND96amsr_A100_v4 32.77 ND96asr_A100_v4 27.197 ND96asr_v4 "
        "27.197 ND96is_H100_v5 88.488 ND96is_flex_H100_v5 88.488 ND96is_noIB_H100_v5 88.488 "
        "ND96isr_H100_v5 98.32 ND96isrf_H100_v5 98.32 NP10s 1.65 NP20s 3.3 NP40s 6.6 "
        "NV12_Promo 1.368 NV12ads_A10_v5 0.908 NV12ads_V710_v5 1 NV12s_v3 1.14 NV16as_v4 "
        "0.932 NV18ads_A10_v5 1.6 NV24_Promo 2.736 NV24ads_V710_v5 2 NV24s_v3 2.28 "
        "NV28adms_V710_v5 2.4 NV32as_v4 1.864 NV36adms_A10_v5 4.52 NV36ads_A10_v5 3.2 "
        "NV48s_v3 4.56 NV4ads_V710_v5 0.333 NV4as_v4 0.233 NV6_Promo 0.684 NV6ads_A10_v5 "
        "0.454 NV72ads_A10_v5 6.52 NV8ads_V710_v5 0.667 NV8as_v4 0.466 "
    ),
    "westeurope": (
        "E16_v3 1.28 E16s_v3 1.28 E20_v3 1.6 E20s_v3 1.6 E2_v3 0.16 E2s_v3 0.16 E32_v3 2.56 "
        "E32s_v3 2.56 E48_v3 3.647 E48s_v3 3.647 E4_v3 0.32 E4s_v3 0.32 E64_v3 4.376 E64s_v3 "
        "4.376 E8_v3 0.64 E8s_v3 0.64 G1 0.7 G2 1.4 G3 2.8 G4 5.6 G5 9.99 NC12_Promo 1.03 "
        "NC12s_v3 7.646 NC132ds_xl_RTXPRO6000BSE_v6 9.129 NC132lds_xl_RTXPRO6000BSE_v6 7.87 "
        "NC144ds_xl_RTXPRO6000BSE_v6 7.87 NC144lds_xl_RTXPRO6000BSE_v6 7.87 NC16ads_A10_v4 "
        "2.86 NC16as_T4_v3 1.505 NC24_Promo 2.059 NC24ads_A100_v4 4.775 "
        "NC24lds_xl_RTXPRO6000BSE_v6 1.617 NC24r_Promo 2.265 NC24rs_v3 16.821 NC24s_v3 15.292 "
        "NC264ds_xl_RTXPRO6000BSE_v6 18.258 NC264lds_xl_RTXPRO6000BSE_v6 15.74 "
        "NC288ds_xl_RTXPRO6000BSE_v6 15.74 NC288lds_xl_RTXPRO6000BSE_v6 15.74 "
        "NC324ds_xl_RTXPRO6000BSE_v6 23.736 NC324lds_xl_RTXPRO6000BSE_v6 20.462 "
        "NC32ads_A10_v4 5.72 NC36ds_xl_RTXPRO6000BSE_v6 2.063 NC36lds_xl_RTXPRO6000BSE_v6 "
        "1.779 NC40ads_H100_v5 9.08 NC48ads_A100_v4 9.55 NC4as_T4_v3 0.658 NC64as_T4_v3 5.44 "
        "NC6_Promo 0.515 NC6s_v3 3.823 NC72ds_xl_RTXPRO6000BSE_v6 4.05 "
        "NC72lds_xl_RTXPRO6000BSE_v6 3.491 NC80adis_H100_v5 18.16 NC8ads_A10_v4 1.43 "
        "NC8as_T4_v3 0.94 NC96ads_A100_v4 19.1 NCC40ads_H100_v5 10.74 ND40rs_v2 27.526 "
        "ND40s_v2 18.03 ND96ams_A100_v4 40.962 ND96amsr_A100_v4 40.962 ND96asr_A100_v4 35.357 "
        "ND96asr_v4 35.357 ND96is_H100_v5 115.034 ND96is_flex_H100_v5 115.034 "
        "ND96is_noIB_H100_v5 115.034 ND96isr_H100_v5 127.816 NG16ads_V620_v1 1.651 "
        "NG32adms_V620 4.293 NG32ads_V620_v1 3.302 NG8ads_V620_v1 0.826 NP10s 2.145 NP20s "
        "4.29 NP40s 8.58 NV12_Promo 1.639 NV12ads_A10_v5 1.18 NV12ads_V710_v5 1.3 NV12s_v3 "
        "1.426 NV16as_v4 1.165 NV18ads_A10_v5 2.08 NV24_Promo 3.278 NV24ads_V710_v5 2.6 "
        "NV24s_v3 2.85 NV28adms_V710_v5 3.12 NV32as_v4 2.33 NV36adms_A10_v5 5.876 "
        "NV36ads_A10_v5 4.16 NV48s_v3 5.7 NV4ads_V710_v5 0.433 NV4as_v4 0.291 NV6_Promo 0.819 "
        "NV6ads_A10_v5 0.59 NV72ads_A10_v5 8.476 NV8ads_V710_v5 0.867 NV8as_v4 0.582 "
    ),
    "southcentralus": (
        "E16_v3 1.166 E20_v3 1.46 E2_v3 0.146 E32_v3 2.333 E48_v3 3.499 E4_v3 0.292 E64_v3 "
        "4.199 E8_v3 0.583 NC12_Promo 0.95 NC12s_v3 6.732 NC132ds_xl_RTXPRO6000BSE_v6 7.656 "
        "NC132lds_xl_RTXPRO6000BSE_v6 6.6 NC144ds_xl_RTXPRO6000BSE_v6 6.6 "
        "NC144lds_xl_RTXPRO6000BSE_v6 6.6 NC16ads_A10_v4 2.64 NC16as_T4_v3 1.445 NC24_Promo "
        "1.901 NC24ads_A100_v4 4.408 NC24lds_xl_RTXPRO6000BSE_v6 1.356 NC24r_Promo 2.091 "
        "NC24rs_v3 14.8104 NC24s_v3 13.464 NC264ds_xl_RTXPRO6000BSE_v6 15.312 "
        "NC264lds_xl_RTXPRO6000BSE_v6 13.2 NC288ds_xl_RTXPRO6000BSE_v6 13.2 "
        "NC288lds_xl_RTXPRO6000BSE_v6 13.2 NC324ds_xl_RTXPRO6000BSE_v6 19.906 "
        "NC324lds_xl_RTXPRO6000BSE_v6 17.16 NC32ads_A10_v4 5.28 NC36ds_xl_RTXPRO6000BSE_v6 "
        "1.73 NC36lds_xl_RTXPRO6000BSE_v6 1.492 NC40ads_H100_v5 8.38 NC48ads_A100_v4 8.815 "
        "NC4as_T4_v3 0.631 NC64as_T4_v3 5.222 NC6_Promo 0.475 NC6s_v3 3.366 "
        "NC72ds_xl_RTXPRO6000BSE_v6 3.396 NC72lds_xl_RTXPRO6000BSE_v6 2.928 NC80adis_H100_v5 "
        "16.76 NC8ads_A10_v4 1.32 NC8as_T4_v3 0.902 NC96ads_A100_v4 17.63 NCC40ads_H100_v5 "
        "9.73 ND40rs_v2 26.438 ND40s_v2 14.688 ND96ams_A100_v4 39.324 ND96amsr_A100_v4 39.324 "
        "ND96asr_A100_v4 32.63 ND96asr_v4 32.63 ND96is_H100_v5 106.171 ND96is_flex_H100_v5 "
        "106.186 ND96is_noIB_H100_v5 106.171 ND96isr_H100_v5 117.968 NP10s 1.98 NP20s 3.96 "
        "NP40s 7.92 NV12_Promo 1.38 NV12ads_A10_v5 1.09 NV12ads_V710_v5 1.2 NV12s_v2 1.368 "
        "NV12s_v3 1.368 NV16as_v4 1.118 NV18ads_A10_v5 1.92 NV24_Promo 2.76 NV24ads_V710_v5 "
        "2.4 NV24s_v2 2.736 NV24s_v3 2.736 NV28adms_V710_v5 2.88 NV32as_v4 2.237 "
        "NV36adms_A10_v5 5.424 NV36ads_A10_v5 3.84 NV48s_v3 5.472 NV4ads_V710_v5 0.4 NV4as_v4 "
        "0.28 NV6_Promo 0.69 NV6ads_A10_v5 0.545 NV6s_v2 0.684 NV72ads_A10_v5 7.824 "
        "NV8ads_V710_v5 0.8 NV8as_v4 0.559 "
    ),
    "centralindia": (
        "NC12s_v3 8.468 NC16as_T4_v3 1.324 NC24ads_A100_v4 5.142 NC24rs_v3 18.63 NC24s_v3 "
        "16.936 NC40ads_H100_v5 9.772 NC48ads_A100_v4 10.284 NC4as_T4_v3 0.579 NC64as_T4_v3 "
        "4.787 NC6s_v3 4.234 NC80adis_H100_v5 19.544 NC8as_T4_v3 0.827 NC96ads_A100_v4 20.569 "
        "NV12_Promo 2.062 NV12ads_A10_v5 1.271 NV12s_v3 1.596 NV16as_v4 1.305 NV18ads_A10_v5 "
        "2.24 NV24_Promo 4.123 NV24s_v3 3.192 NV32as_v4 2.61 NV36adms_A10_v5 6.328 "
        "NV36ads_A10_v5 4.48 NV48s_v3 6.384 NV4as_v4 0.326 NV6_Promo 1.031 NV6ads_A10_v5 "
        "0.636 NV72ads_A10_v5 9.128 NV8as_v4 0.652 "
    ),
    "brazilsoutheast": (
        "D128nds_v6 26.478 D16nds_v6 3.31 D2nds_v6 0.414 D32nds_v6 6.619 D48nds_v6 9.929 "
        "D4nds_v6 0.762 D64nds_v6 13.239 D8nds_v6 1.655 D96nds_v6 19.858 E16s_v3 2.444 "
        "E20s_v3 3.64 E2s_v3 0.306 E32s_v3 4.888 E48s_v3 7.332 E4s_v3 0.611 E64s_v3 8.798 "
        "E8s_v3 1.222 "
    ),
    "westus": (
        "E16s_v3 1.12 E20s_v3 1.48 E2s_v3 0.148 E32s_v3 2.24 E48s_v3 3.36 E4s_v3 0.296 "
        "E64s_v3 4.032 E8s_v3 0.56 "
    ),
    "uaenorth": (
        "E16_v3 1.21 E20_v3 1.6 E2_v3 0.151 E32_v3 2.419 E48_v3 3.629 E4_v3 0.302 E64_v3 "
        "4.355 E8_v3 0.605 F16s_v2 0.845 F2s_v2 0.106 F32s_v2 1.69 F48s_v2 2.534 F4s_v2 0.211 "
        "F64s_v2 3.38 F72s_v2 3.672 F8s_v2 0.422 "
    ),
    "spaincentral": (
        "L112ias_v3 0 L16as_v3 0 L32as_v3 0 L48as_v3 0 L64as_v3 0 L80as_v3 0 L8as_v3 0 L96ias_v3 0 "
    ),
}
_AWS: Mapping[str, str] = {
    "us-gov-west-1": (
        "f1.16xlarge 15.84 f1.2xlarge 1.98 f1.4xlarge 3.96 g3.16xlarge 5.28 g3.4xlarge 1.32 "
        "g3.8xlarge 2.64 g3s.xlarge 0.868 g4dn.12xlarge 4.931 g4dn.16xlarge 5.486 "
        "g4dn.2xlarge 0.948 g4dn.4xlarge 1.518 g4dn.8xlarge 2.743 g4dn.metal 9.862 "
        "g4dn.xlarge 0.663 g6.12xlarge 5.80003 g6.16xlarge 4.28145 g6.24xlarge 8.41367 "
        "g6.2xlarge 1.2322 g6.48xlarge 16.82734 g6.4xlarge 1.66781 g6.8xlarge 2.53903 "
        "g6.xlarge 1.0144 gr6.4xlarge 1.9401 gr6.8xlarge 3.08359 inf1.24xlarge 5.953 "
        "inf1.2xlarge 0.456 inf1.6xlarge 1.488 inf1.xlarge 0.288 m5.12xlarge 2.904 "
        "m5.16xlarge 3.872 m5.24xlarge 5.808 m5.2xlarge 0.484 m5.4xlarge 0.968 m5.8xlarge "
        "1.936 m5.large 0.121 m5.metal 5.808 m5.xlarge 0.242 p2.16xlarge 17.28 p2.8xlarge "
        "8.64 p2.xlarge 1.08 p3.16xlarge 29.376 p3.2xlarge 3.672 p3.8xlarge 14.688 "
        "p3dn.24xlarge 37.454 p4d.24xlarge 26.3511 p5.48xlarge 66.048 p5.4xlarge 8.256 "
        "p5en.48xlarge 75.9552 p6-b200.48xlarge 136.71936 u-12tb1.112xlarge 130.867 "
        "u-24tb1.112xlarge 261.73 u-3tb1.56xlarge 32.7165 u-6tb1.112xlarge 65.433 "
        "u-6tb1.56xlarge 55.61075 u-9tb1.112xlarge 98.15 u7i-12tb.224xlarge 150.49696 "
        "u7i-6tb.112xlarge 75.24795 u7i-8tb.112xlarge 100.33111 u7in-16tb.224xlarge 216.28384 "
        "u7in-24tb.224xlarge 324.44368 x8i.12xlarge 6.3024 x8i.16xlarge 8.4032 x8i.24xlarge "
        "12.6048 x8i.2xlarge 1.0504 x8i.32xlarge 16.8064 x8i.48xlarge 25.2096 x8i.4xlarge "
        "2.1008 x8i.64xlarge 33.6128 x8i.8xlarge 4.2016 x8i.96xlarge 58.36285 x8i.large "
        "0.2626 x8i.xlarge 0.5252 "
    ),
    "cn-north-1": (
        "g4dn.12xlarge 38.849 g4dn.16xlarge 43.218 g4dn.2xlarge 7.468 g4dn.4xlarge 11.956 "
        "g4dn.8xlarge 21.609 g4dn.xlarge 5.223 g5.12xlarge 53.64092 g5.16xlarge 38.73646 "
        "g5.24xlarge 77.01898 g5.2xlarge 11.46206 g5.48xlarge 154.03795 g5.4xlarge 15.3584 "
        "g5.8xlarge 23.15109 g5.xlarge 9.51389 inf1.24xlarge 47.342 inf1.2xlarge 3.63 "
        "inf1.6xlarge 11.835 inf1.xlarge 2.288 m5.12xlarge 24.317 m5.16xlarge 32.423 "
        "m5.24xlarge 48.634 m5.2xlarge 4.053 m5.4xlarge 8.106 m5.8xlarge 16.211 m5.large "
        "1.013 m5.metal 48.634 m5.xlarge 2.026 m5a.12xlarge 21.852 m5a.16xlarge 29.137 "
        "m5a.24xlarge 43.705 m5a.2xlarge 3.642 m5a.4xlarge 7.284 m5a.8xlarge 14.568 m5a.large "
        "0.911 m5a.xlarge 1.821 m5d.12xlarge 30.561 m5d.16xlarge 40.747 m5d.24xlarge 61.121 "
        "m5d.2xlarge 5.093 m5d.4xlarge 10.187 m5d.8xlarge 20.374 m5d.large 1.273 m5d.metal "
        "61.121 m5d.xlarge 2.547 p3.16xlarge 288.627 p3.2xlarge 36.078 p3.8xlarge 144.314 "
        "t2.2xlarge 3.392 t2.large 0.851 t2.medium 0.426 t2.micro 0.106 t2.nano 0.0606 "
        "t2.small 0.212 t2.xlarge 1.696 u-12tb1.112xlarge 1074.68508 u-6tb1.112xlarge "
        "537.34254 u-6tb1.56xlarge 456.68119 u-9tb1.112xlarge 805.97958 "
    ),
}


def amounts(provider: str) -> dict[str, dict[str, Decimal]]:
    """For each region the types, and what they cost."""
    rows, prefix = (_AWS, "") if provider == "aws" else (_AZURE, "Standard_")
    found: dict[str, dict[str, Decimal]] = {}
    for region, text in rows.items():
        words = text.split()
        pairs = zip(words[::2], words[1::2], strict=True)
        found[region] = {prefix + name: Decimal(amount) for name, amount in pairs}
    return found


def prices(provider: str, region: str) -> list[Price]:
    """The rows of a region as prices."""
    currency = "CNY" if region.startswith("cn-") else "USD"
    return [
        Price(
            provider=provider,
            region=region,
            instance_type=name,
            family=name.partition(".")[0] if provider == "aws" else family_of(name),
            operating_system="Linux",
            tenancy="Shared" if provider == "aws" else None,
            purchase_option=PurchaseOption.ON_DEMAND,
            hourly=amount,
            currency=currency,
            amount=amount,
            unit="1 Hour",
            source="https://prices.example",
            fetched_at=datetime.now(timezone.utc),
        )
        for name, amount in amounts(provider)[region].items()
    ]
