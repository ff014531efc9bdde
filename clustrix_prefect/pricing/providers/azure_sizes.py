"""What machines Azure's sizes are: the list of Azure Resource Manager, with azure-mgmt-compute."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import SecretStr

from clustrix_prefect.pricing.accelerators import is_accelerated
from clustrix_prefect.pricing.errors import (
    PricingError,
    PricingForbidden,
    PricingIncomplete,
    PricingMalformed,
    PricingThrottled,
    PricingUnauthorised,
    PricingUnreachable,
)
from clustrix_prefect.pricing.fetch import Fetch
from clustrix_prefect.pricing.http import ca_bundle, without_secrets
from clustrix_prefect.pricing.price import Price

if TYPE_CHECKING:
    from azure.mgmt.compute.models import ResourceSku

T = TypeVar("T")

ENDPOINT = "https://management.azure.com"
AUTHORITY = "https://login.microsoftonline.com"

_ATTEMPTS = 4
_SERVER_ERROR = re.compile(r"HTTP Error: 5\d\d")  # all that MSAL tells of it


@dataclass(frozen=True, slots=True)
class AzureCredentials:
    """A service principal that may list the sizes of a subscription (role Reader).

    Attributes:
        subscription_id: The subscription whose sizes are listed.
        tenant_id: The directory of the service principal.
        client_id: The service principal.
        client_secret: Its secret.
    """

    subscription_id: str
    tenant_id: str
    client_id: str
    client_secret: SecretStr


@dataclass(frozen=True, slots=True)
class _Size:
    vcpus: Decimal | None
    memory_gib: Decimal | None
    gpu_count: int | None


class Sizes:
    """Asks Azure Resource Manager what machines the sizes are.

    Args:
        credentials: Who asks.
        endpoint: Azure Resource Manager.
        authority: Where the service principal logs in.
        fetch: Gets the facts of the asking.
        ends: The deadline, by `time.monotonic()`.
    """

    def __init__(
        self,
        credentials: AzureCredentials,
        endpoint: str,
        authority: str,
        fetch: Fetch,
        ends: float,
    ) -> None:
        self._credentials = credentials
        self._endpoint = endpoint
        self._authority = authority
        self._fetch = fetch
        self._ends = ends

    def added_to(self, prices: Sequence[Price]) -> list[Price]:
        """Return the prices, with processors, memory and accelerators of the sizes that are known.

        Raises:
            PricingError: One of its subclasses, by what went wrong.
        """
        sizes: dict[str, _Size] = {}
        regions: dict[str, set[str]] = {}
        for price in prices:
            regions.setdefault(str(price.region), set()).add(price.instance_type)
        for region, types in regions.items():
            # A size is the same machine in every region: most regions need not be asked.
            if not types <= sizes.keys():
                sizes.update(self._within_the_deadline(partial(self._of_region, region)))
        return [
            replace(price, vcpus=size.vcpus, memory_gib=size.memory_gib, gpu_count=size.gpu_count)
            if (size := sizes.get(price.instance_type))
            else price
            for price in prices
        ]

    def _within_the_deadline(self, ask: Callable[[], T]) -> T:
        """What `ask` returns. requests ends a silence, and not an answer that drips for ever."""
        results: list[T | BaseException] = []

        def run() -> None:
            try:
                results.append(ask())
            except BaseException as error:
                results.append(error)

        # A daemon, so that nobody waits for it at the end of the program either.
        thread = Thread(target=run, name="azure-sizes", daemon=True)
        thread.start()
        thread.join(max(0.0, self._ends - time.monotonic()))
        if not results:
            raise self._failure(
                PricingUnreachable,
                f"{without_secrets(self._endpoint)} was not done with the sizes by the deadline.",
                "Try again later, or allow a longer deadline.",
            )
        if isinstance(results[0], BaseException):
            raise results[0]
        return results[0]

    def _of_region(self, region: str) -> dict[str, _Size]:
        try:
            from azure.identity import ClientSecretCredential
            from azure.mgmt.compute import ComputeManagementClient
        except ImportError as error:
            raise self._failure(
                PricingUnreachable,
                "Azure's client library is not installed.",
                'Install it: pip install "clustrix-prefect[azure]".',
            ) from error
        given = self._credentials
        remaining = max(1.0, self._ends - time.monotonic())
        settings: dict[str, Any] = {
            # How long to wait, and how often, for a login or an answer.
            "retry_total": _ATTEMPTS - 1,
            "retry_backoff_factor": 0.25,
            "connection_timeout": min(30.0, remaining),
            "read_timeout": min(60.0, remaining),
            # requests looks at fewer variables than the other clients do.
            "connection_verify": ca_bundle() or True,
        }
        with (
            self._named_failures(),
            ClientSecretCredential(
                given.tenant_id,
                given.client_id,
                given.client_secret.get_secret_value(),
                authority=self._authority,
                # It would ask Microsoft about authorities that are not Microsoft's.
                disable_instance_discovery=self._authority != AUTHORITY,
                **settings,
            ) as credential,
            ComputeManagementClient(
                credential,
                given.subscription_id,
                self._endpoint,
                credential_scopes=[f"{ENDPOINT}/.default"],
                raw_response_hook=self._note,
                **settings,
            ) as client,
        ):
            listed = client.resource_skus.list(filter=f"location eq '{region}'", timeout=remaining)
            return dict(self._read(listed.by_page()))

    def _read(self, pages: Any) -> Iterator[tuple[str, _Size]]:
        links: set[str] = set()
        for page in pages:
            skus = list(page)
            self._fetch.pages += 1
            for sku in skus:
                if sku.resource_type == "virtualMachines" and sku.name:
                    yield sku.name, _size(sku)
            link = pages.continuation_token
            if link in links or (link and not skus) or time.monotonic() > self._ends:
                raise self._failure(
                    PricingIncomplete,
                    "Azure's list of sizes does not end.",
                    "Try again; if it happens again, look for a gateway in between.",
                )
            links.add(link)

    def _note(self, response: Any) -> None:
        self._fetch.requests += 1
        status = response.http_response.status_code
        self._fetch.throttled += status == 429
        self._fetch.retries += status in (408, 429, 500, 502, 503, 504)

    @contextmanager
    def _named_failures(self) -> Iterator[None]:
        """Azure's failures, under our names."""
        from azure.core.exceptions import (
            AzureError,
            ClientAuthenticationError,
            DecodeError,
            HttpResponseError,
            IncompleteReadError,
            ServiceRequestError,
            ServiceResponseError,
        )

        try:
            yield
        except IncompleteReadError as error:
            raise self._broken_off() from error
        except DecodeError as error:
            raise self._malformed() from error
        except ClientAuthenticationError as error:
            # azure-identity calls it so, too, if the login cannot be reached or read.
            reasons = tuple(_chain(error))
            if any(isinstance(one, IncompleteReadError) for one in reasons):
                raise self._broken_off() from error
            if any(isinstance(one, (ServiceRequestError, ServiceResponseError)) for one in reasons):
                raise self._unreachable(self._authority) from error
            if any(_SERVER_ERROR.search(str(one)) for one in reasons):
                raise self._unreachable(self._authority) from error
            if any(isinstance(one, (DecodeError, ValueError)) for one in reasons):
                raise self._malformed() from error
            raise self._failure(
                PricingUnauthorised,
                "Azure does not accept the service principal.",
                "Check its tenant, its id and its secret, and whether the secret has expired.",
            ) from error
        except HttpResponseError as error:
            kind, remedy = _KINDS.get(
                error.status_code or 0,
                (PricingUnreachable, "Azure Resource Manager is out of order: try again later."),
            )
            raise self._failure(
                kind,
                f"Azure Resource Manager answered HTTP {error.status_code} for the sizes.",
                remedy,
            ) from error
        except AzureError as error:
            raise self._unreachable(self._endpoint) from error
        except (TypeError, ValueError, AttributeError) as error:
            raise self._malformed() from error

    def _malformed(self) -> PricingError:
        return self._failure(
            PricingMalformed,
            "Azure's list of sizes, or its login, is not as documented.",
            "Look whether the endpoints are the documented ones, and whether a gateway answers.",
        )

    def _broken_off(self) -> PricingError:
        return self._failure(
            PricingIncomplete,
            "The answer with Azure's sizes, or that of its login, broke off.",
            "Try again later; if it happens again, look for a proxy that cuts answers.",
        )

    def _unreachable(self, endpoint: str) -> PricingError:
        return self._failure(
            PricingUnreachable,
            f"{without_secrets(endpoint)} cannot be reached for Azure's sizes.",
            "Check the network, the proxy and the endpoint.",
        )

    def _failure(self, kind: type[PricingError], what: str, remedy: str) -> PricingError:
        return kind(what, remedy, provider=self._fetch.provider, fetch=self._fetch)


_KINDS: Mapping[int, tuple[type[PricingError], str]] = {
    401: (PricingUnauthorised, "Check the service principal's secret."),
    403: (PricingForbidden, "Give the service principal the role Reader on the subscription."),
    404: (PricingForbidden, "Check the subscription's id."),
    429: (PricingThrottled, "Ask less often."),
}


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _size(sku: ResourceSku) -> _Size:
    said = {pair.name: pair.value for pair in sku.capabilities or ()}
    return _Size(
        # Of constrained sizes fewer processors can be used than are there.
        vcpus=_number(said.get("vCPUsAvailable") or said.get("vCPUs")),
        memory_gib=_number(said.get("MemoryGB")),  # says GB; Microsoft's documents say GiB
        # FPGAs and the like are not counted as GPUs.
        gpu_count=int(_number(said.get("GPUs")) or 0)
        or (None if is_accelerated("azure", str(sku.name)) else 0),
    )


def _number(text: str | None) -> Decimal | None:
    if text is None:
        return None
    try:
        return Decimal(text)
    except InvalidOperation as error:
        raise ValueError(f"{text[:40]!r} is no number") from error
