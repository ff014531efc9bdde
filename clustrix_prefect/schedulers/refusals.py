"""Why a scheduler did not take a job: for now, for good, or perhaps it did."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from clustrix_prefect.errors import SubmissionRefused
from clustrix_prefect.schedulers.scheduler import LimitReached, SubmissionUnclear, TryLater


def the_id(said: str, *forms: re.Pattern[str]) -> str:
    """Return the id of a job in what the submit command said when it took it.

    Args:
        said: Its output; site plug-ins and wrappers may print more than the id.
        forms: How an id is written; the first that any line has counts.

    Raises:
        SubmissionUnclear: There is none, or more than one.
    """
    for form in forms:
        ids = {match[1] for line in said.splitlines() if (match := form.match(line.strip()))}
        if len(ids) == 1:
            return ids.pop()
        if ids:
            break
    raise SubmissionUnclear(f"the id is not told: {said.strip()[:200] or 'nothing was said'}")


# The agent's way to say that a command took too long.
_CUT_SHORT = 124


@dataclass(frozen=True)
class Refusals:
    """How one scheduler words its refusals.

    Attributes:
        scheduler: Its name.
        command: The command that submits.
        for_now: What goes away by waiting.
        limits: Limits on how much may be submitted: less may be taken at once, more by waiting.
        no_answer: The scheduler may have the job all the same.
        noise: What may go before a message, and lines that say nothing.
        remedies: A phrase of a message, and what to do about it.
    """

    scheduler: str
    command: str
    for_now: re.Pattern[str]
    limits: re.Pattern[str]
    no_answer: re.Pattern[str]
    noise: re.Pattern[str]
    remedies: Mapping[str, str]

    def read(self, returncode: int, output: str) -> TryLater | SubmissionRefused:
        """Return what was meant by this.

        Args:
            returncode: The exit status, not 0.
            output: What was written to standard error.
        """
        said = self.plain(output)
        if self.limits.search(output):
            return LimitReached(said)
        if self.for_now.search(output):
            return TryLater(said)
        if returncode == _CUT_SHORT or self.no_answer.search(output):
            return SubmissionUnclear(said or f"{self.command} did not answer in time")
        remedy = next(
            (remedy for phrase, remedy in self.remedies.items() if phrase.lower() in said.lower()),
            "The block's job_script() shows what was submitted.",
        )
        return SubmissionRefused(
            f"{self.scheduler} refuses the job: {said or f'{self.command} gives no reason'}.",
            remedy,
            exit_code=returncode,
        )

    def plain(self, output: str) -> str:
        """Return the messages without what goes before them, on one line."""
        lines = [self.noise.sub("", line) for line in output.splitlines()]
        return "; ".join(line.strip().rstrip(".") for line in lines if line.strip())
