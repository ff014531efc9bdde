"""Every fault at every provider: the right check tells of it, of the right provider, and no other.

A cell is a fault and a provider. Its server does that one thing wrong; the other providers'
prices are those of a clean world, as are the baseline and the counts of the last run. Cells run
side by side, since most of their time is waiting for a slow or silent server.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

from clustrix_prefect.pricing.asking import ask, ask_second_source
from clustrix_prefect.pricing.baseline import approved_amounts
from clustrix_prefect.pricing.checks import Asked, Finding, Level, run_checks
from clustrix_prefect.pricing.checks.comparison import counts_of
from clustrix_prefect.pricing.errors import PricingError
from clustrix_prefect.pricing.fetch import PriceList
from clustrix_prefect.pricing.price import PriceKey
from tests.pricing.servers.faults import Fault
from tests.pricing.servers.tls import AUTHORITY
from tests.pricing.world import SOURCES, answer, question

FAILURE, WARNING = Level.FAILURE, Level.WARNING

RIGHT: Mapping[Fault, tuple[str, Level]] = {
    Fault.HTML_502: ("availability", FAILURE),
    Fault.HTML_200: ("schema", FAILURE),
    Fault.RESET: ("availability", FAILURE),
    Fault.SLOW_BODY: ("availability", FAILURE),
    Fault.TRUNCATED_BODY: ("coverage", FAILURE),
    Fault.BURST_429: ("quota", WARNING),  # waited for, and answered in the end
    Fault.ALWAYS_429: ("quota", FAILURE),
    Fault.STALE: ("freshness", FAILURE),
    Fault.EXPIRED_TOKEN: ("authentication", FAILURE),
    Fault.FORBIDDEN: ("authentication", FAILURE),
    Fault.TRUNCATED_PAGE: ("coverage", FAILURE),
    Fault.LOOP: ("coverage", FAILURE),
    Fault.LOOP_CHANGING_TOKENS: ("coverage", FAILURE),
    Fault.OBJECTS: ("schema", FAILURE),
    Fault.RENAMED_KEY: ("schema", FAILURE),
    Fault.DUPLICATE_IDS: ("keys", FAILURE),
    Fault.ZERO_PRICE: ("bounds", FAILURE),
    Fault.MISSING_PRICE: ("schema", FAILURE),
    Fault.INFLATED: ("structure", FAILURE),
    Fault.WINDOWS_AS_LINUX: ("structure", FAILURE),
    Fault.SPOT_SWAPPED: ("structure", FAILURE),
    Fault.WRONG_UNIT: ("bounds", FAILURE),
    Fault.OTHER_CURRENCY: ("unit", FAILURE),
    Fault.CHEAP_GPU: ("bounds", FAILURE),
    Fault.REGION_DROPPED: ("coverage", FAILURE),
    Fault.TYPE_DROPPED: ("coverage", FAILURE),
}
"""The check that has to tell of each fault, and how bad it has to find it."""

ELSEWHERE: Mapping[tuple[str, Fault], tuple[str, Level]] = {
    # Hugging Face's hardware has no families; that it is dearer than approved is all there is.
    ("huggingface", Fault.INFLATED): ("drift", FAILURE),
    # A SKU is a part of every machine of its series: all are dearer, and stay in proportion.
    ("gcp", Fault.INFLATED): ("drift", FAILURE),
    # The list is an object with the types' names as keys, so they cannot come twice; an entry
    # under another name than its own is not as documented.
    ("lambda_cloud", Fault.DUPLICATE_IDS): ("schema", FAILURE),
}
"""Where another check has to tell of it, and why."""

CONSEQUENCES: Mapping[Fault, frozenset[str]] = {
    # A wrong price is not the approved one, and does not fit those beside it.
    Fault.DUPLICATE_IDS: frozenset({"structure", "drift"}),
    Fault.ZERO_PRICE: frozenset({"drift"}),
    Fault.INFLATED: frozenset({"drift"}),
    Fault.WINDOWS_AS_LINUX: frozenset({"drift"}),
    Fault.SPOT_SWAPPED: frozenset({"drift"}),
    Fault.WRONG_UNIT: frozenset({"structure", "drift"}),
    Fault.CHEAP_GPU: frozenset({"structure", "spread", "drift"}),
    # What is not there was there before, and was approved.
    Fault.MISSING_PRICE: frozenset({"coverage", "drift"}),
    Fault.TRUNCATED_PAGE: frozenset({"schema", "drift"}),  # Google's machines lack parts
    Fault.OTHER_CURRENCY: frozenset({"drift"}),
    Fault.REGION_DROPPED: frozenset({"drift"}),
    Fault.TYPE_DROPPED: frozenset({"drift"}),
}
"""What else may tell of it; nothing but these."""

CELLS = [
    (provider, fault)
    for provider, source in SOURCES.items()
    for fault in Fault
    if fault in source.faults
]
NOT_APPLICABLE = [
    (provider, fault)
    for provider, source in SOURCES.items()
    for fault in Fault
    if fault not in source.faults
]


@dataclass(frozen=True)
class World:
    """What a clean world answers, and what it leads later runs to expect."""

    clean: Mapping[str, Asked]
    baseline: Mapping[PriceKey, Decimal]
    previous: Mapping[str, Mapping[str, int]]

    def findings(self, faulty: Asked | None = None) -> list[Finding]:
        """What the checks find wrong if one provider answers so."""
        asked = [
            faulty if faulty is not None and faulty.provider == one.provider else one
            for one in self.clean.values()
        ]
        found = run_checks(asked, baseline=self.baseline, previous=self.previous)
        return [finding for finding in found if finding.level is not Level.OK]


@pytest.fixture(scope="module")
def trusted() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in AUTHORITY.environment().items():
            patch.setenv(name, value)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield


@pytest.fixture(scope="module")
def world(trusted: None) -> World:
    clean = {}
    for provider, source in SOURCES.items():
        with source.server() as server:
            clean[provider] = answer(provider, server)
    lists = {name: one.answer for name, one in clean.items() if isinstance(one.answer, PriceList)}
    assert lists.keys() == SOURCES.keys(), clean
    return World(
        clean=clean,
        baseline={
            key: amount
            for prices in lists.values()
            for key, amount in approved_amounts(prices.prices).items()
        },
        previous={name: counts_of(prices) for name, prices in lists.items()},
    )


@pytest.fixture(scope="module")
def answers(
    trusted: None, request: pytest.FixtureRequest
) -> Iterator[Mapping[tuple[str, Fault], Future[Asked]]]:
    """What comes of asking in each cell that was chosen, asked side by side."""
    chosen: list[Any] = [
        (item.callspec.params["provider"], item.callspec.params["fault"])
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and item.originalname == "test_the_right_check_tells_of_it"
    ]
    with ThreadPoolExecutor(10, thread_name_prefix="cells") as threads:
        asked = {cell: threads.submit(_ask, *cell) for cell in chosen}
        # Between tests pytest writes to the environment, which Azure's client reads.
        wait(asked.values())
        yield asked


def _ask(provider: str, fault: Fault) -> Asked:
    with SOURCES[provider].server() as server:
        server.fault = fault
        # Long enough for whatever ends; the dripping body would take minutes.
        return answer(provider, server, deadline=4 if fault is Fault.SLOW_BODY else 40)


def test_a_clean_world_raises_nothing(world: World) -> None:
    assert world.findings() == []


@pytest.mark.parametrize(
    ("provider", "fault"), CELLS, ids=[f"{name}-{fault.name}" for name, fault in CELLS]
)
def test_the_right_check_tells_of_it(
    provider: str,
    fault: Fault,
    world: World,
    answers: Mapping[tuple[str, Fault], Future[Asked]],
) -> None:
    check, level = ELSEWHERE.get((provider, fault), RIGHT[fault])
    asked = answers[provider, fault].result()
    if isinstance(asked.answer, BaseException) and not isinstance(asked.answer, PricingError):
        raise asked.answer  # nothing that a source does may end in another error
    found = world.findings(asked)
    assert {finding.provider for finding in found} == {provider}
    assert (check, level) in {(finding.check, finding.level) for finding in found}, found
    others = {finding.check for finding in found} - {check}
    assert others <= CONSEQUENCES.get(fault, frozenset()), found


@pytest.mark.parametrize(
    ("provider", "fault"),
    NOT_APPLICABLE,
    ids=[f"{name}-{fault.name}" for name, fault in NOT_APPLICABLE],
)
def test_what_is_not_applicable_has_a_reason(provider: str, fault: Fault) -> None:
    assert len(SOURCES[provider].kind.NOT_APPLICABLE[fault].split()) >= 4


def test_there_are_enough_cells() -> None:
    assert len(CELLS) + len(NOT_APPLICABLE) == len(SOURCES) * len(Fault)
    assert len(CELLS) >= 60


def test_two_sources_of_one_price(trusted: None) -> None:
    with SOURCES["aws"].server() as server:
        asked = question("aws", server)
        first = ask(asked)
        same = Asked(provider="aws", answer=first, second=ask_second_source(asked))
        server.fault = Fault.INFLATED
        dearer = Asked(provider="aws", answer=first, second=ask_second_source(asked))
    (agreed,) = [finding for finding in run_checks([same]) if finding.check == "agreement"]
    assert (agreed.level, agreed.message) == (Level.OK, "57 prices are the same in two sources")
    (differs,) = [finding for finding in run_checks([dearer]) if finding.check == "agreement"]
    assert [str(evidence) for evidence in differs.evidence] == [
        "m5.xlarge in us-east-1: 0.192, and 0.2112 in the other source"
    ]
