"""What Google's machine types are made of, and how the price list names the parts."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib.resources import files

SERIES: Mapping[str, str] = {
    "A2 Instance": "a2",
    "A3 Instance": "a3",
    "A3Plus Instance": "a3plus",
    "C2D AMD Instance": "c2d",
    "C3 Instance": "c3",
    "C3D Instance": "c3d",
    "C4 Instance": "c4",
    "C4A Arm Instance": "c4a",
    "C4A Instance": "c4a",
    "C4D Instance": "c4d",
    "C4N Instance": "c4n",
    "Compute optimized": "c2",
    "Compute optimized Instance": "c2",
    "E2 Instance": "e2",
    "G2 Instance": "g2",
    "G4 Instance": "g4",
    "H3 Instance": "h3",
    "M3 Memory-optimized Instance": "m3",
    "M4 Instance": "m4",
    "Memory-optimized Instance": "m1",
    "N1 Predefined Instance": "n1",
    "N2 Instance": "n2",
    "N2D AMD Instance": "n2d",
    "N4 Instance": "n4",
    "N4A Instance": "n4a",
    "N4D Instance": "n4d",
    "T2A Arm Instance": "t2a",
    "T2D AMD Instance": "t2d",
    "Z3 Instance": "z3",
}
"""The price list's name of a series, before ` Core running in` or ` Ram running in`.

Whatever has another name is something else: custom machines, sole tenancy, premiums.
"""

OWN_DISKS = frozenset({"c4", "c4a", "c4d", "z3"})
"""Series whose local disks have a price of their own, as `C4D Instance Local SSD running in`."""


@dataclass(frozen=True, slots=True)
class MachineType:
    """What a machine type is made of; `gpu` is the price list's name of the accelerator."""

    name: str
    series: str
    vcpus: Decimal
    memory_gib: Decimal
    gpus: int
    gpu: str
    gpu_memory_gib: Decimal | None
    local_ssd_gib: Decimal


@cache
def machine_types() -> tuple[MachineType, ...]:
    """Return all types of `machine_types.csv`, which says where they are from."""
    text = files(__name__).joinpath("machine_types.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return tuple(
        MachineType(
            name=row["type"],
            series=row["series"],
            vcpus=Decimal(row["vcpus"]),
            memory_gib=Decimal(row["memory_gib"]),
            gpus=int(row["gpus"]),
            gpu=row["gpu"],
            gpu_memory_gib=Decimal(row["gpu_memory_gib"]) if row["gpu_memory_gib"] else None,
            local_ssd_gib=Decimal(row["local_ssd_gib"]),
        )
        for row in rows
    )
