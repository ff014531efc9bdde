"""The validation of prices at the sizes of the real lists: time, memory, and the checks alone."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

from tests.bench.apart import apart, peak_memory
from tests.bench.lab import Lab
from tests.bench.price_sources import AWS_REGIONS, AWS_TYPES, AZURE_REGIONS, serve
from tests.bench.table import Bound, Part, Row

MIB = 2**20
_BLOCK = "bench-prices"
_DEADLINE = 600.0
_ROUNDS = 3


@dataclass(frozen=True)
class Sources:
    """Where the sources listen, and what makes a client trust them.

    Attributes:
        environment: Variables of the asking process.
        options: For each provider, more arguments of its `fetch_prices`.
        regions: For each provider.
        credentials: Fields of a `PricingCredentials` block.
    """

    environment: Mapping[str, str]
    options: Mapping[str, Mapping[str, Any]]
    regions: Mapping[str, list[str]]
    credentials: Mapping[str, str]


@dataclass(frozen=True)
class Measured:
    """What one process measured of itself: time, most memory, and what it worked on."""

    seconds: float
    memory: int
    prices: int = 0
    received: int = 0
    rows: int = 0
    note: str = ""
    wall: float = 0.0


def measure(lab: Lab) -> Part:
    """All five providers at once through the flow; the checks; AWS's public file."""
    lab.prefect  # noqa: B018
    part = Part(
        f"Validating prices: AWS {AWS_TYPES:,} types x {AWS_REGIONS} regions, GCP 40,000 SKUs, "
        f"Azure 55,000 prices in {AZURE_REGIONS} regions, Lambda, Hugging Face"
    )
    with _sources() as sources:
        flow = apart(lab.log, validate, sources)
        checks = apart(lab.log, check, sources)
        file = apart(lab.log, read_file, sources)
    part.rows += [
        Row("the flow, all providers at once", f"{flow.seconds:.0f} s"),
        _memory("peak memory of the flow's process", flow.memory),
        Row(
            f"the checks of {checks.prices:,} prices, with a baseline of as many",
            f"{checks.seconds:.2f} s of processor time",
            f"{checks.wall:.2f} s by the clock",
            bound=Bound("<", 2.0, " s"),
            figure=checks.seconds,
        ),
        _memory("peak memory with that baseline beside the prices", checks.memory),
        Row(
            f"AWS's public file, {file.received / 1e6:,.0f} MB, {file.rows:,} rows",
            f"{file.seconds:.0f} s",
            bound=Bound(">=", 300, " MB"),
            figure=file.received / 1e6,
        ),
        _memory("peak memory while it is read", file.memory),
    ]
    part.remarks += [
        "The sources answer over TLS from another process of this machine, and share its cores.",
        f"The flow said: {flow.note}",
        f"The checks said: {checks.note}",
    ]
    return part


def _memory(what: str, measured: int) -> Row:
    return Row(
        what,
        f"{measured / MIB:.0f} MiB",
        bound=Bound("<", 500, " MiB"),
        figure=measured / MIB,
    )


@contextmanager
def _sources() -> Iterator[Sources]:
    """The sources, in a process of their own."""
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there,), daemon=True)
    process.start()
    try:
        yield Sources(**here.recv())
    finally:
        here.close()  # which is what ends it
        process.join(10)
        process.terminate()


# --- what runs in processes of their own ----------------------------------------------------


def validate(sources: Sources) -> Measured:
    """The flow, as a user runs it."""
    os.environ.update(sources.environment)
    from clustrix_prefect.pricing.blocks import PricingCredentials
    from clustrix_prefect.pricing.providers import PROVIDERS
    from flows.validate_pricing import validate_pricing

    PricingCredentials(**sources.credentials).save(_BLOCK, overwrite=True, _sync=True)  # type: ignore[call-arg]
    began = time.monotonic()
    state = validate_pricing(
        providers=[name for name in PROVIDERS if name in sources.options],
        regions=dict(sources.regions),
        credentials=_BLOCK,
        options={name: dict(options) for name, options in sources.options.items()},
        thresholds={"required_types": dict.fromkeys(PROVIDERS, ())},
        deadline=_DEADLINE,
        return_state=True,
    )
    return Measured(time.monotonic() - began, peak_memory(), note=str(state.message))


def check(sources: Sources) -> Measured:
    """The checks alone, on everything, beside a baseline that has everything."""
    os.environ.update(sources.environment)
    from clustrix_prefect.pricing.approval import proposed_amounts
    from clustrix_prefect.pricing.asking import ask, questions
    from clustrix_prefect.pricing.blocks import PricingCredentials
    from clustrix_prefect.pricing.checks import Asked, run_checks
    from clustrix_prefect.pricing.checks.comparison import counts_of
    from clustrix_prefect.pricing.validation import thresholds_with

    asked = questions(
        list(sources.options),
        regions=sources.regions,
        credentials=PricingCredentials(**sources.credentials),
        options=sources.options,
        deadline=_DEADLINE,
    )
    with ThreadPoolExecutor(len(asked)) as threads:
        answers = list(threads.map(ask, asked))
    told = [Asked(provider=prices.fetch.provider, answer=prices) for prices in answers]
    baseline = proposed_amounts({}, told)
    previous = {prices.fetch.provider: counts_of(prices) for prices in answers}
    limits = thresholds_with({"required_types": dict.fromkeys(sources.options, ())})
    # The processor's time: other programs on the machine have no part in it.
    times, walls = [], []
    for _ in range(_ROUNDS):
        began, wall = time.process_time(), time.perf_counter()
        findings = run_checks(told, thresholds=limits, baseline=baseline, previous=previous)
        times.append(time.process_time() - began)
        walls.append(time.perf_counter() - wall)
    bad = [str(finding) for finding in findings if finding.level != "ok"]
    return Measured(
        statistics.median(times),
        peak_memory(),
        prices=sum(len(prices.prices) for prices in answers),
        note="; ".join(bad)[:300] or "nothing wrong",
        wall=statistics.median(walls),
    )


def read_file(sources: Sources) -> Measured:
    """One region's public file of AWS."""
    os.environ.update(sources.environment)
    from clustrix_prefect.pricing.providers.aws_bulk import fetch_bulk_prices

    began = time.monotonic()
    prices = fetch_bulk_prices(
        regions=sources.regions["aws"][:1],
        endpoint=str(sources.options["aws"]["bulk_endpoint"]),
        deadline=_DEADLINE,
    )
    return Measured(
        time.monotonic() - began,
        peak_memory(),
        prices=len(prices.prices),
        received=prices.fetch.received,
        rows=prices.fetch.rows,
    )
