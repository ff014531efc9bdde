"""AWS: the Price List Query API, EC2's spot prices, and the public price files.

Written from AWS's documents, botocore's service models of `pricing` (2017-10-15) and `ec2`
(2016-11-15), and the header of a public price file of 2025-09-12:

* https://docs.aws.amazon.com/aws-cost-management/latest/APIReference/API_pricing_GetProducts.html
* https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/reading-service-price-list-file-for-services.html
* https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeSpotPriceHistory.html
* https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html

One server answers all three, as a gateway would: `POST /` is the API of `pricing` or of EC2, by
how it is asked; `GET /offers/...` are the files. Signatures are verified.

    with AWSServer() as server:
        server.fault = Fault.ZERO_PRICE      # until set to None
        server.edit = lambda sku, row: row   # or change any product as you like

What the faults of the documents touch: prices and units those of `m5.xlarge` in the first
region; the accelerator is `g5.xlarge`'s; the dropped type is `c5.large`, the dropped region the
last one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from functools import cache
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from tests.pricing.servers.faults import CONNECTION_FAULTS, Fault
from tests.pricing.servers.tls import Reply, Request, TLSServer

ACCESS_KEY = "AKIAIOSFODNN7EXAMPLE"
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
"""The example key of AWS's own documents; the only one that the server knows."""

EFFECTIVE = "2024-11-01T00:00:00Z"


@dataclass(frozen=True)
class Machine:
    """A type, what it has, and its price for Linux in us-east-1."""

    name: str
    vcpu: int
    memory: str
    linux: str
    gpu: int = 0
    gpu_memory: str = ""

    @property
    def family(self) -> str:
        """What the list calls its product family."""
        return "Compute Instance (bare metal)" if ".metal" in self.name else "Compute Instance"


MACHINES = (
    Machine("t3.micro", 2, "1", "0.0104"),
    Machine("t3.small", 2, "2", "0.0208"),
    Machine("t3.medium", 2, "4", "0.0416"),
    Machine("m5.large", 2, "8", "0.096"),
    Machine("m5.xlarge", 4, "16", "0.192"),
    Machine("m5.2xlarge", 8, "32", "0.384"),
    Machine("m5.4xlarge", 16, "64", "0.768"),
    Machine("m5.metal", 96, "384", "4.608"),
    Machine("c5.large", 2, "4", "0.085"),
    Machine("c5.xlarge", 4, "8", "0.17"),
    Machine("c5.2xlarge", 8, "16", "0.34"),
    Machine("r5.large", 2, "16", "0.126"),
    Machine("r5.xlarge", 4, "32", "0.252"),
    Machine("r5.2xlarge", 8, "64", "0.504"),
    Machine("g4dn.xlarge", 4, "16", "0.526", 1, "16 GB"),
    Machine("g5.xlarge", 4, "16", "1.006", 1, "24 GB"),
    Machine("p3.2xlarge", 8, "61", "3.06", 1, "16 GB"),
    Machine("p3.8xlarge", 32, "244", "12.24", 4, "64 GB"),
    Machine("p5.48xlarge", 192, "2,048", "55.04", 8, "640 GB HBM3"),
)
"""Public on-demand prices of us-east-1."""

_GPUS = {
    "g4dn": ("T4", 16384),
    "g5": ("A10G", 24576),
    "p3": ("V100", 16384),
    "p5": ("H100", 81920),
}

REGIONS: Mapping[str, tuple[str, str, str]] = {
    "us-east-1": ("US East (N. Virginia)", "", "1"),
    "eu-central-1": ("EU (Frankfurt)", "EUC1-", "1.15"),
    "ap-northeast-1": ("Asia Pacific (Tokyo)", "APN1-", "1.25"),
}
"""Each region's name, the beginning of its usage types, and how its prices are to Virginia's."""

