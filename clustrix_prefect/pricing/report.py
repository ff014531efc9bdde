"""What a validation shows: a verdict in one line, a summary, and a table for each provider.

Every text of a provider is escaped: markdown in the cells of a table is interpreted.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from clustrix_prefect.display.markdown import escape, prose, utc
from clustrix_prefect.pricing.checks import Asked, Finding, Level
from clustrix_prefect.pricing.checks.finding import plain
from clustrix_prefect.pricing.fetch import PriceList
from clustrix_prefect.pricing.thresholds import Thresholds

PRICE_PAGES = {
    "aws": "https://aws.amazon.com/ec2/pricing/on-demand/",
    "gcp": "https://cloud.google.com/compute/vm-instance-pricing",
    "azure": "https://azure.microsoft.com/pricing/details/virtual-machines/linux/",
    "lambda_cloud": "https://lambda.ai/pricing",
    "huggingface": "https://huggingface.co/pricing",
}
"""Where people find the prices."""

MOST_FINDINGS = 10
"""How many findings a state's message names."""

_MOST_ROWS = 300
_MOST_EVIDENCE = 20
_MARKS = {Level.OK: "ok", Level.WARNING: "warning", Level.FAILURE: "failure"}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What comes of all findings.

    Attributes:
        failures: What failed.
        warnings: What is doubtful.
        text: All of it in one line.
    """

    failures: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    text: str

    @property
    def is_degraded(self) -> bool:
        """Whether anything failed."""
        return bool(self.failures)

    @property
    def message(self) -> str:
        """For a state: the verdict, and the first failures."""
        shown = [f"- {finding}" for finding in self.failures[:MOST_FINDINGS]]
        if len(self.failures) > MOST_FINDINGS:
            shown.append(f"and {len(self.failures) - MOST_FINDINGS} more")
        return "\n".join([self.text, *shown])


def verdict(asked: Sequence[Asked], findings: Sequence[Finding]) -> Verdict:
    """Return the verdict on a validation."""
    failures = tuple(finding for finding in findings if finding.level is Level.FAILURE)
    warnings = tuple(finding for finding in findings if finding.level is Level.WARNING)
    prices = sum(len(one.answer.prices) for one in asked if isinstance(one.answer, PriceList))
    told = f"{prices:,} prices of {_number(len(asked), 'provider')}"
    doubts = f", {_number(len(warnings), 'warning')}" if warnings else ""
    if not failures:
        return Verdict(failures=(), warnings=warnings, text=f"Passed: {told}{doubts}.")
    by_provider: dict[str, list[str]] = {}
    for finding in failures:
        by_provider.setdefault(finding.provider, []).append(finding.check)
    where = "; ".join(f"{name}: {', '.join(checks)}" for name, checks in by_provider.items())
    return Verdict(
        failures=failures,
        warnings=warnings,
        text=f"Degraded: {_number(len(failures), 'failure')} ({where}); {told}{doubts}.",
    )


def summary(
    asked: Sequence[Asked],
    findings: Sequence[Finding],
    *,
    baseline: str,
    image: str,
) -> str:
    """Return the page of a validation, as markdown.

    Args:
        asked: What came of asking each provider.
        findings: What the checks say.
        baseline: Who approved which prices, in one sentence.
        image: The trend, as a data URI.
    """
    judged = verdict(asked, findings)
    lines = [f"**{escape(judged.text)}** {utc(time.time())}", ""]
    lines += [
        "| provider | prices | regions | took | requests | failures | warnings | price page |",
        "|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    failing = {finding.provider for finding in judged.failures}
    order = sorted(asked, key=lambda one: one.provider not in failing)
    lines += [_provider_row(one, findings) for one in order]
    for title, level in (("Failures", Level.FAILURE), ("Warnings", Level.WARNING)):
        chosen = [finding for finding in findings if finding.level is level]
        if chosen:
            lines += ["", f"### {title}", ""]
        for finding in chosen:
            lines.append(
                f"- **{escape(finding.provider)}, {finding.check}**: {prose(finding.message)}"
            )
            lines += [f"  - {escape(str(e))}" for e in finding.evidence[1:_MOST_EVIDENCE]]
            more = len(finding.evidence) - _MOST_EVIDENCE
            if more > 0:
                lines.append(f"  - and {more} more, in the provider's table")
    lines += ["", "### Baseline", "", prose(baseline)]
    lines += ["", "### Earlier runs", "", f"![How many prices the runs found]({image})", ""]
    lines.append("As high as there were prices; green passed, yellow has warnings, red failed.")
    left_out = [_not_covered(one.answer) for one in asked if isinstance(one.answer, PriceList)]
    if any(left_out):
        lines += ["", "### Not covered", "", *(f"- {text}" for text in left_out if text)]
    return "\n".join(lines)


def _provider_row(one: Asked, findings: Sequence[Finding]) -> str:
    ours = [finding for finding in findings if finding.provider == one.provider]
    failures = sum(finding.level is Level.FAILURE for finding in ours)
    warnings = sum(finding.level is Level.WARNING for finding in ours)
    page = PRICE_PAGES.get(one.provider)
    link = f"[{page.split('/')[2]}]({page})" if page else ""
    if isinstance(one.answer, PriceList):
        fetch = one.answer.fetch
        regions = len({price.region for price in one.answer.prices} - {None})
        facts = (
            f"{len(one.answer.prices):,}",
            str(regions or "none"),
            f"{fetch.seconds:.1f} s",
            str(fetch.requests),
        )
    else:
        facts = ("unavailable", "", "", "")
    cells = (escape(one.provider), *facts, str(failures), str(warnings), link)
    return f"| {' | '.join(cells)} |"


def _not_covered(prices: PriceList) -> str:
    things = ", ".join(prices.fetch.not_covered)
    return f"{escape(prices.fetch.provider)}: {escape(things)}" if things else ""


def table(one: Asked, findings: Sequence[Finding], limits: Thresholds) -> list[dict[str, str]]:
    """One provider's rows: what each check says, what it rests on, and some prices to compare."""
    rows = []
    order = {Level.FAILURE: 0, Level.WARNING: 1, Level.OK: 2}
    ours = [finding for finding in findings if finding.provider == one.provider]
    for finding in sorted(ours, key=lambda finding: order[finding.level]):
        rows.append(_row(finding.check, _MARKS[finding.level], note=finding.message))
        rows += [
            _row(
                finding.check,
                "",
                region=evidence.region or "",
                instance_type=evidence.instance_type,
                amount=f"{evidence.amount} {evidence.currency}".strip(),
                note=evidence.text,
            )
            for evidence in finding.evidence[:_MOST_ROWS]
        ]
    if isinstance(one.answer, PriceList):
        wanted = limits.required_types.get(one.provider, ())
        rows += [
            _row(
                "price",
                "",
                region=price.region or "",
                instance_type=price.instance_type,
                amount=f"{plain(price.hourly)} {price.currency}",
                note=", ".join(
                    part
                    for part in (
                        price.operating_system,
                        price.licence,
                        price.purchase_option.value,
                        f"read from {price.source}",
                    )
                    if part
                ),
            )
            for price in one.answer.prices
            if price.instance_type in wanted
        ][:_MOST_ROWS]
    return rows


def _row(
    check: str,
    level: str,
    *,
    region: str = "",
    instance_type: str = "",
    amount: str = "",
    note: str = "",
) -> dict[str, str]:
    return {
        "check": check,
        "level": level,
        "region": escape(region),
        "type": escape(instance_type),
        "an hour": escape(amount),
        "note": escape(note),
    }


def _number(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"
