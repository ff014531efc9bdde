"""What a kind of scheduler must be able to say.

A scheduler is pure: it makes scripts and command lines, and reads what commands printed.
The agent on the cluster runs the commands; nothing here does.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from clustrix_prefect.task_resources import Resources

# What a job script prints to its standard error when the worker in it cannot be started.
WORKER_NOT_STARTED = "clustrix-prefect: the worker could not be started"


@dataclass(frozen=True)
class JobSpec:
    """One submission: a single job, or an array of them.

    Attributes:
        name: A name that people can find in the queue.
        resources: What each element gets.
        array_size: Number of elements (indices 0 to array_size - 1), or None for one job.
        directory: Absolute path on the cluster where the script and its output live.
        command: The worker's argument vector; the array index is passed by the scheduler's
            own environment variable.
        prologue: Shell lines that go before the command (`module load`, `setup`).
        environment: Variables to export before the command.
    """

    name: str
    resources: Resources
    array_size: int | None
    directory: str
    command: Sequence[str]
    prologue: Sequence[str] = ()
    environment: dict[str, str] = field(default_factory=dict)


class JobState(enum.Enum):
    """What a scheduler can say of a job, reduced to what we act on."""

    QUEUED = "queued"
    RUNNING = "running"
    # Its processes are gone or told to go; the node is being cleared.
    ENDING = "ending"
    # It is there, and nobody says how it stands.
    UNKNOWN = "unknown"
    COMPLETED = "completed"
    FAILED = "failed"
    TIME_LIMIT = "time limit"
    OUT_OF_MEMORY = "out of memory"
    CANCELLED = "cancelled"
    # It is over, and nobody says how it ended.
    ENDED = "ended"
    # By a signal, and nobody says whether somebody cancelled it or a limit was reached.
    KILLED = "killed"
    NODE_FAILURE = "node failure"
    PREEMPTED = "preempted"
    # It stays in the queue like this until somebody takes it out.
    NOT_STARTED = "cannot be started"
    # The scheduler took it from its node, to run it a second time.
    REQUEUED = "requeued"

    @property
    def is_final(self) -> bool:
        return self not in _UNDER_WAY


_UNDER_WAY = {JobState.QUEUED, JobState.RUNNING, JobState.ENDING, JobState.UNKNOWN}


@dataclass(frozen=True)
class LimitScope:
    """Where a job goes, as far as limits ask for it; None: nobody says, or all.

    Attributes:
        partition: Its partition or queue.
        account: Who is charged.
        qos: Its quality of service.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None

    def includes(self, other: LimitScope) -> bool:
        """Return whether what goes there goes here."""
        return (
            self.partition in (None, other.partition)
            and self.account in (None, other.account)
            and self.qos in (None, other.qos)
        )


@dataclass(frozen=True)
class JobStatus:
    """One job, or one array element, as the scheduler sees it now."""

    state: JobState
    reason: str = ""
    node: str | None = None
    exit_code: int | None = None
    name: str = ""
    placement: LimitScope = field(default=LimitScope(), compare=False)


@dataclass(frozen=True)
class Limit:
    """How much a user may have in the queue.

    Attributes:
        name: What people look for: "MaxSubmitJobsPU of the QOS small".
        applies_to: Which jobs it counts.
        max_array_size: Elements in one array, or None.
        max_submitted_jobs: Jobs in the queue at once, or None.
    """

    name: str
    applies_to: LimitScope = LimitScope()
    max_array_size: int | None = None
    max_submitted_jobs: int | None = None


@dataclass(frozen=True)
class Limits:
    """What the site allows.

    Attributes:
        limits: Each of its limits.
        version: The scheduler's name and version, for people.
        accounting_delay: Seconds after which a job that ended is in the accounting, where only
            that tells how.
        default_queue: Where a job goes that does not say, if that is known.
        default_account: Who is charged for a job that does not say, if that is known.
        default_qos: The quality of service of a job that does not say, if that is known.
    """

    limits: Sequence[Limit] = ()
    version: str = ""
    accounting_delay: float = 0.0
    default_queue: str | None = None
    default_account: str | None = None
    default_qos: str | None = None

    def on(self, placement: LimitScope) -> list[Limit]:
        """Return the limits on jobs that go there."""
        placement = LimitScope(
            placement.partition or self.default_queue,
            placement.account or self.default_account,
            placement.qos or self.default_qos,
        )
        return [limit for limit in self.limits if limit.applies_to.includes(placement)]

    def max_array_size(self, placement: LimitScope = LimitScope()) -> int | None:
        """Elements in one array (its highest index plus one), or None if nobody says."""
        sizes = [limit.max_array_size for limit in self.on(placement)]
        return min(filter(None, sizes), default=None)

    def max_submitted_jobs(self, placement: LimitScope = LimitScope()) -> int | None:
        """Jobs in the queue at once, or None if nobody says."""
        sizes = [limit.max_submitted_jobs for limit in self.on(placement)]
        return min(filter(None, sizes), default=None)