_VARIANTS: tuple[tuple[str, Mapping[str, str], Callable[[Decimal, int], Decimal]], ...] = (
    ("L", {}, lambda price, _: price),
    ("W", {"operatingSystem": "Windows"}, lambda price, vcpu: price + Decimal("0.046") * vcpu),
    ("D", {"tenancy": "Dedicated"}, lambda price, _: price * Decimal("1.10")),
    ("U", {"capacitystatus": "UnusedCapacityReservation"}, lambda price, _: price),
    ("A", {"capacitystatus": "AllocatedCapacityReservation"}, lambda *_: Decimal(0)),
    ("S", {"preInstalledSw": "SQL Std"}, lambda price, vcpu: price + Decimal("0.12") * vcpu),
    ("H", {"operatingSystem": "RHEL"}, lambda price, vcpu: price + Decimal("0.0144") * vcpu),
    ("B", {"marketoption": "CapacityBlock"}, lambda *_: Decimal(0)),
)
"""The rows that surround each price, by what differs from it; a filter must leave them out."""

CSV_COLUMNS = """
SKU,OfferTermCode,RateCode,TermType,PriceDescription,EffectiveDate,StartingRange,
EndingRange,Unit,PricePerUnit,Currency,RelatedTo,LeaseContractLength,PurchaseOption,
OfferingClass,Product Family,serviceCode,Location,Location Type,Instance Type,
Current Generation,Instance Family,vCPU,Physical Processor,Clock Speed,Memory,Storage,
Network Performance,Processor Architecture,Storage Media,Volume Type,Max Volume Size,
Max IOPS/volume,Max IOPS Burst Performance,Max throughput/volume,Provisioned,Tenancy,
EBS Optimized,Operating System,License Model,Group,Group Description,Transfer Type,
From Location,From Location Type,To Location,To Location Type,usageType,operation,
AvailabilityZone,CapacityStatus,ClassicNetworkingSupport,Dedicated EBS Throughput,ECU,
Elastic Graphics Type,Enhanced Networking Supported,From Region Code,GPU,GPU Memory,
Instance,Instance Capacity - 10xlarge,Instance Capacity - 12xlarge,
Instance Capacity - 16xlarge,Instance Capacity - 18xlarge,Instance Capacity - 24xlarge,
Instance Capacity - 2xlarge,Instance Capacity - 32xlarge,Instance Capacity - 4xlarge,
Instance Capacity - 8xlarge,Instance Capacity - 9xlarge,Instance Capacity - large,
Instance Capacity - medium,Instance Capacity - metal,Instance Capacity - xlarge,
instanceSKU,Intel AVX2 Available,Intel AVX Available,Intel Turbo Available,MarketOption,
Normalization Size Factor,Physical Cores,Pre Installed S/W,Processor Features,Product Type,
Region Code,Resource Type,serviceName,SnapshotArchiveFeeType,To Region Code,
Volume API Name,VPCNetworkingSupport
""".replace("\n", "").split(",")

_CSV_ATTRIBUTES = {
    "Location": "location",
    "Location Type": "locationType",
    "Instance Type": "instanceType",
    "Current Generation": "currentGeneration",
    "Instance Family": "instanceFamily",
    "vCPU": "vcpu",
    "Physical Processor": "physicalProcessor",
    "Clock Speed": "clockSpeed",
    "Memory": "memory",
    "Storage": "storage",
    "Network Performance": "networkPerformance",
    "Processor Architecture": "processorArchitecture",
    "Tenancy": "tenancy",
    "Operating System": "operatingSystem",
    "License Model": "licenseModel",
    "usageType": "usagetype",
    "operation": "operation",
    "CapacityStatus": "capacitystatus",
    "Dedicated EBS Throughput": "dedicatedEbsThroughput",
    "Enhanced Networking Supported": "enhancedNetworkingSupported",
    "GPU": "gpu",
    "GPU Memory": "gpuMemory",
    "MarketOption": "marketoption",
    "Normalization Size Factor": "normalizationSizeFactor",
    "Pre Installed S/W": "preInstalledSw",
    "Processor Features": "processorFeatures",
    "Region Code": "regionCode",
    "serviceName": "servicename",
    "VPCNetworkingSupport": "vpcnetworkingsupport",
    "AvailabilityZone": "availabilityzone",
}

Row = dict[str, Any]


