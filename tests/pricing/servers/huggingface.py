"""The Hub's lists of hardware, `/api/spaces/hardware` and `/api/jobs/hardware`.

After https://huggingface.co/docs/hub/jobs-pricing (the dollars an hour), the Hub's OpenAPI
document (the rows) and https://huggingface.co/docs/hub/rate-limits (the headers).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.pricing.servers.faults import CONNECTION_FAULTS, Fault
from tests.pricing.servers.tls import Reply, Request, TLSServer

TOKEN = "hf_TokenForTests0123456789"

# Name, what it is called, processors, GB, accelerator (model, how many, GB of all), and
# millionths of a dollar a minute. 6667 is $0.40 an hour.
HARDWARE: tuple[tuple[str, str, int, int, tuple[str, int, int] | None, int], ...] = (
    ("cpu-basic", "CPU Basic", 2, 16, None, 167),
    ("cpu-upgrade", "CPU Upgrade", 8, 32, None, 500),
    ("cpu-xl", "CPU XL", 16, 124, None, 16667),
    ("t4-small", "Nvidia T4 - small", 4, 15, ("T4", 1, 16), 6667),
    ("t4-medium", "Nvidia T4 - medium", 8, 30, ("T4", 1, 16), 10000),
    ("l4x1", "1x Nvidia L4", 8, 30, ("L4", 1, 24), 13333),
    ("l4x4", "4x Nvidia L4", 48, 186, ("L4", 4, 96), 63333),
    ("a10g-small", "Nvidia A10G - small", 4, 15, ("A10G", 1, 24), 16667),
    ("a10g-largex2", "2x Nvidia A10G - large", 24, 92, ("A10G", 2, 48), 50000),
    ("a100-large", "Nvidia A100 - large", 12, 142, ("A100", 1, 80), 41667),
    ("h200x8", "8x Nvidia H200", 184, 2048, ("H200", 8, 1128), 666667),
)
# Of Spaces alone, and free: shared accelerators, by the call.
_ZERO = ("zero-a10g", "ZeroGPU", 14, 112, ("A10G", 1, 24), 0)
_HIT = "t4-medium"  # whom most faults of the numbers befall


class HuggingFaceServer(TLSServer):
    """The Hub; its endpoint is `url`."""

    FAULTS = CONNECTION_FAULTS | {
        Fault.EXPIRED_TOKEN,  # seen by those who send a token
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
        Fault.FORBIDDEN: "the lists are public: a token is good or it is not",
        Fault.LOOP: "each list is one document, without pages",
        Fault.LOOP_CHANGING_TOKENS: "each list is one document, without pages",
        Fault.WINDOWS_AS_LINUX: "no Windows is sold",
        Fault.SPOT_SWAPPED: "no spot machines are sold",
        Fault.OTHER_CURRENCY: "the currency is in the key's name, so this is a renamed key",
        Fault.REGION_DROPPED: "prices have no region",
    }

    def throttled(self) -> Reply:
        reply = Reply.json({"error": "You have hit the rate limit."}, 429)
        reply.headers |= {
            "RateLimit": '"api";r=0;t=1',
            "RateLimit-Policy": '"fixed window";"api";q=500;w=300',
        }
        return reply

    def answer(self, request: Request) -> Reply:
        sent = request.header("Authorization")
        if sent and (self.fault is Fault.EXPIRED_TOKEN or sent != f"Bearer {TOKEN}"):
            return Reply.json({"error": "Invalid credentials in Authorization header"}, 401)
        parts = request.path.split("/")
        if parts[:2] != ["", "api"] or parts[2:] not in (
            ["spaces", "hardware"],
            ["jobs", "hardware"],
        ):
            return Reply.json({"error": "Sorry, we can't find the page you are looking for."}, 404)
        rows = list(self._spoilt(parts[2]))
        if self.fault is Fault.TRUNCATED_PAGE:
            rows = rows[: len(rows) // 2]
        if self.fault is Fault.OBJECTS:
            reply = Reply.json({row["name"]: row for row in rows})
        else:
            reply = Reply.json(rows)
        reply.headers |= {
            "RateLimit": f'"api";r={max(0, 500 - len(self.requests))};t=271',
            "RateLimit-Policy": '"fixed window";"api";q=500;w=300',
        }
        return reply

    def _spoilt(self, product: str) -> Iterator[dict[str, Any]]:
        listed = (*HARDWARE, _ZERO) if product == "spaces" else HARDWARE
        for name, pretty, vcpus, memory, accelerator, micro in listed:
            hit = name == _HIT
            if product == "spaces" and name == "cpu-basic":
                micro = 0  # free for Spaces
            if self.fault is Fault.TYPE_DROPPED and name == "t4-small":
                continue
            if self.fault is Fault.ZERO_PRICE and hit:
                micro = 0
            if self.fault is Fault.INFLATED and hit:
                micro = round(micro * 1.10)
            if self.fault is Fault.WRONG_UNIT and hit:
                micro *= 60  # an hour's price for a minute
            if self.fault is Fault.CHEAP_GPU and name == "a100-large":
                micro = 167
            row = _row(name, pretty, vcpus, memory, accelerator, micro)
            if self.fault is Fault.MISSING_PRICE and hit:
                row["unitCostMicroUSD"] = row["unitCostUSD"] = None
            if self.fault is Fault.RENAMED_KEY:
                row["costMicroUSD"], row["costUSD"] = (
                    row.pop("unitCostMicroUSD"),
                    row.pop("unitCostUSD"),
                )
            yield row
            if self.fault is Fault.DUPLICATE_IDS and hit:
                yield _row(name, pretty, vcpus, memory, accelerator, micro * 2)


def _row(
    name: str,
    pretty: str,
    vcpus: int,
    memory: int,
    accelerator: tuple[str, int, int] | None,
    micro: int,
) -> dict[str, Any]:
    return {
        "name": name,
        "prettyName": pretty,
        "cpu": f"{vcpus} vCPU",
        "ram": f"{memory} GB",
        "ephemeralStorage": "50 GB",
        "accelerator": accelerator
        and {
            "type": "gpu",
            "model": accelerator[0],
            "quantity": str(accelerator[1]),
            "vram": f"{accelerator[2]} GB",
            "manufacturer": "Nvidia",
        },
        "unitCostMicroUSD": micro,
        "unitCostUSD": micro / 1_000_000,
        "unitLabel": "minute",
    }