class TryLater(Exception):
    """The site refuses the submission for now (a limit is reached); it may be sent again."""


class LimitReached(TryLater):
    """More is submitted than the site takes; fewer jobs may be taken at once."""


class SubmissionUnclear(TryLater):
    """The scheduler did not answer: it may have the job. Look for its name before trying again."""


class Scheduler(Protocol):
    """A kind of batch system.

    Attributes:
        name: For people: "SLURM".
        index_variable: The environment variable that tells an array element its index.
        default_array_size: Elements in one array where the site does not say.
        end_messages: What its daemons write into a job's standard error when they end it, as
            regular expressions.
    """

    name: str
    index_variable: str
    default_array_size: int

    @property
    def end_messages(self) -> Mapping[str, JobState]: ...

    def for_site(self, version: str) -> Scheduler:
        """This scheduler as it is spoken where `parse_limits` told this version."""
        ...

    def placement_of(self, wanted: Resources) -> LimitScope:
        """Return where a job that asks for this goes."""
        ...

    def never_runs(self, reason: str) -> str | None:
        """Return what to do about a job that will not start by waiting; None: it may.

        Args:
            reason: Why it waits, as in its status.
        """
        ...

    def in_words(self, reason: str) -> str:
        """Return why a job waits, for people: the reason as in its status, and what it means."""
        ...

    def job_script(self, spec: JobSpec) -> str:
        """Return the script to submit, as text."""
        ...

    def submit_command(self, script: str, spec: JobSpec) -> list[str]:
        """Return the command that submits the script at this path."""
        ...

    def parse_submit(self, returncode: int, stdout: str, stderr: str) -> str:
        """Return the new job's id.

        Raises:
            LimitReached: Too much is submitted; less may be taken.
            SubmissionUnclear: It may have been taken, and its id is not told.
            TryLater: The same submission may succeed later.
            SubmissionRefused: It never will.
        """
        ...

    def trial_command(self, spec: JobSpec) -> list[str] | None:
        """A command that fails as a submission would, but submits nothing; None: there is none."""
        ...

    def element_id(self, job_id: str, index: int | None) -> str:
        """Return the id of one array element, as `parse_status` names it."""
        ...

    def job_of(self, element_id: str) -> str:
        """Return the id of the job that an element belongs to; of a single job, its own."""
        ...

    def status_command(self, user_id: int) -> list[str]:
        """Return one command for the state of all of a user's jobs, arrays unfolded or not."""
        ...

    def parse_status(self, stdout: str) -> Mapping[str, JobStatus]:
        """Return every job and array element that the status command named, by its id."""
        ...

    def starts_command(self, user_id: int) -> list[str] | None:
        """Return a command that tells when a user's waiting jobs may start; None: nobody tells."""
        ...

    def parse_starts(self, stdout: str) -> Mapping[str, str]:
        """Return when jobs and array elements may start, in the scheduler's words, by their ids."""
        ...

    def details_command(self, element_ids: Sequence[str]) -> list[str]:
        """Return one command that tells why these jobs ended as they did."""
        ...

    def parse_details(self, element_ids: Sequence[str], stdout: str) -> dict[str, JobStatus]:
        """Return what the details command said of those of these jobs that are still known."""
        ...

    def cancel_command(self, element_ids: Sequence[str]) -> list[str]:
        """Return one command that cancels all of these."""
        ...

    def signal_command(self, element_ids: Sequence[str], signal: str) -> list[str] | None:
        """Return one command that sends "TERM" or "KILL" to all that these running jobs started.

        None where jobs can only be cancelled.
        """
        ...

    def limits_commands(self) -> list[list[str]]:
        """Commands whose output tells the site's limits; each may fail."""
        ...

    def parse_limits(self, outputs: Sequence[tuple[int, str]]) -> Limits:
        """Return the limits from the return codes and outputs of `limits_commands`."""
        ...
