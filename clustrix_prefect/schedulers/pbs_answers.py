"""What the commands and daemons of a PBS say: refusals, states, and the ends of jobs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from signal import SIGKILL, SIGTERM

from clustrix_prefect.schedulers.job_script import exit_code
from clustrix_prefect.schedulers.pbs_listings import Job
from clustrix_prefect.schedulers.refusals import Refusals
from clustrix_prefect.schedulers.scheduler import JobState, JobStatus, LimitScope

REFUSALS = Refusals(
    "PBS",
    "qsub",
    for_now=re.compile(
        r"cannot connect to server|Connection refused|server .*shutting down"
        r"|Resource temporarily unavailable|temporarily unable to accept job"
        r"|Unable to contact slurm controller|Server is in the process of terminating"
        r"|No free connections",
        re.IGNORECASE,
    ),
    limits=re.compile(
        r"would exceed .* limit|Maximum number of jobs already in queue"
        r"|Array job exceeds server or queue size limit|\b(?:QOS|Assoc)\w*Submit\w*Limit",
        re.IGNORECASE,
    ),
    no_answer=re.compile(r"End of File|timed? ?out|Communication failure", re.IGNORECASE),
    noise=re.compile(
        r"^\s*'?(?:qsub: |sbatch: |error: |submit error )+|^There was an error running.*"
        r"|^The command was:$|^and the output was:$|^'?/\S*/sbatch .*|'$|^Use of uninitialized .*"
    ),
    remedies={
        "Unknown queue": "Name a queue that `qstat -Q` lists (the block's `queue`).",
        "Invalid partition": "Name a queue that `qstat -Q` lists (the block's `queue`).",
        "not enabled": "Use another queue (the block's `queue`), or wait until this one is open.",
        "cannot locate feasible nodes": "Ask for less, or wait until nodes are up: `pbsnodes`"
        " shows them.",
        "exceed": "Ask for less; `qstat -Qf` shows each queue's limits.",
        "violates queue": "Ask for less, or for more where there is a least;"
        " `qstat -Qf` shows each queue's limits.",
        "Unknown resource": "Correct `resource_list`, or leave the request out with"
        " `skip_directives`.",
        "resource value": "Correct `resource_list`, or leave the request out with"
        " `skip_directives`.",
        "name an account": "Name an account or project that you may charge (the block's `account`,"
        " `project`).",
        "Access to queue": "Name the queue that routes to this one: `qstat -Qf` lists it under"
        " `route_destinations`.",
        "Bad UID": "Connect as another user: PBS runs no jobs of this one on its nodes.",
        "account": "Name an account that you may charge (the block's `account`).",
        "project": "Name a project of yours (the block's `project`).",
        "Unauthorized": "Use a queue that is open to you.",
        "array": "The site's arrays are smaller: set the block's `max_array_size`.",
        "node configuration": "No node is that large: ask for less.",
    },
)
_NEVER = re.compile("^Can Never Run")
_WAITING = {
    "Q": "waiting (Q)",
    "H": "held (H)",
    "W": "waits for its time (W)",
    "T": "in transit (T)",
}
_ENDED = "CFX"
# Torque's letter for elements above the `%` of their array.
_LIMITED_BY_ARRAY = "l"
_OF_ARRAY = re.compile("Job Array Began at ")
# OpenPBS says this of an element whose record is gone; everything else is its array's then.
_RECORD_IS_GONE = "Subjob finished"
_SUBSTATE_DELETED = "91"
# OpenPBS's for a script that came to its own end, well or not.
_SUBSTATES_OWN_END = ("92", "93")
_BY_SIGNAL = 256
_ENDING_SIGNALS = (SIGTERM, SIGKILL)


def status_of(job: Job, ends: Mapping[int, JobState], name: str) -> JobStatus:
    """Return what a job's attributes say.

    Args:
        job: As `pbs_listings.jobs_in` gives it.
        ends: What the dialect means by negative exit statuses.
        name: The job's, or its array's.
    """
    state = job.get("job_state")
    if state is None:
        return JobStatus(JobState.UNKNOWN, "its state cannot be read", name=name)
    node = re.split(r"[/+:]", job["exec_host"])[0] if job.get("exec_host") else None
    comment = job.get("comment", "")
    if state in _ENDED:
        return _ended(job, ends, node, comment, name)
    if state in _WAITING:
        if state == "H" and "too many failed attempts" in comment:
            return JobStatus(JobState.NOT_STARTED, comment, name=name)
        if state == "H" and _LIMITED_BY_ARRAY in job.get("hold_types", ""):
            return JobStatus(JobState.QUEUED, "its array's limit is reached (H)", name=name)
        # An element that waits has its array's comment. Those that only repeat that it waits
        # change with the time in them.
        told = "" if _OF_ARRAY.match(comment) else re.sub(r"^Not Running: ", "", comment)
        placement = LimitScope(partition=job.get("queue"))
        return JobStatus(JobState.QUEUED, told or _WAITING[state], name=name, placement=placement)
    placement = LimitScope(partition=job.get("queue"))
    told = "suspended (S)" if state == "S" else ""
    return JobStatus(JobState.RUNNING, told, node, name=name, placement=placement)


def never_runs(reason: str) -> str | None:
    """Return what to do about a job that will not start by waiting; None: it may."""
    if _NEVER.match(reason):
        return "Ask for less; `pbsnodes -av` shows what the nodes have."
    return None


def _ended(
    job: Job, ends: Mapping[int, JobState], node: str | None, comment: str, name: str
) -> JobStatus:
    if comment == _RECORD_IS_GONE and node is None:
        return JobStatus(JobState.ENDED, name=name)
    told, deleted = job.get("exit_status", ""), job.get("substate") == _SUBSTATE_DELETED
    if not told.lstrip("-").isdigit():
        # To Torque and SLURM, what never ran was taken out of the queue.
        deleted = deleted or (job.get("job_state") == "C" and node is None)
        return JobStatus(
            JobState.CANCELLED if deleted else JobState.COMPLETED, comment, node, name=name
        )
    status = int(told)
    code = _BY_SIGNAL - status if status > _BY_SIGNAL else exit_code(status)
    if status < 0:
        # Statuses of PBS's own, none of a signal.
        return JobStatus(ends.get(status, JobState.FAILED), comment, node, name=name)
    if job.get("substate") in _SUBSTATES_OWN_END:
        state = JobState.FAILED if status else JobState.COMPLETED
    elif -code in _ENDING_SIGNALS and _time_is_over(job):
        state = JobState.TIME_LIMIT
    elif -code in _ENDING_SIGNALS:
        state = JobState.CANCELLED if deleted or code == -SIGTERM else JobState.KILLED
    else:
        state = JobState.FAILED if status else JobState.COMPLETED
    return JobStatus(state, comment, node, code, name)


def _time_is_over(job: Job) -> bool:
    used, asked = (job.get(f"{name}.walltime") for name in ("resources_used", "resource_list"))
    return bool(used and asked) and _seconds(used or "") >= _seconds(asked or "")


def _seconds(clock: str) -> int:
    seconds = 0
    for part in clock.split(":"):
        seconds = seconds * 60 + int(part or 0)
    return seconds
