"""Every block type of this package; what Prefect loads as its collection.

A server in whose environment this package is installed then offers them in its UI.
"""

from __future__ import annotations

from prefect.blocks.core import Block

from clustrix_prefect.clusters import SSHCredentials
from clustrix_prefect.clusters.loading import CLUSTER_TYPES
from clustrix_prefect.credentials import OnePasswordCLI, OnePasswordConnect
from clustrix_prefect.pricing.blocks import PricingBaseline, PricingCredentials

BLOCK_TYPES: tuple[type[Block], ...] = (
    *CLUSTER_TYPES,
    SSHCredentials,
    OnePasswordConnect,
    OnePasswordCLI,
    PricingBaseline,
    PricingCredentials,
)
