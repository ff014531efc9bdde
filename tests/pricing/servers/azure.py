"""Azure: the Retail Prices API, Resource Manager's list of sizes, and the login before it.

After https://learn.microsoft.com/rest/api/cost-management/retail-prices/azure-retail-prices
(rows, paging, filters; values are case-sensitive since 2023-01-01-preview) and
https://learn.microsoft.com/rest/api/compute/resource-skus/list. What those do not say was seen
in the answers of the real one: six rows for each size, products called " Win", Cloud Services
under the names of the sizes, refused filters, `NextPageLink` with `:443`.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

from tests.pricing.servers.faults import CONNECTION_FAULTS, Fault
from tests.pricing.servers.tls import Reply, Request, TLSServer

Row = dict[str, Any]

TENANT = "11111111-2222-3333-4444-555555555555"
SUBSCRIPTION = "99999999-8888-7777-6666-555555555555"
CLIENT = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
SECRET = "azure-client-secret-for-tests"
REGIONS = ("eastus", "westeurope")

# Size, series in product names, meter; dollars an hour in eastus: Linux, Windows, both as spot,
# both as low priority. In westeurope everything costs a quarter more (D2s v3: 0.12).
SIZES: tuple[tuple[str, str, str, tuple[float, ...]], ...] = (
    ("Standard_D2s_v3", "DSv3 Series", "D2s v3", (0.096, 0.188, 0.0188, 0.0368, 0.0192, 0.0752)),
    ("Standard_D4s_v3", "DSv3 Series", "D4s v3", (0.192, 0.376, 0.0376, 0.0736, 0.0384, 0.1504)),
    ("Standard_D8s_v3", "DSv3 Series", "D8s v3", (0.384, 0.752, 0.0752, 0.1472, 0.0768, 0.3008)),
    ("Standard_E2s_v5", "Esv5 Series", "E2s v5", (0.126, 0.218, 0.0252, 0.0436, 0.0252, 0.0872)),
    ("Standard_E4s_v5", "Esv5 Series", "E4s v5", (0.252, 0.436, 0.0504, 0.0872, 0.0504, 0.1744)),
    ("Standard_E8s_v5", "Esv5 Series", "E8s v5", (0.504, 0.872, 0.1008, 0.1744, 0.1008, 0.3488)),
    # Two of four processors are on; the four are paid for.
    ("Standard_E4-2s_v5", "Esv5 Series", "E4-2s v5", (0.252, 0.436, 0.0504, 0.0872, 0.05, 0.17)),
    ("Standard_NC6s_v3", "NCSv3 Series", "NC6s v3", (3.06, 3.244, 0.612, 0.7256, 0.612, 1.2976)),
    (
        "Standard_NC24ads_A100_v4",
        "NCADS A100 v4 Series",
        "NC24ads A100 v4",
        (3.673, 4.777, 0.6796, 0.8838, 0.7346, 1.9108),
    ),
    (
        "Standard_NC40ads_H100_v5",
        "NCads H100 v5 Series",
        "NC40ads H100 v5",
        (6.98, 8.82, 1.396, 1.764, 1.396, 3.528),
    ),
)
# Size: processors that can be used and that are there, GiB, accelerators.
_CAPABILITIES: Mapping[str, tuple[int, int, str, int]] = {
    "Standard_D2s_v3": (2, 2, "8", 0),
    "Standard_D4s_v3": (4, 4, "16", 0),
    "Standard_D8s_v3": (8, 8, "32", 0),
    "Standard_E2s_v5": (2, 2, "16", 0),
    "Standard_E4s_v5": (4, 4, "32", 0),
    "Standard_E8s_v5": (8, 8, "64", 0),
    "Standard_E4-2s_v5": (2, 4, "32", 0),
    "Standard_NC6s_v3": (6, 6, "112", 1),
    "Standard_NC24ads_A100_v4": (24, 24, "220", 1),
    "Standard_NC40ads_H100_v5": (40, 40, "320", 1),
}
_LOCATIONS = {"eastus": ("US East", 1.0), "westeurope": ("EU West", 1.25)}
_INFLATED = "Standard_D4s_v3"  # whom most faults of the numbers befall
_GPU = "Standard_NC24ads_A100_v4"


class AzureServer(TLSServer):
    """The three services on one port.

    Attributes:
        page_size: Rows a page; the real one has 1,000.
        rows: All rows there are; not to be changed once it was asked.
    """

    FAULTS = CONNECTION_FAULTS | {
        Fault.EXPIRED_TOKEN,  # seen by those who ask for sizes, with credentials
        Fault.FORBIDDEN,  # the same
        Fault.TRUNCATED_PAGE,
        Fault.LOOP,
        Fault.LOOP_CHANGING_TOKENS,
        Fault.OBJECTS,
        Fault.RENAMED_KEY,
        Fault.DUPLICATE_IDS,
        Fault.ZERO_PRICE,
        Fault.MISSING_PRICE,
        Fault.INFLATED,
        Fault.WINDOWS_AS_LINUX,
        Fault.SPOT_SWAPPED,
        Fault.WRONG_UNIT,
        Fault.OTHER_CURRENCY,
        Fault.CHEAP_GPU,
        Fault.REGION_DROPPED,
        Fault.TYPE_DROPPED,
    }

    def __init__(self, rows: list[Row] | None = None, page_size: int = 1000) -> None:
        super().__init__()
        self.page_size = page_size
        self.rows = list(_rows()) if rows is None else rows
        self._found: dict[tuple[Fault | None, tuple[tuple[str, str], ...]], list[Row]] = {}

    @property
    def prices_url(self) -> str:
        """The endpoint of the Retail Prices API; `url` is that of the other two services."""
        return f"{self.url}/api/retail/prices"

    def throttled(self) -> Reply:
        """How the Retail Prices API and Resource Manager say to slow down."""
        return _error(429, "TooManyRequests", "Too many requests.", Retry_After="1")

    def answer(self, request: Request) -> Reply:
        if request.path == "/api/retail/prices":
            return self._prices(request)
        if request.path == f"/{TENANT}/v2.0/.well-known/openid-configuration":
            return self._login_endpoints()
        if request.path == f"/{TENANT}/oauth2/v2.0/token":
            return self._token(request)
        if request.path == f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Compute/skus":
            return self._skus(request)
        return _error(404, "NotFound", f"There is nothing at {request.path}.")

    # --- prices -----------------------------------------------------------------------------

    def _prices(self, request: Request) -> Reply:
        query = dict(request.query)
        if len(request.path) + len(urlencode(query, quote_via=quote)) + 30 > 2048:
            return Reply.html(404, "404 - File or directory not found.")
        try:
            wanted = _filter(query.get("$filter", ""))
            skip = int(query.pop("$skip", "0"))
        except ValueError:
            return _error(400, "BadRequest", "Invalid OData parameters supplied")
        currency = query.get("currencyCode", "'USD'").strip("'")
        # Which rows a query finds is worked out once, for lists as long as the real one.
        asked = (self.fault, tuple(sorted(query.items())))
        if asked not in self._found:
            rows = [{**row, "currencyCode": currency} for row in self.rows if wanted(row)]
            if query.get("meterRegion") == "'primary'":
                rows = [row for row in rows if row["isPrimaryMeterRegion"]]
            self._found[asked] = list(self._spoilt(rows))
        rows = self._found[asked]
        looping = self.fault in (Fault.LOOP, Fault.LOOP_CHANGING_TOKENS)
        page = rows[:1] if looping else rows[skip : skip + self.page_size]
        following = skip + len(page)
        more = looping or following < len(rows)
        if self.fault is Fault.LOOP:
            following = 0
        if self.fault is Fault.TRUNCATED_PAGE and skip == 0:
            page = page[: len(page) // 2]
        next_query = urlencode({**query, "$skip": following}, quote_via=quote, safe="$'()")
        document = {
            "BillingCurrency": currency,
            "CustomerEntityId": "Default",
            "CustomerEntityType": "Retail",
            "Items": [str(row) for row in page] if self.fault is Fault.OBJECTS else page,
            # Its own name, whatever stands before it.
            "NextPageLink": f"https://prices.azure.com:443{request.path}?{next_query}"
            if more
            else None,
            "Count": len(page),
        }
        if self.fault is Fault.RENAMED_KEY:
            document["Prices"] = document.pop("Items")
        return Reply.json(document)

    def _spoilt(self, rows: list[Row]) -> Iterator[Row]:
        for row in rows:
            plain = row["type"] == "Consumption" and row["meterName"] == row["skuName"]
            linux = plain and str(row["productName"]).endswith("Series")
            hit = linux and row["armSkuName"] == _INFLATED
            price = row["retailPrice"]
            if self.fault is Fault.REGION_DROPPED and row["armRegionName"] == "westeurope":
                continue
            if self.fault is Fault.TYPE_DROPPED and row["armSkuName"] == "Standard_D2s_v3":
                continue
            if self.fault is Fault.MISSING_PRICE and hit:
                row = {**row, "retailPrice": None, "unitPrice": None}
            if self.fault is Fault.ZERO_PRICE and hit:
                row = _priced(row, 0)
            if self.fault is Fault.INFLATED and hit:
                row = _priced(row, round(price * 1.10, 6))
            if self.fault is Fault.WRONG_UNIT and hit:
                row = _priced(row, round(price * 730, 6))
            if self.fault is Fault.WINDOWS_AS_LINUX and hit:
                row = _priced(row, _windows(row, self.rows))
            if self.fault is Fault.OTHER_CURRENCY and hit:
                row = {**row, "currencyCode": "EUR"}
            if self.fault is Fault.CHEAP_GPU and linux and row["armSkuName"] == _GPU:
                row = _priced(row, 0.01)
            if self.fault is Fault.SPOT_SWAPPED:
                row = _priced(row, _swapped(row, self.rows))
            yield row
            if self.fault is Fault.DUPLICATE_IDS and hit:
                yield _priced(row, round(price * 1.5, 6))

    # --- sizes ------------------------------------------------------------------------------

    def _login_endpoints(self) -> Reply:
        here = f"{self.url}/{TENANT}"
        return Reply.json(
            {
                "token_endpoint": f"{here}/oauth2/v2.0/token",
                "authorization_endpoint": f"{here}/oauth2/v2.0/authorize",
                "device_authorization_endpoint": f"{here}/oauth2/v2.0/devicecode",
                "issuer": f"{here}/v2.0",
                "jwks_uri": f"{here}/discovery/v2.0/keys",
                "response_types_supported": ["code", "id_token"],
                "subject_types_supported": ["pairwise"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "cloud_instance_name": "microsoftonline.com",
                "tenant_region_scope": "EU",
            }
        )

    def _token(self, request: Request) -> Reply:
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        if self.fault is Fault.EXPIRED_TOKEN:
            return _refused("AADSTS7000222: The provided client secret keys are expired.")
        if form.get("client_id") != CLIENT or form.get("client_secret") != SECRET:
            return _refused("AADSTS7000215: Invalid client secret provided.")
        return Reply.json(
            {
                "token_type": "Bearer",
                "expires_in": 3599,
                "ext_expires_in": 3599,
                "access_token": "an-access-token-for-tests",
            }
        )

    def _skus(self, request: Request) -> Reply:
        if request.header("Authorization") != "Bearer an-access-token-for-tests":
            return _arm_error(401, "AuthenticationFailed", "Authentication failed.")
        if self.fault is Fault.FORBIDDEN:
            return _arm_error(
                403,
                "AuthorizationFailed",
                f"The client '{CLIENT}' does not have authorization to perform action "
                "'Microsoft.Compute/skus/read'.",
            )
        match = re.fullmatch(r"location eq '(\w+)'", request.query.get("$filter", ""))
        locations = [match[1]] if match else list(REGIONS)
        skus = [sku for location in locations for sku in _skus_of(location)]
        page = int(request.query.get("$skiptoken", "0"))
        shown = skus[page : page + 8]
        document: dict[str, Any] = {"value": shown}
        if page + 8 < len(skus):
            rest = urlencode({**request.query, "$skiptoken": page + 8})
            document["nextLink"] = f"{self.url}{request.path}?{rest}"
        return Reply.json(document)


# --- the rows -------------------------------------------------------------------------------


def _rows() -> Iterator[Row]:
    for region in REGIONS:
        for size, series, meter, dollars in SIZES:
            yield from _six_rows(region, size, series, meter, dollars)
            yield from _reservations(region, size, series, meter, dollars[0])
        # Under the name of a size, and dearer than Linux.
        yield row(region, "Standard_D2s_v3", "DSv3 Series Cloud Services", "D2s v3", 0.188)


def _six_rows(
    region: str, size: str, series: str, meter: str, dollars: tuple[float, ...]
) -> Iterator[Row]:
    # Newer products abbreviate.
    windows = "Win" if series.startswith("NCads") else "Windows"
    for number, kind in enumerate(("", " Spot", " Low Priority")):
        for offset, system in enumerate(("", f" {windows}")):
            price = round(dollars[2 * number + offset] * _LOCATIONS[region][1], 6)
            product = f"Virtual Machines {series}{system}"
            # The Linux meter of a size is no primary one where both systems share it.
            yield row(region, size, product, meter + kind, price, primary=bool(system))


def _reservations(region: str, size: str, series: str, meter: str, hourly: float) -> Iterator[Row]:
    product = f"Virtual Machines {series}"
    for term, hours, share in (("1 Year", 8760, 0.6), ("3 Years", 26280, 0.38)):
        price = round(hourly * _LOCATIONS[region][1] * hours * share)
        reserved = row(region, size, product, meter, price, primary=True)
        yield {**reserved, "type": "Reservation", "reservationTerm": term}


def row(
    region: str, size: str, product: str, meter: str, price: float, *, primary: bool = True
) -> Row:
    """One row, with every name that the documents list."""
    identity = uuid.uuid5(uuid.NAMESPACE_URL, f"{region}/{product}/{meter}")
    return {
        "currencyCode": "USD",
        "tierMinimumUnits": 0.0,
        "retailPrice": price,
        "unitPrice": price,
        "armRegionName": region,
        "location": _LOCATIONS.get(region, (region, 1))[0],
        "effectiveStartDate": "2021-11-01T00:00:00Z",
        "meterId": str(identity),
        "meterName": meter,
        "productId": f"DZH318Z0{identity.hex[:4].upper()}",
        "skuId": f"DZH318Z0{identity.hex[:4].upper()}/{identity.hex[4:8].upper()}",
        "productName": product,
        "skuName": meter,
        "serviceName": "Virtual Machines",
        "serviceId": "DZH313Z7MMC8",
        "serviceFamily": "Compute",
        "unitOfMeasure": "1 Hour",
        "type": "Consumption",
        "isPrimaryMeterRegion": primary,
        "armSkuName": size,
    }


def _skus_of(location: str) -> Iterator[dict[str, Any]]:
    # Disks and snapshots come in the same list.
    yield {"resourceType": "disks", "name": "Premium_LRS", "locations": [location]}
    for size, (usable, there, memory, gpus) in _CAPABILITIES.items():
        said = {"vCPUs": str(there), "MemoryGB": memory, "vCPUsAvailable": str(usable)}
        said |= {"GPUs": str(gpus)} if gpus else {}
        yield {
            "resourceType": "virtualMachines",
            "name": size,
            "tier": "Standard",
            "size": size.removeprefix("Standard_"),
            "family": "standardFamily",
            "locations": [location],
            "locationInfo": [{"location": location, "zones": ["1", "2", "3"]}],
            "capabilities": [{"name": name, "value": value} for name, value in said.items()],
            "restrictions": [],
        }


def _priced(row: Row, price: float) -> Row:
    return {**row, "retailPrice": price, "unitPrice": price}


def _twin(row: Row, rows: list[Row], product: str, meter: str) -> float:
    """The price of the same machine as another product or meter."""
    for other in rows:
        if (
            other["armRegionName"] == row["armRegionName"]
            and other["armSkuName"] == row["armSkuName"]
            and other["productName"].startswith(product)
            and other["productName"].endswith(product[-3:])
            and other["meterName"] == meter
            and other["type"] == "Consumption"
        ):
            return float(other["retailPrice"])
    return float(row["retailPrice"])


def _windows(row: Row, rows: list[Row]) -> float:
    return _twin(row, rows, f"{row['productName']} Windows", row["meterName"])


def _swapped(row: Row, rows: list[Row]) -> float:
    meter = row["meterName"]
    if row["type"] != "Consumption" or meter.endswith("Low Priority"):
        return float(row["retailPrice"])
    other = meter.removesuffix(" Spot") if meter.endswith(" Spot") else f"{meter} Spot"
    return _twin(row, rows, row["productName"], other)


# --- errors and filters ---------------------------------------------------------------------


def _error(status: int, code: str, message: str, **headers: str) -> Reply:
    return Reply.json({"Error": {"Code": code, "Message": message}}, status, **headers)


def _arm_error(status: int, code: str, message: str) -> Reply:
    return Reply.json({"error": {"code": code, "message": message}}, status)


def _refused(description: str) -> Reply:
    return Reply.json({"error": "invalid_client", "error_description": description}, 401)


_TOKEN = re.compile(r"\s*('(?:[^']|'')*'|[(),]|[A-Za-z]\w*)")
_FIELDS = {"priceType": "type"}


def _filter(text: str) -> Callable[[Row], bool]:
    """The part of OData that the real one takes; ValueError for the rest.

    `in (...)`, `not ...` and more than 20 comparisons are refused.
    """
    if not text.strip():
        return lambda row: True
    tokens = _TOKEN.findall(text)
    if _TOKEN.sub("", text).strip():
        raise ValueError("not OData")
    if tokens.count("eq") + tokens.count("ne") > 20 or "in" in tokens or "not" in tokens:
        raise ValueError("refused")
    wanted, rest = _either(tokens)
    if rest:
        raise ValueError("not OData")
    return wanted


def _either(tokens: list[str]) -> tuple[Callable[[Row], bool], list[str]]:
    left, rest = _both(tokens)
    while rest[:1] == ["or"]:
        right, rest = _both(rest[1:])
        left = (lambda a, b: lambda row: a(row) or b(row))(left, right)
    return left, rest


def _both(tokens: list[str]) -> tuple[Callable[[Row], bool], list[str]]:
    left, rest = _one(tokens)
    while rest[:1] == ["and"]:
        right, rest = _one(rest[1:])
        left = (lambda a, b: lambda row: a(row) and b(row))(left, right)
    return left, rest


def _one(tokens: list[str]) -> tuple[Callable[[Row], bool], list[str]]:
    if tokens[:1] == ["("]:
        inside, rest = _either(tokens[1:])
        if rest[:1] != [")"]:
            raise ValueError("no closing bracket")
        return inside, rest[1:]
    if tokens[:2] == ["contains", "("] and len(tokens) >= 6:
        name, text = _FIELDS.get(tokens[2], tokens[2]), tokens[4].strip("'")
        rest, expected = tokens[6:], True
        if rest[:1] == ["eq"] and rest[1:2] in (["true"], ["false"]):
            rest, expected = rest[2:], rest[1] == "true"
        return (lambda row: (text in str(row.get(name))) is expected), rest
    if len(tokens) < 3 or tokens[1] not in ("eq", "ne") or not tokens[2].startswith("'"):
        raise ValueError("no comparison")
    name, value = _FIELDS.get(tokens[0], tokens[0]), tokens[2][1:-1].replace("''", "'")
    equal = tokens[1] == "eq"
    return (lambda row: (str(row.get(name)) == value) is equal), tokens[3:]