class AWSServer(TLSServer):
    """AWS, as far as prices go.

    Args:
        machines: The types; `generated_machines` makes many.
        regions: Where they are; `generated_regions` makes many.

    Attributes:
        past_spot_price: If set, each spot price has older ones of this amount about it.
        edit: Changes each product before it is served: `edit(sku, row)`, `None` to drop it.
        filler: How many reserved rows the file has for each price, to make it as big as AWS's.
        variants: The rows around each price; the first is the price itself.
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
        Fault.WINDOWS_AS_LINUX,
        Fault.SPOT_SWAPPED,
        Fault.WRONG_UNIT,
        Fault.OTHER_CURRENCY,
        Fault.CHEAP_GPU,
        Fault.REGION_DROPPED,
        Fault.TYPE_DROPPED,
    }
    NOT_APPLICABLE: Mapping[Fault, str] = {}

    def __init__(
        self,
        machines: Sequence[Machine] = MACHINES,
        regions: Mapping[str, tuple[str, str, str]] = REGIONS,
    ) -> None:
        super().__init__()
        self.machines = tuple(machines)
        self.regions = dict(regions)
        self.edit: Callable[[str, Row], Row | None] | None = None
        self.filler = 3
        self.variants = _VARIANTS
        self.past_spot_price = ""
        self._published = datetime.now(timezone.utc).replace(microsecond=0) - timedelta(hours=5)
        self._matched: dict[tuple[Fault | None, str], list[Row]] = {}
        self._count = 0

    def answer(self, request: Request) -> Reply:
        if request.method == "GET":
            return self._file(request)
        refused = self._refused(request)
        if refused is not None:
            return refused if request.header("X-Amz-Target") else _ec2_error(refused)
        if request.header("X-Amz-Target") == "AWSPriceListService.GetProducts":
            return self._get_products(request.document)
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        if form.get("Action") == "DescribeSpotPriceHistory":
            return self._spot(form, _scope(request)[1])
        if form.get("Action") == "DescribeInstanceTypes":
            return self._instance_types(form)
        return _error("UnknownOperationException", "unknown operation")

    def throttled(self) -> Reply:
        if self.requests[-1].method == "GET":
            said = (
                b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
            )
            return Reply(503, said, content_type="application/xml")
        slow = _error("ThrottlingException", "Rate exceeded")
        return slow if self.requests[-1].header("X-Amz-Target") else _ec2_error(slow)

    # --- who asks ---------------------------------------------------------------------------

    def _refused(self, request: Request) -> Reply | None:
        if self.fault is Fault.EXPIRED_TOKEN:
            return _error(
                "ExpiredTokenException", "The security token included in the request is expired"
            )
        if not request.header("Authorization"):
            return _error(
                "MissingAuthenticationTokenException", "Missing Authentication Token", 403
            )
        key, _, _ = _scope(request)
        if key != ACCESS_KEY:
            return _error(
                "UnrecognizedClientException",
                "The security token included in the request is invalid.",
            )
        if not _signature_fits(request):
            return _error("InvalidSignatureException", "The request signature does not match")
        if self.fault is Fault.FORBIDDEN:
            return _error(
                "AccessDeniedException",
                "User: arn:aws:iam::123456789012:user/nobody is not authorized to perform: "
                "pricing:GetProducts",
            )
        return None

    # --- the products -----------------------------------------------------------------------

    def products(self, region: str) -> Iterator[Row]:
        """All products of a region, with what the fault makes of them."""
        location, prefix, factor = self.regions[region]
        if self.fault is Fault.REGION_DROPPED and region == list(self.regions)[-1]:
            return
        for machine in self.machines:
            if self.fault is Fault.TYPE_DROPPED and machine.name == "c5.large":
                continue
            price = Decimal(machine.linux) * Decimal(factor)
            for letter, differs, amount in self.variants:
                row = _product(
                    machine,
                    region,
                    location,
                    prefix,
                    letter,
                    differs,
                    amount(price, machine.vcpu),
                    self._published,
                )
                yield from self._faulty(row, machine, letter, region)

    def _faulty(self, row: Row, machine: Machine, letter: str, region: str) -> Iterator[Row]:
        touched = (
            letter == "L" and machine.name == "m5.xlarge" and region == next(iter(self.regions))
        )
        dimension = _dimension(row)
        amount = Decimal(dimension["pricePerUnit"]["USD"])
        changed: Mapping[Fault, Decimal] = {
            Fault.ZERO_PRICE: Decimal(0),
            Fault.INFLATED: amount * Decimal("1.10"),
            Fault.WINDOWS_AS_LINUX: amount + Decimal("0.046") * machine.vcpu,
            Fault.WRONG_UNIT: amount * 730,
        }
        if touched and self.fault is not None and self.fault in changed:
            dimension["pricePerUnit"] = {"USD": _amount(changed[self.fault])}
        if touched and self.fault is Fault.MISSING_PRICE:
            dimension["pricePerUnit"] = {}
        if touched and self.fault is Fault.OTHER_CURRENCY:
            dimension["pricePerUnit"] = {"CNY": _amount(amount)}
        if letter == "L" and self.fault is Fault.CHEAP_GPU and machine.name == "g5.xlarge":
            dimension["pricePerUnit"] = {"USD": _amount(Decimal("0.01"))}
        if letter == "L" and self.fault is Fault.SPOT_SWAPPED:
            dimension["pricePerUnit"] = {"USD": _amount(amount * Decimal("0.35"))}
        edited = self.edit(row["product"]["sku"], row) if self.edit else row
        if edited is not None:
            yield edited
            if touched and self.fault is Fault.DUPLICATE_IDS:
                copy = json.loads(json.dumps(edited))
                _dimension(copy)["pricePerUnit"] = {"USD": _amount(amount * 2)}
                yield copy

    # --- the API of `pricing` ---------------------------------------------------------------

    def _get_products(self, body: Mapping[str, Any]) -> Reply:
        if body.get("ServiceCode") != "AmazonEC2":
            return _error("NotFoundException", "no such service")
        size = body.get("MaxResults", 100)
        if not isinstance(size, int) or not 1 <= size <= 100:
            return _error("InvalidParameterException", "MaxResults must be between 1 and 100")
        filters = body.get("Filters", [])
        if any(set(one) != {"Type", "Field", "Value"} for one in filters):
            return _error("InvalidParameterException", "a filter needs Type, Field and Value")
        rows = self._matching(filters)
        if rows is None:
            return _error("InvalidParameterException", "unknown filter type")
        try:
            first = _position(body.get("NextToken"))
        except ValueError:
            return _error("InvalidNextTokenException", "The pagination token is invalid")
        loops = self.fault in (Fault.LOOP, Fault.LOOP_CHANGING_TOKENS)
        if loops:
            first = 0
        page = rows[first : first + size]
        more = first + size < len(rows)
        if self.fault is Fault.TRUNCATED_PAGE:
            page = page[: (len(page) + 1) // 2]
        answer: Row = {"FormatVersion": "aws_v1", "PriceList": [json.dumps(row) for row in page]}
        if self.fault is Fault.OBJECTS:
            answer["PriceList"] = page
        if self.fault is Fault.RENAMED_KEY:
            answer["Prices"] = answer.pop("PriceList")
        if more or loops:
            self._count += self.fault is Fault.LOOP_CHANGING_TOKENS
            answer["NextToken"] = _token(first + size, self._count)
        return _amazon(Reply.json(answer), "application/x-amz-json-1.1")

    def _matching(self, filters: Sequence[Mapping[str, str]]) -> list[Row] | None:
        key = (self.fault, json.dumps(filters))
        if key not in self._matched or self.edit:
            regions = [f["Value"] for f in filters if f["Field"] == "regionCode"] or self.regions
            found = []
            for region in regions:
                for row in self.products(region) if region in self.regions else ():
                    fits = [_fits(row, one) for one in filters]
                    if None in fits:
                        return None
                    if all(fits):
                        found.append(row)
            self._matched[key] = found
        return self._matched[key]

    # --- EC2's spot prices ------------------------------------------------------------------

    def _spot(self, form: Mapping[str, str], region: str) -> Reply:
        if self.fault is Fault.REGION_DROPPED and region == list(self.regions)[-1]:
            region = ""
        items = []
        if form.get("ProductDescription.1") in (None, "Linux/UNIX") and region in self.regions:
            factor = Decimal(self.regions[region][2])
            share = Decimal("0.35") if self.fault is not Fault.SPOT_SWAPPED else Decimal(1)
            for machine in self.machines:
                for zone, extra in (("a", Decimal(0)), ("b", Decimal("0.0011"))):
                    price = Decimal(machine.linux) * factor * share + extra
                    item = _spot_item(machine.name, region + zone, f"{price:.6f}", hours=2)
                    old = _spot_item(machine.name, region + zone, self.past_spot_price, hours=9)
                    items.extend([old, item, old] if self.past_spot_price else [item])
        size = int(form.get("MaxResults", "1000"))
        first = _position(form.get("NextToken"))
        if self.fault in (Fault.LOOP, Fault.LOOP_CHANGING_TOKENS):
            first = 0
        page = items[first : first + size]
        token = ""
        if first + size < len(items) or self.fault is Fault.LOOP_CHANGING_TOKENS:
            self._count += 1
            token = _token(first + size, self._count)
        name = "spotPrices" if self.fault is Fault.RENAMED_KEY else "spotPriceHistorySet"
        text = (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            '<DescribeSpotPriceHistoryResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">'
            "<requestId>b55EXAMPLE-1234-5678</requestId>"
            f"<{name}>{''.join(page)}</{name}><nextToken>{escape(token)}</nextToken>"
            "</DescribeSpotPriceHistoryResponse>"
        )
        return Reply(body=text.encode(), content_type="text/xml;charset=UTF-8")

    def _instance_types(self, form: Mapping[str, str]) -> Reply:
        """Which accelerators types have; gpuhunt asks it, the product does not."""
        wanted = {value for name, value in form.items() if name.startswith("InstanceType.")}
        items = []
        for machine in self.machines:
            if machine.name in wanted and machine.gpu:
                name, mebibytes = _GPUS[machine.name.partition(".")[0]]
                gpu = (
                    f"<name>{name}</name><manufacturer>NVIDIA</manufacturer>"
                    f"<count>{machine.gpu}</count>"
                    f"<memoryInfo><sizeInMiB>{mebibytes}</sizeInMiB></memoryInfo>"
                )
                items.append(
                    f"<item><instanceType>{machine.name}</instanceType>"
                    f"<gpuInfo><gpus><item>{gpu}</item></gpus></gpuInfo></item>"
                )
        text = (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            '<DescribeInstanceTypesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">'
            "<requestId>b55EXAMPLE-1234-5678</requestId>"
            f"<instanceTypeSet>{''.join(items)}</instanceTypeSet></DescribeInstanceTypesResponse>"
        )
        return Reply(body=text.encode(), content_type="text/xml;charset=UTF-8")

    # --- the public files -------------------------------------------------------------------

    def _file(self, request: Request) -> Reply:
        version = self._published.strftime("%Y%m%d%H%M%S")
        base = "/offers/v1.0/aws"
        if request.path == f"{base}/index.json":
            ec2 = {
                "offerCode": "AmazonEC2",
                "versionIndexUrl": f"{base}/AmazonEC2/index.json",
                "currentVersionUrl": f"{base}/AmazonEC2/current/index.json",
                "currentRegionIndexUrl": f"{base}/AmazonEC2/current/region_index.json",
            }
            return Reply.json(self._about({"offers": {"AmazonEC2": ec2}}))
        if request.path == f"{base}/AmazonEC2/current/region_index.json":
            regions = {
                region: {
                    "regionCode": region,
                    "currentVersionUrl": f"{base}/AmazonEC2/{version}/{region}/index.json",
                }
                for region in self.regions
                if not (self.fault is Fault.REGION_DROPPED and region == list(self.regions)[-1])
            }
            return Reply.json(self._about({"regions": regions}))
        found = re.fullmatch(
            rf"{base}/AmazonEC2/(current|{version})/([\w-]+)/index\.csv", request.path
        )
        if found and found[2] in self.regions:
            return self._csv_file(request, found[2])
        if request.path == f"{base}/AmazonEC2/current/index.csv":
            return self._csv_file(request, *self.regions)
        denied = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        return Reply(403, denied.encode(), content_type="application/xml")

    def _about(self, content: Row) -> Row:
        disclaimer = "This pricing list is for informational purposes only."
        when = _zulu(self._published)
        return {
            "formatVersion": "v1.0",
            "disclaimer": disclaimer,
            "publicationDate": when,
            **content,
        }

    def _csv_file(self, request: Request, *regions: str) -> Reply:
        """Big files are sent as they are made; small ones whole, so that they have a length."""
        pieces = self.csv_pieces(*regions)
        if len(self.machines) > 100:
            return Reply(body=pieces, content_type="text/csv")
        return Reply(body=b"".join(pieces), content_type="text/csv", headers={"ETag": '"1"'})

    def csv_pieces(self, *regions: str) -> Iterator[bytes]:
        """The file of `regions`, piece by piece."""
        columns = list(CSV_COLUMNS)
        if self.fault is Fault.RENAMED_KEY:
            columns[columns.index("PricePerUnit")] = "Price"
        head = [
            ["FormatVersion", "v1.0"],
            ["Disclaimer", "This pricing list is for informational purposes only."],
            ["Publication Date", _zulu(self._published)],
            ["Version", self._published.strftime("%Y%m%d%H%M%S")],
            ["OfferCode", "AmazonEC2"],
            columns,
        ]
        yield "".join(_csv_line(line) for line in head).encode()
        for region in regions:
            text: list[str] = []
            rows = list(self.products(region))
            if self.fault is Fault.TRUNCATED_PAGE:
                rows = rows[: len(rows) // 2]
            for row in rows:
                text.extend(_csv_lines(row, self.filler))
                if len(text) > 500:
                    yield "".join(text).encode()
                    text.clear()
            if text:
                yield "".join(text).encode()


def generated_machines(count: int) -> list[Machine]:
    """`count` types in families of 14 sizes, the prices of a family in proportion."""
    sizes = (1, 2, 4, 8, 12, 16, 18, 24, 32, 36, 48, 64, 96, 128)
    machines = []
    for index in range(count):
        family, size = divmod(index, len(sizes))
        units = sizes[size]
        price = (Decimal("0.040") + Decimal(family) / 1000) * units
        name = f"x{family}.{units}xlarge" if units > 1 else f"x{family}.xlarge"
        machines.append(Machine(name, 4 * units, f"{16 * units:,}", f"{price}"))
    return machines


def generated_regions(count: int) -> dict[str, tuple[str, str, str]]:
    """`count` regions, whose prices differ."""
    return {
        f"xx-made-{index + 1}": (f"Made ({index + 1})", f"XX{index}-", f"{1 + index / 100}")
        for index in range(count)
    }


# --- one product ----------------------------------------------------------------------------


def _product(
    machine: Machine,
    region: str,
    location: str,
    prefix: str,
    letter: str,
    differs: Mapping[str, str],
    amount: Decimal,
    published: datetime,
) -> Row:
    sku = _sku(f"{region} {machine.name} {letter}")
    term = f"{sku}.JRTCKXETXF"
    attributes = {
        "servicecode": "AmazonEC2",
        "servicename": "Amazon Elastic Compute Cloud",
        "location": location,
        "locationType": "AWS Region",
        "regionCode": region,
        "availabilityzone": "NA",
        "instanceType": machine.name,
        "instanceFamily": "GPU instance" if machine.gpu else "General purpose",
        "currentGeneration": "Yes",
        "vcpu": str(machine.vcpu),
        "memory": f"{machine.memory} GiB",
        "physicalProcessor": "Intel Xeon Platinum 8175",
        "clockSpeed": "3.1 GHz",
        "storage": "EBS only",
        "networkPerformance": "Up to 10 Gigabit",
        "processorArchitecture": "64-bit",
        "processorFeatures": "Intel AVX; Intel AVX2; Intel Turbo",
        "tenancy": "Shared",
        "operatingSystem": "Linux",
        "licenseModel": "No License required",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
        "marketoption": "OnDemand",
        "usagetype": f"{prefix}BoxUsage:{machine.name}",
        "operation": "RunInstances",
        "normalizationSizeFactor": str(machine.vcpu * 2),
        "enhancedNetworkingSupported": "Yes",
        "vpcnetworkingsupport": "true",
        **({"gpu": str(machine.gpu), "gpuMemory": machine.gpu_memory} if machine.gpu else {}),
        **differs,
    }
    dimension = {
        "rateCode": f"{term}.6YS6EN2CT7",
        "unit": "Hrs",
        "beginRange": "0",
        "endRange": "Inf",
        "description": f"${_amount(amount)} per On Demand {attributes['operatingSystem']} "
        f"{machine.name} Instance Hour",
        "appliesTo": [],
        "pricePerUnit": {"USD": _amount(amount)},
    }
    on_demand = {
        "offerTermCode": "JRTCKXETXF",
        "sku": sku,
        "effectiveDate": EFFECTIVE,
        "priceDimensions": {f"{term}.6YS6EN2CT7": dimension},
        "termAttributes": {},
    }
    return {
        "product": {"productFamily": machine.family, "sku": sku, "attributes": attributes},
        "serviceCode": "AmazonEC2",
        "terms": {"OnDemand": {term: on_demand}, "Reserved": _reserved(sku, amount)},
        "version": published.strftime("%Y%m%d%H%M%S"),
        "publicationDate": _zulu(published),
    }


def _reserved(sku: str, amount: Decimal) -> Row:
    """One of the reserved terms that a real product has, so that they must be left out."""
    term = f"{sku}.4NA7Y494T4"
    return {
        term: {
            "offerTermCode": "4NA7Y494T4",
            "sku": sku,
            "effectiveDate": EFFECTIVE,
            "priceDimensions": {
                f"{term}.6YS6EN2CT7": {
                    "rateCode": f"{term}.6YS6EN2CT7",
                    "unit": "Hrs",
                    "beginRange": "0",
                    "endRange": "Inf",
                    "description": "reserved instance applied",
                    "appliesTo": [],
                    "pricePerUnit": {"USD": _amount(amount * Decimal("0.63"))},
                }
            },
            "termAttributes": {
                "LeaseContractLength": "1yr",
                "OfferingClass": "standard",
                "PurchaseOption": "No Upfront",
            },
        }
    }


def _dimension(row: Row) -> Row:
    (term,) = row["terms"]["OnDemand"].values()
    (dimension,) = term["priceDimensions"].values()
    return dimension


@cache
def _sku(text: str) -> str:
    return base64.b32encode(hashlib.sha256(text.encode()).digest()).decode()[:16]


def _amount(amount: Decimal) -> str:
    return f"{amount:.10f}"


def _zulu(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _fits(row: Row, wanted: Mapping[str, str]) -> bool | None:
    attributes = row["product"]["attributes"]
    field = wanted["Field"]
    value = (
        row["product"]["productFamily"] if field == "productFamily" else attributes.get(field, "")
    )
    options = wanted["Value"].split(",")
    return {
        "TERM_MATCH": value == wanted["Value"],
        "EQUALS": value == wanted["Value"],
        "CONTAINS": wanted["Value"] in value,
        "ANY_OF": value in options,
        "NONE_OF": value not in options,
    }.get(wanted["Type"])


def _csv_lines(row: Row, filler: int) -> Iterator[str]:
    product = row["product"]
    dimension = _dimension(row)
    currency, amount = next(iter(dimension["pricePerUnit"].items()), ("USD", ""))
    attributes = product["attributes"]
    cells = {
        "SKU": product["sku"],
        "OfferTermCode": "JRTCKXETXF",
        "RateCode": dimension["rateCode"],
        "TermType": "OnDemand",
        "PriceDescription": dimension["description"],
        "EffectiveDate": EFFECTIVE[:10],
        "StartingRange": "0",
        "EndingRange": "Inf",
        "Unit": dimension["unit"],
        "PricePerUnit": amount,
        "Currency": currency,
        "Product Family": product["productFamily"],
        "serviceCode": "AmazonEC2",
        **{column: attributes.get(name, "") for column, name in _CSV_ATTRIBUTES.items()},
    }
    line = _csv_line([cells.get(name, "") for name in CSV_COLUMNS])
    yield line
    reserved = line.replace('"OnDemand"', '"Reserved"', 1)
    for _ in range(filler):
        yield reserved


def _csv_line(cells: Sequence[str]) -> str:
    """As AWS writes it: what there is in quotes, what there is not as nothing."""
    return (
        ",".join(f'"{cell.replace(chr(34), chr(34) * 2)}"' if cell else "" for cell in cells) + "\n"
    )


def _spot_item(name: str, zone: str, price: str, *, hours: int) -> str:
    when = datetime.now(timezone.utc) - timedelta(hours=hours)
    return (
        f"<item><instanceType>{name}</instanceType>"
        "<productDescription>Linux/UNIX</productDescription>"
        f"<spotPrice>{price}</spotPrice><timestamp>{when:%Y-%m-%dT%H:%M:%S}.000Z</timestamp>"
        f"<availabilityZone>{zone}</availabilityZone></item>"
    )


# --- the protocol ---------------------------------------------------------------------------


def _error(code: str, message: str, status: int = 400) -> Reply:
    kind = f"com.amazonaws.pricing#{code}"
    reply = Reply.json({"__type": kind, "message": message}, status)
    return _amazon(reply, "application/x-amz-json-1.1")


_EC2_ERRORS = {
    "ThrottlingException": (503, "RequestLimitExceeded"),
    "ExpiredTokenException": (400, "RequestExpired"),
    "AccessDeniedException": (403, "UnauthorizedOperation"),
}


def _ec2_error(reply: Reply) -> Reply:
    """The same refusal as EC2 says it: in XML, with codes of its own, AuthFailure for the rest.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
    """
    assert isinstance(reply.body, bytes)
    error = json.loads(reply.body)
    status, code = _EC2_ERRORS.get(error["__type"].partition("#")[2], (401, "AuthFailure"))
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Response><Errors><Error><Code>{code}</Code><Message>{escape(error['message'])}"
        "</Message></Error></Errors><RequestID>ea966190-EXAMPLE</RequestID></Response>"
    )
    return Reply(status, text.encode(), content_type="text/xml;charset=UTF-8")


def _amazon(reply: Reply, content_type: str) -> Reply:
    reply.content_type = content_type
    reply.headers["x-amzn-RequestId"] = "9a2e9f4d-EXAMPLE"
    return reply


def _token(position: int, salt: int) -> str:
    return base64.b64encode(f"{position}:{salt}:EXAMPLE".encode()).decode()


def _position(token: str | None) -> int:
    if not token:
        return 0
    return int(base64.b64decode(token, validate=True).split(b":")[0])


_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>\w+)/(?P<date>\d{8})/(?P<region>[\w-]+)/(?P<service>\w+)"
    r"/aws4_request, ?SignedHeaders=(?P<headers>[\w;-]+), ?Signature=(?P<signature>[0-9a-f]{64})"
)


def _scope(request: Request) -> tuple[str, str, str]:
    found = _AUTHORIZATION.fullmatch(request.header("Authorization"))
    return (found["key"], found["region"], found["service"]) if found else ("", "", "")


def _signature_fits(request: Request) -> bool:
    """Signature Version 4, computed anew from what arrived."""
    found = _AUTHORIZATION.fullmatch(request.header("Authorization"))
    when = request.header("X-Amz-Date")
    if not found or not re.fullmatch(r"\d{8}T\d{6}Z", when) or when[:8] != found["date"]:
        return False
    names = found["headers"].split(";")
    canonical = "\n".join(
        [
            request.method,
            request.path,
            "",
            *(f"{name}:{' '.join(request.header(name).split())}" for name in names),
            "",
            found["headers"],
            hashlib.sha256(request.body).hexdigest(),
        ]
    )
    scope = f"{found['date']}/{found['region']}/{found['service']}/aws4_request"
    text = "\n".join(
        ["AWS4-HMAC-SHA256", when, scope, hashlib.sha256(canonical.encode()).hexdigest()]
    )
    key = f"AWS4{SECRET_KEY}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    expected = hmac.digest(key, text.encode(), "sha256").hex()
    return hmac.compare_digest(expected, found["signature"]) and "host" in names
