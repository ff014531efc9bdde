"""Approve today's prices: what validate_pricing will hold the next ones against.

python flows/approve_pricing_baseline.py                         # asks in the Prefect UI
python flows/approve_pricing_baseline.py --yes --reason "first baseline"
"""

from __future__ import annotations

import getpass
from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from clustrix_prefect.cli.running import run_flow
from clustrix_prefect.pricing.approval import (
    as_page,
    proposed_amounts,
    remember,
    unchanged_since,
)
from clustrix_prefect.pricing.arguments import PriceQuestion
from clustrix_prefect.pricing.asking import questions
from clustrix_prefect.pricing.baseline import differences
from clustrix_prefect.pricing.checks import run_checks
from clustrix_prefect.pricing.fetch import PriceList
from clustrix_prefect.pricing.providers import Provider
from clustrix_prefect.pricing.validation import (
    amounts_of,
    ask_all,
    load_baseline,
    load_credentials,
)

FOLDER = "~/.clustrix-prefect/prices"


class Confirmation(RunInput):
    """What the UI asks while the flow run is paused."""

    approve: bool = False
    approver: str = ""
    reason: str = ""


@flow(name="approve-pricing-baseline", task_runner=ThreadPoolTaskRunner(max_workers=8))
def approve_pricing_baseline(
    providers: list[Provider] | None = None,
    regions: dict[Provider, list[str]] | None = None,
    credentials: str | None = None,
    baseline: str = "approved",
    folder: str = FOLDER,
    yes: bool = False,
    reason: str = "",
    wait_seconds: int = 3600,
    options: dict[Provider, dict[str, Any]] | None = None,
    deadline: float = 300.0,
) -> State[None]:
    """Show how today's prices differ from the approved ones, and approve them if told so.

    What was approved of a provider that cannot be asked stays, as does what was approved of
    regions and providers that are not asked.

    Args:
        providers: Whom to ask; default: who needs no credentials, and whose credentials there
            are.
        regions: For each provider; default: its usual ones.
        credentials: Name of a `PricingCredentials` block.
        baseline: Name of the `PricingBaseline` block to save.
        folder: Where its file goes: any fsspec path.
        yes: Approve without asking; needs a reason.
        reason: Why.
        wait_seconds: How long to wait for somebody to confirm. After it, nothing has changed.
        options: For each provider more arguments of its `fetch_prices`, such as endpoints.
        deadline: Seconds for each provider.
    """
    log = get_run_logger()
    if yes and not reason.strip():
        return Failed(message="Nothing was approved: `yes` needs a `reason`.")
    asked = ask_all(
        questions(
            providers,
            regions=regions,
            credentials=load_credentials(credentials),
            options=options,
            deadline=deadline,
        )
    )
    findings = run_checks(asked)
    if not any(isinstance(one.answer, PriceList) for one in asked):
        return Failed(message="Nothing was approved: no provider could be asked.")
    block = load_baseline(baseline)
    old = amounts_of(block) or {}
    new = proposed_amounts(old, asked)
    found = differences(old, new)
    page = as_page(found, findings)
    create_markdown_artifact(page, key="price-approval", description=str(found))
    log.info("%s", found)
    if block is not None and not found:
        return Completed(message="Nothing to approve: the prices are those that were approved.")
    approver = getpass.getuser()
    if not yes:
        try:
            answer = pause_flow_run(
                wait_for_input=Confirmation.with_initial_data(description=page, reason=reason),
                timeout=wait_seconds,
                poll_interval=min(10, max(1, wait_seconds // 10)),
            )
        except FlowPauseTimeout:
            log.error("Nobody confirmed; the old baseline stands.")
            return Failed(message=f"Nobody confirmed in {wait_seconds} s; the old baseline stands.")
        if not answer.approve:
            return Completed(message="Not approved; the old baseline stands.")
        if not answer.reason.strip():
            return Failed(message="Nothing was approved: a reason is needed.")
        approver, reason = answer.approver.strip() or "somebody in the Prefect UI", answer.reason
    if not unchanged_since(block, baseline):
        return Failed(message="Somebody else approved prices meanwhile; theirs stand.")
    saved = remember(baseline, block, folder, new, approver=approver, reason=reason)
    log.info("Approved %d prices: %s, sha256 %s", len(new), saved.path, saved.digest)
    return Completed(message=f"Approved {len(new):,} prices ({found}).")


def main(
    *,
    question: PriceQuestion = PriceQuestion(),  # noqa: B008 (it is frozen)
    folder: str = FOLDER,
    yes: bool = False,
    reason: str = "",
) -> State[Any]:
    """Approve today's prices: what validate_pricing will hold the next ones against.

    Args:
        folder: where the file goes: any fsspec path; by default ~/.clustrix-prefect/prices
        yes: do not ask
        reason: why they are right
    """
    return approve_pricing_baseline(
        **question.parameters(),
        folder=folder,
        yes=yes,
        reason=reason,
        return_state=True,
    )


if __name__ == "__main__":
    run_flow(main)
