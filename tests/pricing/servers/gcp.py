"""Google: the Cloud Billing Catalog's list of SKUs, and the token endpoint of service accounts.

Written from Google's documents:

* https://cloud.google.com/billing/docs/reference/rest/v1/services.skus/list
* https://cloud.google.com/billing/docs/how-to/get-pricing-information-api
* https://developers.google.com/identity/protocols/oauth2/service-account#httprest
* https://cloud.google.com/apis/design/errors

`GET /v1/services/6F81-5844-456A/skus` wants a key (`?key=` or a header) or a bearer token;
`POST /token` gives one for a JSON Web Token whose signature fits.

    with GCPServer() as server:
        server.fault = Fault.OTHER_CURRENCY    # until set to None
        server.edit = lambda sku: sku          # or change any SKU as you like

A machine is made of SKUs, so a fault touches all that have the part. Those of the numbers touch
the N2 series in the Americas (both its cores and its RAM, but for `MISSING_PRICE`,
`DUPLICATE_IDS` and `ZERO_PRICE`: its cores alone); the cheap accelerator is `a2-highgpu-1g`;
the dropped type stands for the T2D series, the dropped region is Frankfurt. On-demand and spot
prices are swapped for all.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import cached_property
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.pricing.servers.faults import CONNECTION_FAULTS, Fault
from tests.pricing.servers.tls import Reply, Request, TLSServer

API_KEY = "AIzaSyEXAMPLE-0000000000000000000000000"
EMAIL = "prices@example-project.iam.gserviceaccount.com"
GOOGLES_TOKEN_ENDPOINT = "https://oauth2.googleapis.com/token"
"""The audience of a service account's assertion, wherever it is sent."""

EFFECTIVE = "2025-11-01T07:00:00.123456789Z"

AMERICAS = ("us-central1", "us-east1", "us-west1")
PLACES: Mapping[str, tuple[tuple[str, ...], str]] = {
    "Americas": (AMERICAS, "1"),
    "Netherlands": (("europe-west4",), "1.1"),
    "Frankfurt": (("europe-west3",), "1.288"),
}
"""How descriptions name a place, its regions, and how its prices are to the Americas'."""

SERIES: Sequence[tuple[str, str, str, str]] = (
    ("N1 Predefined Instance", "N1Standard", "0.031611", "0.004237"),
    ("N2 Instance", "CPU", "0.031611", "0.004237"),
    ("N2D AMD Instance", "CPU", "0.027502", "0.003686"),
    ("E2 Instance", "CPU", "0.02181159", "0.00292353"),
    ("T2D AMD Instance", "CPU", "0.027502", "0.003686"),
    ("C2D AMD Instance", "CPU", "0.029563", "0.003959"),
    ("C3 Instance", "CPU", "0.03398", "0.00456"),
    ("Compute optimized", "CPU", "0.03398", "0.00455"),
    ("Memory-optimized Instance", "CPU", "0.0348", "0.0051"),
    ("A2 Instance", "CPU", "0.031611", "0.004237"),
    ("A3Plus Instance", "CPU", "0.026924", "0.002344"),
    ("G2 Instance", "CPU", "0.024988", "0.002927"),
)
"""A series as descriptions name it, the resource group of its cores, and its prices by the hour."""

GPUS = {
    "Nvidia Tesla A100": "2.933908",
    "Nvidia Tesla A100 80GB": "3.92",
    "Nvidia H100 80GB Plus": "10.344276",
    "Nvidia L4": "0.560004",
}
SSD_A_MONTH = "0.08"

_ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"
_SERVICE = "services/6F81-5844-456A"

SKU = dict[str, Any]


