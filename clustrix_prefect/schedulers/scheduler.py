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
    COMPLETED = "completed"
    FAILED = "failed"
    TIME_LIMIT = "time limit"
    OUT_OF_MEMORY = "out of memory"
    CANCELLED = "cancelled"
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
        return self not in (JobState.QUEUED, JobState.RUNNING)


@dataclass(frozen=True)
class JobStatus:
    """One job, or one array element, as the scheduler sees it now."""

    state: JobState
    reason: str = ""
    node: str | None = None
    exit_code: int | None = None
    name: str = ""


@dataclass(frozen=True)
class Limits:
    """What the site allows.

    Attributes:
        max_array_size: Elements in one array (its highest index plus one), or None.
        max_submitted_jobs: Jobs a user may have in the queue at once, or None if the site
            does not say.
        version: The scheduler's name and version, for people.
        accounting_delay: Seconds after which a job that ended is in the accounting, where only
            that tells how.
    """

    max_array_size: int | None = None
    max_submitted_jobs: int | None = None
    version: str = ""
    accounting_delay: float = 0.0


class TryLater(Exception):
    """The site refuses the submission for now (a limit is reached); it may be sent again."""


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

    def job_script(self, spec: JobSpec) -> str:
        """The script to submit, as text."""
        ...

    def submit_command(self, script: str, spec: JobSpec) -> list[str]:
        """The command that submits the script at this path."""
        ...

    def parse_submit(self, returncode: int, stdout: str, stderr: str) -> str:
        """The new job's id.

        Raises:
            TryLater: A limit is reached; the same submission may succeed later.
            SubmissionRefused: It never will.
        """
        ...

    def trial_command(self, spec: JobSpec) -> list[str] | None:
        """A command that fails as a submission would, but submits nothing; None: there is none."""
        ...

    def element_id(self, job_id: str, index: int | None) -> str:
        """The id of one array element, as `parse_status` names it."""
        ...

    def job_of(self, element_id: str) -> str:
        """The id of the job that an element belongs to; of a single job, its own."""
        ...

    def status_command(self, user_id: int) -> list[str]:
        """One command for the state of all of a user's jobs, arrays unfolded or not."""
        ...

    def parse_status(self, stdout: str) -> Mapping[str, JobStatus]:
        """Every job and array element that the status command named, by its id."""
        ...

    def details_command(self, element_id: str) -> list[str]:
        """The command that tells why one job ended as it did."""
        ...

    def parse_details(self, returncode: int, stdout: str) -> JobStatus | None:
        """What the details command said, or None if it no longer knows the job."""
        ...

    def cancel_command(self, element_ids: Sequence[str]) -> list[str]:
        """One command that cancels all of these."""
        ...

    def signal_command(self, element_ids: Sequence[str], signal: str) -> list[str] | None:
        """One command that sends "TERM" or "KILL" to all that these running jobs started.

        None where jobs can only be cancelled.
        """
        ...

    def limits_commands(self) -> list[list[str]]:
        """Commands whose output tells the site's limits; each may fail."""
        ...

    def parse_limits(self, outputs: Sequence[tuple[int, str]]) -> Limits:
        """The limits from the return codes and outputs of `limits_commands`."""
        ...
