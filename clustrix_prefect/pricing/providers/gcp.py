"""Google Compute Engine: the Cloud Billing Catalog, whose parts are put together to machines.

The catalog has no price of a machine type, only of a core, a gibibyte of RAM, an accelerator and
a gibibyte of local SSD, in each series and region. What a type is made of says `gcp_machines`.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from itertools import product
from typing import Any, NamedTuple

from pydantic import SecretStr

from clustrix_prefect.errors import ConfigurationError
from clustrix_prefect.pricing.documents import NO_PRICE, complete, malformed
from clustrix_prefect.pricing.errors import (
    PricingError,
    PricingForbidden,
    PricingIncomplete,
    PricingThrottled,
    PricingUnauthorised,
    PricingUnreachable,
)
from clustrix_prefect.pricing.fetch import Fetch, PriceList
from clustrix_prefect.pricing.http import Answer, Client, ca_bundle, parse_json, without_secrets
from clustrix_prefect.pricing.price import Price, PurchaseOption
from clustrix_prefect.pricing.providers.gcp_machines import (
    OWN_DISKS,
    SERIES,
    MachineType,
    machine_types,
)

ENDPOINT = "https://cloudbilling.googleapis.com/v1"

SCOPE = "https://www.googleapis.com/auth/cloud-billing.readonly"

NOT_COVERED = (
    "committed use discounts",
    "sustained use discounts",
    "custom machine types",
    "sole tenancy",
    "operating systems with a licence fee",
)

SECONDS_BETWEEN_REQUESTS = 0.2
"""The API allows 300 requests a minute."""

HOURS_A_MONTH = 730
"""As Google counts: local SSD is sold by the month."""

_COMPUTE_ENGINE = "services/6F81-5844-456A"
_PAGE = 5000
_EMPTY_PAGES = 3
_USAGE = ("OnDemand", "Preemptible")  # the others are commitments and their premiums
_MACHINE = re.compile(r"(?:Spot )?(?:Preemptible )?(?P<series>.+) (?P<part>Core|Ram) running in .+")
_GPU = re.compile(
    r"(?P<gpu>Nvidia .+?) GPU (?:attached to (?:Spot )?Preemptible VMs )?running in .+"
    r"|(?P<rtx>RTX 6000 96GB) (?:attached to (?:Spot )?Preemptible VMs )?running in .+"
)
# Titanium disks have a price for each series.
_SERIES_SSD = re.compile(r"(?:Spot )?(?:Preemptible )?(?P<series>.+) Local SSD running in .+")
_SSD = re.compile(
    r"SSD backed Local Storage(?: attached to (?:Spot )?Preemptible VMs)?(?: (?:running )?in .+)?"
)
# Of each part: its units, and by what a price in them becomes one in ours. Some RAM is sold by
# the decimal gigabyte.
_GB = Decimal(2**30) / 10**9
_UNITS: Mapping[str, Mapping[str, Decimal]] = {
    "Core": {"h": Decimal(1)},
    "Ram": {"GiBy.h": Decimal(1), "GBy.h": _GB},
    "GPU": {"h": Decimal(1)},
    "SSD": {"GiBy.mo": Decimal(1), "GBy.mo": _GB},
}
# Of a series too, and sold to others than who pays by the hour.
_OTHER_SALES = re.compile(
    r"custom|sole tenancy|premium|reserved|commit|calendar|defined duration|extended|upgrade"
    r"|overcommit|licens|suspend|vm state",
    re.IGNORECASE,
)
# One accelerator has had two names in the list.
_GPU_NAMES = {"Nvidia H100 80GB Plus": "Nvidia H100 80GB Mega"}
# What is sold as RTX 6000 is another card than the RTX 6000 of before.
_GPU_MODELS = {"RTX 6000 96GB": "Nvidia RTX PRO 6000"}


@dataclass(frozen=True, slots=True, kw_only=True)
class GCPCredentials:
    """An API key, or a service account. Without either, google-auth looks where it always does.

    Attributes:
        api_key: A key of a project in which the Cloud Billing API is enabled.
        service_account: The JSON document of a service account's key.
    """

    api_key: SecretStr | None = None
    service_account: SecretStr | None = None


class _Part(NamedTuple):
    """What is sold: of a series or an accelerator, in a region."""

    kind: str
    of: str
    option: PurchaseOption
    region: str


class _Rate(NamedTuple):
    """What it costs: an hour of it."""

    hourly: Decimal
    currency: str
    effective: datetime | None


def fetch_prices(
    *,
    regions: Sequence[str] | None = None,
    credentials: GCPCredentials | None = None,
    endpoint: str = ENDPOINT,
    deadline: float = 300.0,
    currency: str = "USD",
    spot: bool = True,
) -> PriceList:
    """Return the hourly prices of Compute Engine's machine types, on demand and spot.

    The system is not part of the price; those with a licence fee cost more.

    Args:
        regions: Google's regions; default: all that the catalog names.
        credentials: An API key or a service account; default: what google-auth finds.
        endpoint: The API, up to and with its version.
        deadline: Seconds for all of it.
        currency: The currency that is asked for.
        spot: Whether to give spot prices too; they come with the others.

    Raises:
        PricingError: One of its subclasses, by what went wrong.
    """
    fetch = Fetch(
        provider="gcp",
        source=without_secrets(f"{endpoint.rstrip('/')}/{_COMPUTE_ENGINE}/skus"),
        authentication="api key" if credentials and credentials.api_key else "service account",
        started_at=datetime.now(timezone.utc),
        regions=tuple(regions or ()),
        currency=currency,
        not_covered=NOT_COVERED,
    )
    headers = _authorization(credentials, fetch, deadline)
    rates: dict[_Part, list[_Rate]] = defaultdict(list)
    with Client(
        fetch,
        deadline=deadline,
        interval=SECONDS_BETWEEN_REQUESTS,
        headers=headers,
        judge=_judge,
    ) as client:
        url = f"{endpoint.rstrip('/')}/{_COMPUTE_ENGINE}/skus"
        unknown: Counter[str] = Counter()
        for sku in _skus(client, url, currency):
            if name := _unknown_series(sku):
                unknown[name] += 1
            for part, rate in _rates(sku, fetch):
                if (not regions or part.region in regions) and rate not in rates[part]:
                    rates[part].append(rate)
    options = [option for option in PurchaseOption if spot or option is PurchaseOption.ON_DEMAND]
    where = regions or sorted({part.region for part in rates})
    now = datetime.now(timezone.utc)
    without: Counter[str] = Counter()
    prices = [
        price
        for region in where
        for machine in machine_types()
        for option in options
        for price in _prices(machine, region, option, rates, fetch, now, without)
    ]
    fetch.not_covered += (
        *(f"{name} ({count} SKUs)" for name, count in sorted(unknown.items())),
        *(f"{name} ({count} prices)" for name, count in sorted(without.items())),
    )
    return complete(prices, fetch)


# --- who asks -------------------------------------------------------------------------------


def _authorization(
    credentials: GCPCredentials | None, fetch: Fetch, deadline: float
) -> dict[str, str]:
    """The headers that say who asks; a service account exchanges its key for a token first."""
    if credentials is not None and credentials.api_key is not None:
        # In a header, because URLs are logged.
        return {"X-Goog-Api-Key": credentials.api_key.get_secret_value()}
    try:
        import google.auth
        import requests
        from google.auth import exceptions
        from google.auth.transport.requests import Request
        from google.oauth2 import service_account
    except ImportError as error:
        raise ConfigurationError(
            "Asking Google for prices with a service account needs google-auth.",
            "Install it with `pip install 'clustrix-prefect[gcp]'`, or use an API key.",
        ) from error

    session = requests.Session()
    if bundle := ca_bundle():
        session.verify = bundle
    request = Request(session)
    try:
        if credentials is not None and credentials.service_account is not None:
            found: Any = service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
                json.loads(credentials.service_account.get_secret_value()), scopes=[SCOPE]
            )
        else:
            found, _ = google.auth.default(scopes=[SCOPE])
        fetch.requests += 1

        def within_the_deadline(*args: Any, **options: Any) -> Any:
            return request(*args, **{**options, "timeout": min(30.0, deadline)})

        found.refresh(within_the_deadline)
    except (exceptions.TransportError, exceptions.TimeoutError) as error:
        raise PricingUnreachable(
            "Google's token endpoint cannot be reached.",
            "Check the network, the proxy and the key's token_uri.",
            provider=fetch.provider,
            fetch=fetch,
        ) from error
    except exceptions.DefaultCredentialsError:
        raise PricingUnauthorised(
            "No key for Google was given, and this machine has none of its own.",
            "Give an API key or a service account, or log in with `gcloud auth "
            "application-default login`.",
            provider=fetch.provider,
            fetch=fetch,
        ) from None
    except (exceptions.GoogleAuthError, ValueError) as error:
        # The error may quote the key: only its kind is told.
        kind = type(error).__name__
        raise PricingUnauthorised(
            f"Google's service account gives no token ({kind}).",
            "Check the key: it is wrong, deleted or expired.",
            provider=fetch.provider,
            fetch=fetch,
        ) from None
    finally:
        session.close()
    headers: dict[str, str] = {}
    found.apply(headers)
    if project := getattr(found, "quota_project_id", None):
        headers["X-Goog-User-Project"] = project
    return headers


def _judge(answer: Answer) -> type[PricingError] | None:
    """Google says more precisely what is wrong in the body than with the status."""
    try:
        error = parse_json(answer.body)["error"]
        details = error.get("details", [])
        reasons = {detail.get("reason") for detail in details} | {error.get("status")}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    for reason, kind in _REASONS.items():
        if reason in reasons:
            return kind
    return None


_REASONS: Mapping[str, type[PricingError]] = {
    "API_KEY_INVALID": PricingUnauthorised,
    "API_KEY_EXPIRED": PricingUnauthorised,
    "ACCESS_TOKEN_EXPIRED": PricingUnauthorised,
    "CREDENTIALS_MISSING": PricingUnauthorised,
    "UNAUTHENTICATED": PricingUnauthorised,
    "RATE_LIMIT_EXCEEDED": PricingThrottled,
    "RESOURCE_EXHAUSTED": PricingThrottled,
    "PERMISSION_DENIED": PricingForbidden,
}


# --- the catalog ----------------------------------------------------------------------------


def _skus(client: Client, url: str, currency: str) -> Iterator[Mapping[str, Any]]:
    fetch = client.fetch
    token, empty = "", 0
    seen: set[str] = set()
    while True:
        query = {"pageSize": str(_PAGE), "currencyCode": currency}
        page = client.get_json(url, {**query, "pageToken": token} if token else query)
        rows = _rows(page, client)
        fetch.pages += 1
        fetch.rows += len(rows)
        ids = {str(row.get("skuId")) for row in rows}
        empty = 0 if rows else empty + 1
        token = page.get("nextPageToken") or ""
        if (ids and ids <= seen) or empty > _EMPTY_PAGES:
            raise client.failure(
                PricingIncomplete,
                f"{fetch.source} gives the same page again and again.",
                "Try again; if it stays so, ask Google, or the gateway in its place.",
            )
        seen |= ids
        yield from rows
        if not token:
            return


def _rows(page: Any, client: Client) -> list[Any]:
    if not isinstance(page, dict) or not isinstance(page.get("nextPageToken", ""), str):
        raise malformed(f"{client.fetch.source} answered with something else than a page", client)
    # Google leaves out a list that is empty; any other name in its place is a change.
    if "skus" not in page and set(page) - {"nextPageToken"}:
        raise malformed(f"{client.fetch.source} answered without skus", client)
    rows = page.get("skus", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise malformed(f"{client.fetch.source} answered with skus that are not a list", client)
    return rows


def _rates(sku: Mapping[str, Any], fetch: Fetch) -> Iterator[tuple[_Part, _Rate]]:
    """Yield what of a machine the SKU sells, in each of its regions; mostly nothing of one."""
    try:
        usage, description = sku["category"]["usageType"], sku["description"]
        sold = _sold(description)
        if usage not in _USAGE or sold is None:
            return
        # The description counts: some spot SKUs are filed under OnDemand.
        spot = "Preemptible" in description or "Spot" in description
        if usage == "Preemptible" and not spot:
            fetch.skipped["a spot price whose description is not as documented"] += 1
            return
        option = PurchaseOption.SPOT if spot else PurchaseOption.ON_DEMAND
        kind, of = sold
        rate = _rate(sku["pricingInfo"], _UNITS[kind])
        if isinstance(rate, str):
            fetch.skipped[rate] += 1
            return
        for region in sku["serviceRegions"]:
            yield _Part(kind, of, option, region), rate
    except (KeyError, TypeError, AttributeError, IndexError):
        fetch.skipped["not a SKU as documented"] += 1


def _unknown_series(sku: Mapping[str, Any]) -> str:
    """The name of a series whose cores are sold on demand, and whose machines nobody told us."""
    description = sku.get("description")
    if not isinstance(description, str) or _OTHER_SALES.search(description):
        return ""
    match = _MACHINE.fullmatch(description)
    return "" if match is None or match["series"] in SERIES else match["series"]


def _sold(description: str) -> tuple[str, str] | None:
    if match := _MACHINE.fullmatch(description):
        series = SERIES.get(match["series"])
        return (match["part"], series) if series else None
    if match := _GPU.fullmatch(description):
        name = match["gpu"] or match["rtx"]
        return "GPU", _GPU_NAMES.get(name, name)
    if match := _SERIES_SSD.fullmatch(description):
        series = SERIES.get(match["series"])
        return ("SSD", series) if series else None
    return ("SSD", "") if _SSD.fullmatch(description) else None


def _rate(history: Sequence[Mapping[str, Any]], units: Mapping[str, Decimal]) -> _Rate | str:
    if not history:
        return NO_PRICE
    info = history[-1]  # in the order of time
    expression = info["pricingExpression"]
    unit = expression["usageUnit"]
    if unit not in units:
        return f"the unit is {unit!r}, not {' or '.join(map(repr, units))}"
    tiers = expression.get("tieredRates") or []
    if not tiers:
        return NO_PRICE
    if len(tiers) > 1:
        return "the price depends on the amount, not as documented for machines"
    price = tiers[0]["unitPrice"]
    whole, nanos = price.get("units"), price.get("nanos")
    if whole is None and nanos is None:
        return NO_PRICE
    if not isinstance(nanos or 0, int) or not re.fullmatch(r"-?\d+", str(whole or "0")):
        return "the amount is not as documented"
    amount = Decimal(whole or "0") + Decimal(nanos or 0).scaleb(-9)
    amount *= units[unit]
    if unit.endswith(".mo"):
        amount /= HOURS_A_MONTH
    return _Rate(amount, price["currencyCode"], _moment(info.get("effectiveTime")))


def _moment(text: Any) -> datetime | None:
    try:
        # Google gives up to nine digits of a second, Python 3.10 reads six.
        whole = re.sub(r"\.\d+", "", text).replace("Z", "+00:00")
        return datetime.fromisoformat(whole).astimezone(timezone.utc)
    except (ValueError, TypeError):
        return None


# --- putting machines together --------------------------------------------------------------


def _prices(
    machine: MachineType,
    region: str,
    option: PurchaseOption,
    rates: Mapping[_Part, Sequence[_Rate]],
    fetch: Fetch,
    now: datetime,
    without: Counter[str],
) -> Iterator[Price]:
    """Yield the price of a machine; more than one only if a part of it has more than one.

    What the catalog has no price of, although it sells the machine's series, is counted in
    `without`.
    """
    parts = [("Core", machine.series, machine.vcpus), ("Ram", machine.series, machine.memory_gib)]
    if machine.gpus:
        parts.append(("GPU", machine.gpu, Decimal(machine.gpus)))
    if machine.local_ssd_gib:
        of = machine.series if machine.series in OWN_DISKS else ""
        parts.append(("SSD", of, machine.local_ssd_gib))
    choices = [rates.get(_Part(kind, of, option, region), ()) for kind, of, _ in parts]
    if not all(choices):
        # Both of a series are sold where it is; accelerators are not everywhere, as it may be.
        if bool(choices[0]) != bool(choices[1]):
            lacks = "RAM" if choices[0] else "cores"
            told = f"the price of {machine.series}'s {lacks} in {region} is missing"
            fetch.skipped[f"{told} ({option.value})"] += 1
        elif choices[0] and machine.local_ssd_gib and not choices[-1]:
            without[f"{machine.series} with local disks in {region}, {option.value}"] += 1
        return
    for chosen in product(*choices):
        currencies = {rate.currency for rate in chosen}
        if len(currencies) > 1:
            told = f"the unit of {machine.series}'s parts in {region} is not one currency"
            fetch.skipped[told] += 1
            continue
        hourly = sum(
            (count * rate.hourly for (*_, count), rate in zip(parts, chosen, strict=True)),
            Decimal(0),
        )
        if any(rate.hourly == 0 for rate in chosen):
            # The others do not make up for a part that is said to cost nothing: so is the whole,
            # and whoever checks prices sees it.
            hourly = Decimal(0)
        yield Price(
            provider="gcp",
            region=region,
            instance_type=machine.name,
            family=machine.name.partition("-")[0],
            purchase_option=option,
            hourly=hourly,
            currency=currencies.pop(),
            amount=hourly,
            unit="h",
            vcpus=machine.vcpus,
            memory_gib=machine.memory_gib,
            gpu_count=machine.gpus,
            gpu_model=_GPU_MODELS.get(machine.gpu, machine.gpu) or None,
            gpu_memory_gib=machine.gpu_memory_gib,
            effective=max((r.effective for r in chosen if r.effective is not None), default=None),
            source=fetch.source,
            fetched_at=now,
        )