class GCPServer(TLSServer):
    """Google, as far as prices go.

    Args:
        more: How many SKUs of other things there are beside those of machines.
        places: Where things are sold; `generated_places` makes many.

    Attributes:
        edit: Changes each SKU before it is served, `None` to drop it.
    """

    FAULTS = CONNECTION_FAULTS | {
        Fault.EXPIRED_TOKEN,
        Fault.FORBIDDEN,
        Fault.TRUNCATED_PAGE,
        Fault.LOOP,
        Fault.LOOP_CHANGING_TOKENS,
        Fault.OBJECTS,
        Fault.RENAMED_KEY,
        Fault.DUPLICATE_IDS,
        Fault.ZERO_PRICE,
        Fault.MISSING_PRICE,
        Fault.INFLATED,
        Fault.SPOT_SWAPPED,
        Fault.WRONG_UNIT,
        Fault.OTHER_CURRENCY,
        Fault.CHEAP_GPU,
        Fault.REGION_DROPPED,
        Fault.TYPE_DROPPED,
    }
    NOT_APPLICABLE: Mapping[Fault, str] = {
        Fault.WINDOWS_AS_LINUX: "no system is part of a machine's SKUs; Windows is another SKU",
    }

    def __init__(
        self,
        more: int = 40,
        places: Mapping[str, tuple[tuple[str, ...], str]] = PLACES,
        largest_page: int = 5000,
    ) -> None:
        super().__init__()
        self.places = dict(places)
        self.edit: Callable[[SKU], SKU | None] | None = None
        self.largest_page = largest_page
        self._more = more
        self._made: dict[Fault | None, list[SKU]] = {}
        self._tokens: set[str] = set()
        self._count = 0

    def answer(self, request: Request) -> Reply:
        if request.method == "POST" and request.path == "/token":
            return self._token(request)
        if request.path != f"/v1/{_SERVICE}/skus":
            return _error(404, "Requested entity was not found.", "NOT_FOUND")
        return self._refused(request) or self._skus(request)

    def throttled(self) -> Reply:
        return _error(
            429, "Quota exceeded for quota metric", "RESOURCE_EXHAUSTED", "RATE_LIMIT_EXCEEDED"
        )

    # --- who asks ---------------------------------------------------------------------------

    @cached_property
    def _key(self) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def service_account(self) -> str:
        """The key file of a service account, whose tokens this server gives."""
        pem = self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return json.dumps(
            {
                "type": "service_account",
                "project_id": "example-project",
                "private_key_id": "0123456789abcdef",
                "private_key": pem.decode(),
                "client_email": EMAIL,
                "client_id": "100000000000000000000",
                "token_uri": f"{self.url}/token",
            }
        )

    def _token(self, request: Request) -> Reply:
        form = request.form
        if self.fault is Fault.EXPIRED_TOKEN:
            return Reply.json(
                {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}, 400
            )
        if form.get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer":
            return Reply.json({"error": "unsupported_grant_type"}, 400)
        problem = self._problem(form.get("assertion", ""))
        if problem:
            return Reply.json({"error": "invalid_grant", "error_description": problem}, 400)
        self._count += 1
        token = f"ya29.c.EXAMPLE-{self._count}"
        self._tokens.add(token)
        return Reply.json({"access_token": token, "expires_in": 3599, "token_type": "Bearer"})

    def _problem(self, assertion: str) -> str:
        try:
            signed, _, signature = assertion.rpartition(".")
            header, claims = (json.loads(_unpadded(part)) for part in signed.split("."))
            self._key.public_key().verify(
                _unpadded(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256()
            )
        except (ValueError, InvalidSignature):
            return "Invalid JWT Signature."
        now = time.time()
        good = (
            header.get("alg") == "RS256"
            and claims.get("iss") == EMAIL
            and claims.get("aud") in (GOOGLES_TOKEN_ENDPOINT, f"{self.url}/token")
            and claims.get("iat", 0) <= now + 60
            and now < claims.get("exp", 0) <= now + 3700
            and "https://www.googleapis.com/auth/cloud-" in claims.get("scope", "")
        )
        return "" if good else "Invalid JWT: claims."

    def _refused(self, request: Request) -> Reply | None:
        key = request.query.get("key") or request.header("X-Goog-Api-Key")
        token = request.header("Authorization").removeprefix("Bearer ")
        if self.fault is Fault.EXPIRED_TOKEN and key:
            return _error(
                400,
                "API key expired. Please renew the API key.",
                "INVALID_ARGUMENT",
                "API_KEY_INVALID",
            )
        if key and key != API_KEY:
            return _error(
                400,
                "API key not valid. Please pass a valid API key.",
                "INVALID_ARGUMENT",
                "API_KEY_INVALID",
            )
        if not key and not token:
            return _error(403, "Method doesn't allow unregistered callers.", "PERMISSION_DENIED")
        if not key and (token not in self._tokens or self.fault is Fault.EXPIRED_TOKEN):
            return _error(401, "Request had invalid authentication credentials.", "UNAUTHENTICATED")
        if self.fault is Fault.FORBIDDEN:
            return _error(
                403,
                "Cloud Billing API has not been used in project 123 before or it is disabled.",
                "PERMISSION_DENIED",
                "SERVICE_DISABLED",
            )
        return None

    # --- the catalog ------------------------------------------------------------------------

    def _skus(self, request: Request) -> Reply:
        currency = request.query.get("currencyCode") or "USD"
        if currency != "USD":
            return _error(400, "Unsupported currency.", "INVALID_ARGUMENT")
        size = int(request.query.get("pageSize") or 5000)
        if not 0 < size <= 5000:
            return _error(400, "Page size out of range.", "INVALID_ARGUMENT")
        size = min(size, self.largest_page)
        try:
            token = request.query.get("pageToken", "")
            first = int(base64.urlsafe_b64decode(token).split(b":")[0]) if token else 0
        except ValueError:
            return _error(400, "Invalid page token.", "INVALID_ARGUMENT")
        skus = self.skus()
        loops = self.fault in (Fault.LOOP, Fault.LOOP_CHANGING_TOKENS)
        first = 0 if loops else first
        page = skus[first : first + size]
        if self.fault is Fault.TRUNCATED_PAGE:
            page = page[: len(page) // 2]
        answer: dict[str, Any] = {"skus": page, "nextPageToken": ""}
        if first + size < len(skus) or loops:
            self._count += self.fault is Fault.LOOP_CHANGING_TOKENS
            text = f"{first + size}:{self._count}:EXAMPLE"
            answer["nextPageToken"] = base64.urlsafe_b64encode(text.encode()).decode()
        if self.fault is Fault.RENAMED_KEY:
            answer["items"] = answer.pop("skus")
        if self.fault is Fault.OBJECTS:
            answer["skus"] = {sku["skuId"]: sku for sku in page}
        return Reply.json(answer)

    def skus(self) -> list[SKU]:
        """All SKUs, with what the fault makes of them."""
        if self.fault not in self._made or self.edit:
            made = [other for sku in self._all() for other in self._faulty(sku)]
            self._made[self.fault] = made
        return self._made[self.fault]

    def _all(self) -> Iterator[SKU]:
        for place, (regions, factor) in self.places.items():
            if self.fault is Fault.REGION_DROPPED and place == "Frankfurt":
                continue
            times = Decimal(factor)
            for name, group, core, ram in SERIES:
                if self.fault is Fault.TYPE_DROPPED and name.startswith("T2D"):
                    continue
                for part, price, unit in (("Core", core, "h"), ("Ram", ram, "GiBy.h")):
                    if part == "Ram" and group == "CPU":
                        group = "RAM"
                    yield from _with_relatives(
                        name, part, place, regions, group, Decimal(price) * times, unit
                    )
            for name, price in GPUS.items():
                amount = Decimal(price) * times
                yield _sku(
                    f"{name} GPU running in {place}", "GPU", "OnDemand", regions, amount, "h"
                )
                limited = f"{name} GPU attached to DWS Defined Duration VMs running in {place}"
                yield _sku(limited, "GPU", "OnDemand", regions, amount * Decimal("0.5"), "h")
                spot = f"{name} GPU attached to Spot Preemptible VMs running in {place}"
                yield _sku(spot, "GPU", "Preemptible", regions, amount * Decimal("0.3"), "h")
                yield _sku(
                    f"Reserved {name} GPU in {place}", "GPU", "OnDemand", regions, amount, "h"
                )
            where = "" if place == "Americas" else f" in {place}"
            amount = Decimal(SSD_A_MONTH) * times
            ssd = ("LocalSSD", regions, "GiBy.mo", "Storage")
            yield _ssd(f"SSD backed Local Storage{where}", "OnDemand", amount, *ssd)
            yield _ssd(
                f"SSD backed Local Storage attached to Spot Preemptible VMs{where}",
                "Preemptible",
                amount * Decimal("0.4"),
                *ssd,
            )
            yield _ssd(f"Commitment v1: Local SSD in {place}", "Commit1Yr", amount, *ssd)
        for number in range(self._more):
            yield _ssd(
                f"Balanced PD Capacity {number}",
                "OnDemand",
                Decimal("0.1"),
                "SSD",
                AMERICAS,
                "GiBy.mo",
                "Storage",
            )

    def _faulty(self, sku: SKU) -> Iterator[SKU]:
        text = sku["description"]
        expression = sku["pricingInfo"][0]["pricingExpression"]
        rates = expression["tieredRates"]
        amount = _read(rates[0]["unitPrice"])
        n2 = text in ("N2 Instance Core running in Americas", "N2 Instance Ram running in Americas")
        cores = n2 and "Core" in text
        if cores and self.fault is Fault.ZERO_PRICE:
            rates[0]["unitPrice"] = _money(Decimal(0))
        if cores and self.fault is Fault.MISSING_PRICE:
            expression["tieredRates"] = []
        if n2 and self.fault is Fault.INFLATED:
            rates[0]["unitPrice"] = _money(amount * Decimal("1.10"))
        if n2 and self.fault is Fault.WRONG_UNIT:
            rates[0]["unitPrice"] = _money(amount * 730)
        if n2 and self.fault is Fault.OTHER_CURRENCY:
            rates[0]["unitPrice"] = _money(amount, "EUR")
        if self.fault is Fault.SPOT_SWAPPED and sku["category"]["resourceFamily"] == "Compute":
            swapped = {"OnDemand": amount * Decimal("0.3"), "Preemptible": amount / Decimal("0.3")}
            usage = sku["category"]["usageType"]
            rates[0]["unitPrice"] = _money(swapped.get(usage, amount))
        cheap = {
            "A2 Instance Core running in Americas": "0.0001",
            "A2 Instance Ram running in Americas": "0.00001",
            "Nvidia Tesla A100 GPU running in Americas": "0.00795",
        }
        if self.fault is Fault.CHEAP_GPU and text in cheap:
            rates[0]["unitPrice"] = _money(Decimal(cheap[text]))
        edited = self.edit(sku) if self.edit else sku
        if edited is not None:
            yield edited
            if cores and self.fault is Fault.DUPLICATE_IDS:
                copy = json.loads(json.dumps(edited))
                tier = copy["pricingInfo"][0]["pricingExpression"]["tieredRates"][0]
                tier["unitPrice"] = _money(amount * 2)
                yield copy


def generated_places(count: int) -> dict[str, tuple[tuple[str, ...], str]]:
    """`count` places of one region each, whose prices differ."""
    return {
        f"Made {n}": ((f"made-north{n}",), f"{1 + Decimal(n) / 100}") for n in range(1, count + 1)
    }


# --- one SKU --------------------------------------------------------------------------------


def _with_relatives(
    name: str,
    part: str,
    place: str,
    regions: Sequence[str],
    group: str,
    amount: Decimal,
    unit: str,
) -> Iterator[SKU]:
    """A part of a series on demand and spot, and the SKUs that look like it and are not."""
    short = name.split()[0]
    facts = (regions, amount, unit)
    yield _sku(f"{name} {part} running in {place}", group, "OnDemand", *facts)
    spot = (regions, amount * Decimal("0.3"), unit)
    yield _sku(f"Spot Preemptible {name} {part} running in {place}", group, "Preemptible", *spot)
    more = (regions, amount * Decimal("1.05"), unit)
    yield _sku(f"{short} Custom Instance {part} running in {place}", group, "OnDemand", *more)
    dedicated = (regions, amount * Decimal("1.10"), unit)
    tenancy = f"{short} Sole Tenancy Instance {part} running in {place}"
    yield _sku(tenancy, group, "OnDemand", *dedicated)
    less = (regions, amount * Decimal("0.63"), unit)
    commitment = f"Commitment v1: {short} {part} in {place} for 1 Year"
    yield _sku(commitment, group, "Commit1Yr", *less)
    yield _sku(f"Reserved {name} {part} in {place}", group, "OnDemand", *facts)
    calendar = f"DWS Calendar Mode {name} {part} running in {place}"
    yield _sku(calendar, group, "OnDemand", *less)


def _sku(
    description: str,
    group: str,
    usage: str,
    regions: Sequence[str],
    amount: Decimal,
    unit: str,
    family: str = "Compute",
) -> SKU:
    digest = hashlib.sha256(description.encode()).hexdigest().upper()
    identity = f"{digest[:4]}-{digest[4:8]}-{digest[8:12]}"
    names = {"h": "hour", "GiBy.h": "gibibyte hour", "GiBy.mo": "gibibyte month"}
    seconds = {"h": ("s", "second", 3600), "GiBy.h": ("By.s", "byte second", 3865470566400)}
    base, base_name, factor = seconds.get(unit, ("By.s", "byte second", 2.8219655e15))
    return {
        "name": f"{_SERVICE}/skus/{identity}",
        "skuId": identity,
        "description": description,
        "category": {
            "serviceDisplayName": "Compute Engine",
            "resourceFamily": family,
            "resourceGroup": group,
            "usageType": usage,
        },
        "serviceRegions": list(regions),
        "pricingInfo": [
            {
                "summary": "",
                "pricingExpression": {
                    "usageUnit": unit,
                    "usageUnitDescription": names[unit],
                    "baseUnit": base,
                    "baseUnitDescription": base_name,
                    "baseUnitConversionFactor": factor,
                    "displayQuantity": 1,
                    "tieredRates": [{"startUsageAmount": 0, "unitPrice": _money(amount)}],
                },
                "currencyConversionRate": 1,
                "effectiveTime": EFFECTIVE,
            }
        ],
        "serviceProviderName": "Google",
        "geoTaxonomy": {
            "type": "MULTI_REGIONAL" if len(regions) > 1 else "REGIONAL",
            "regions": list(regions),
        },
    }


def _ssd(
    description: str,
    usage: str,
    amount: Decimal,
    group: str,
    regions: Sequence[str],
    unit: str,
    family: str,
) -> SKU:
    return _sku(description, group, usage, regions, amount, unit, family)


def _money(amount: Decimal, currency: str = "USD") -> dict[str, Any]:
    units = int(amount)
    return {"currencyCode": currency, "units": str(units), "nanos": int((amount - units) * 10**9)}


def _read(money: Mapping[str, Any]) -> Decimal:
    return Decimal(money["units"]) + Decimal(money["nanos"]) / 10**9


def _unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _error(status: int, message: str, name: str, reason: str = "") -> Reply:
    details = [
        {
            "@type": _ERROR_INFO,
            "reason": reason,
            "domain": "googleapis.com",
            "metadata": {"service": "cloudbilling.googleapis.com"},
        }
    ]
    error = {"code": status, "message": message, "status": name}
    return Reply.json({"error": {**error, "details": details} if reason else error}, status)
