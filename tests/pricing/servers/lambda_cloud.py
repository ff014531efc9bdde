"""Lambda's Cloud API, after https://docs-api.lambda.ai/api/cloud (version 1.10).

One list of instance types, an object with their names as keys; a key in `Authorization`, as
Bearer or as Basic; one request a second.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from typing import Any

from tests.pricing.servers.faults import CONNECTION_FAULTS, Fault
from tests.pricing.servers.tls import Reply, Request, TLSServer

KEY = "secret_lambda-key-for-tests_0123456789"

# Name, description of the GPU, cents an hour, processors, GiB, GiB on disks, GPUs.
TYPES: tuple[tuple[str, str, int, int, int, int, int], ...] = (
    ("gpu_1x_a10", "A10 (24 GB PCIe)", 75, 30, 200, 1400, 1),
    ("gpu_1x_a6000", "A6000 (48 GB)", 109, 14, 100, 512, 1),
    ("gpu_2x_a6000", "A6000 (48 GB)", 218, 28, 200, 1024, 2),
    ("gpu_4x_a6000", "A6000 (48 GB)", 436, 56, 400, 2048, 4),
    ("gpu_1x_a100_sxm4", "A100 (40 GB SXM4)", 148, 30, 220, 512, 1),
    ("gpu_8x_a100_80gb_sxm4", "A100 (80 GB SXM4)", 1592, 240, 1800, 20480, 8),
    ("gpu_1x_h100_pcie", "H100 (80 GB PCIe)", 249, 26, 225, 1024, 1),
    ("gpu_1x_h100_sxm5", "H100 (80 GB SXM5)", 329, 26, 225, 2816, 1),
    ("gpu_8x_h100_sxm5", "H100 (80 GB SXM5)", 2392, 208, 1800, 22528, 8),
    ("gpu_1x_gh200", "GH200 (96 GB)", 149, 64, 432, 4096, 1),
    ("gpu_8x_b200_sxm6", "B200 (180 GB SXM6)", 3992, 208, 2900, 22528, 8),
)
_REGIONS = {"us-west-1": "California, USA", "us-east-1": "Virginia, USA"}
_SOLD_OUT = ("gpu_8x_b200_sxm6", "gpu_1x_a100_sxm4")
_HIT = "gpu_2x_a6000"  # whom most faults of the numbers befall
_BASIC = "Basic " + base64.b64encode(f"{KEY}:".encode()).decode()


class LambdaServer(TLSServer):
    """Lambda's API; its endpoint is `url` + "/api/v1".

    Attributes:
        interval: Seconds that must lie between two requests; sooner ones get 429.
    """

    FAULTS = CONNECTION_FAULTS | {
        Fault.EXPIRED_TOKEN,
        Fault.FORBIDDEN,
        Fault.TRUNCATED_PAGE,
        Fault.OBJECTS,
        Fault.RENAMED_KEY,
        Fault.DUPLICATE_IDS,
        Fault.ZERO_PRICE,
        Fault.MISSING_PRICE,
        Fault.INFLATED,
        Fault.WRONG_UNIT,
        Fault.CHEAP_GPU,
        Fault.TYPE_DROPPED,
    }
    NOT_APPLICABLE = {  # noqa: RUF012 - never changed
        Fault.LOOP: "the list is one document, without pages",
        Fault.LOOP_CHANGING_TOKENS: "the list is one document, without pages",
        Fault.WINDOWS_AS_LINUX: "no Windows is sold",
        Fault.SPOT_SWAPPED: "no spot machines are sold",
        Fault.OTHER_CURRENCY: "the document names no currency; the API's documents say US cents",
        Fault.REGION_DROPPED: "prices have no region; the regions listed say what is in stock",
    }

    def __init__(self, interval: float = 1.0) -> None:
        super().__init__()
        self.interval = interval
        self._last = -1e9

    @property
    def endpoint(self) -> str:
        """What to give to a client as the API's address."""
        return f"{self.url}/api/v1"

    def throttled(self) -> Reply:
        return _error(429, "global/rate-limit-exceeded", "Slow down.", Retry_After="1")

    def answer(self, request: Request) -> Reply:
        now, before = time.monotonic(), self._last
        self._last = now
        # A request may be a little longer on its way than the one before it.
        if now - before < self.interval - 0.05:
            return self.throttled()
        if self.fault is Fault.EXPIRED_TOKEN or request.header("Authorization") not in (
            f"Bearer {KEY}",
            _BASIC,
        ):
            return _error(
                401, "global/invalid-api-key", "API key was invalid, expired, or deleted."
            )
        if self.fault is Fault.FORBIDDEN:
            return _error(403, "global/account-inactive", "Your account is inactive.")
        if request.path == "/api/v1/images":
            return Reply.json({"data": [{"region": region} for region in _regions()]})
        if request.path != "/api/v1/instance-types":
            return _error(404, "global/object-does-not-exist", "Specified object does not exist.")
        return self._types()

    def _types(self) -> Reply:
        types = dict(self._spoilt())
        if self.fault is Fault.TRUNCATED_PAGE:
            types = dict(list(types.items())[: len(types) // 2])
        if self.fault is Fault.OBJECTS:
            return Reply.json({"data": list(types.values())})
        return Reply.json({"instance_types" if self.fault is Fault.RENAMED_KEY else "data": types})

    def _spoilt(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for name, gpu, cents, *specs in TYPES:
            hit = name == _HIT
            if self.fault is Fault.TYPE_DROPPED and name == "gpu_1x_h100_sxm5":
                continue
            if self.fault is Fault.ZERO_PRICE and hit:
                cents = 0
            if self.fault is Fault.INFLATED and hit:
                cents = round(cents * 1.10)
            if self.fault is Fault.WRONG_UNIT and hit:
                cents *= 730
            if self.fault is Fault.CHEAP_GPU and name == "gpu_1x_h100_sxm5":
                cents = 1
            entry = _entry(name, gpu, cents, *specs)
            if self.fault is Fault.MISSING_PRICE and hit:
                entry["instance_type"]["price_cents_per_hour"] = None
            yield name, entry
            if self.fault is Fault.DUPLICATE_IDS and hit:
                yield f"{name}_2", _entry(name, gpu, cents * 2, *specs)


def _entry(
    name: str, gpu: str, cents: int, vcpus: int, memory: int, storage: int, gpus: int
) -> dict[str, Any]:
    return {
        "instance_type": {
            "name": name,
            "description": f"{gpus}x {gpu}",
            "gpu_description": gpu,
            "price_cents_per_hour": cents,
            "specs": {
                "vcpus": vcpus,
                "memory_gib": memory,
                "storage_gib": storage,
                "gpus": gpus,
            },
        },
        # None: sold out.
        "regions_with_capacity_available": [] if name in _SOLD_OUT else list(_regions()),
    }


def _regions() -> Iterator[dict[str, str]]:
    for name, description in _REGIONS.items():
        yield {"name": name, "description": description}


def _error(status: int, code: str, message: str, **headers: str) -> Reply:
    return Reply.json({"error": {"code": code, "message": message}}, status, **headers)
