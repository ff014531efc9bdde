"""Ask cloud providers for the prices of their machines, and check what they say.

python flows/validate_pricing.py                                 # who needs no credentials
python flows/validate_pricing.py --region aws=us-east-1 --credentials cloud
python flows/validate_pricing.py --credentials cloud --cron "0 6 * * *"    # every morning
"""

from __future__ import annotations

from typing import Any

from prefect import flow, get_client, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from clustrix_prefect.cli.running import run_flow
from clustrix_prefect.errors import ConfigurationError
from clustrix_prefect.pricing.arguments import PriceQuestion
from clustrix_prefect.pricing.asking import questions
from clustrix_prefect.pricing.checks import Finding, Level, run_checks
from clustrix_prefect.pricing.history import last_passed_counts, past_records
from clustrix_prefect.pricing.providers import Provider
from clustrix_prefect.pricing.report import verdict
from clustrix_prefect.pricing.validation import (
    SUMMARY_KEY,
    amounts_of,
    ask_all,
    describe_baseline,
    load_baseline,
    load_credentials,
    show,
    thresholds_with,
)


@flow(name="validate-pricing", task_runner=ThreadPoolTaskRunner(max_workers=8))
def validate_pricing(
    providers: list[Provider] | None = None,
    regions: dict[Provider, list[str]] | None = None,
    credentials: str | None = None,
    baseline: str = "approved",
    second_source: bool = False,
    spot: bool = True,
    thresholds: dict[str, Any] | None = None,
    options: dict[Provider, dict[str, Any]] | None = None,
    deadline: float = 300.0,
) -> State[None]:
    """Are the providers' prices there, complete, possible, and those that were approved?

    Args:
        providers: Whom to ask; default: who needs no credentials, and whose credentials there
            are.
        regions: For each provider; default: its usual ones.
        credentials: Name of a `PricingCredentials` block.
        baseline: Name of a `PricingBaseline` block; without one, drift says so.
        second_source: Also read AWS's public files, and compare: hundreds of megabytes a region.
        spot: Also ask EC2 for spot prices, if there is a key; the others' lists have theirs.
        thresholds: Other limits than those of `clustrix_prefect.pricing.thresholds`.
        options: For each provider more arguments of its `fetch_prices`, such as endpoints.
        deadline: Seconds for each provider.
    """
    log = get_run_logger()
    limits = thresholds_with(thresholds)
    asked = ask_all(
        questions(
            providers,
            regions=regions,
            credentials=load_credentials(credentials),
            options=options,
            deadline=deadline,
            spot=spot,
        ),
        second_source=second_source,
    )
    unreadable: list[Finding] = []
    block = load_baseline(baseline)
    approved = None
    try:
        approved = amounts_of(block)
    except ConfigurationError as error:
        unreadable.append(Finding(Level.FAILURE, "drift", "baseline", str(error)))
    with get_client(sync_client=True) as client:
        past = past_records(client, SUMMARY_KEY)
        findings = unreadable + run_checks(
            asked,
            thresholds=limits,
            baseline=approved,
            waivers=block.waivers if block else (),
            previous=last_passed_counts(past),
        )
        judged = verdict(asked, findings)
        show(
            client,
            asked,
            findings,
            judged,
            past=past,
            baseline=describe_baseline(block),
            limits=limits,
        )
    for finding in judged.warnings:
        log.warning("%s", finding)
    for finding in judged.failures:
        log.error("%s", finding)
    if judged.is_degraded:
        log.error("%s", judged.text)
        return Failed(message=judged.message)
    log.info("%s", judged.text)
    return Completed(message=judged.message)


def main(
    *,
    question: PriceQuestion = PriceQuestion(),  # noqa: B008 (it is frozen)
    second_source: bool = False,
    cron: str | None = None,
) -> State[Any] | None:
    """Ask cloud providers for the prices of their machines, and check what they say.

    Args:
        second_source: compare AWS's two sources
        cron: keep running, and validate then: "0 6 * * *"
    """
    parameters = {**question.parameters(), "second_source": second_source}
    if cron:
        validate_pricing.serve(name="daily", cron=cron, parameters=parameters)
        return None
    return validate_pricing(**parameters, return_state=True)


if __name__ == "__main__":
    run_flow(main)
