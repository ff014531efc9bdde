"""What the commands and daemons of a PBS say: refusals, states, and the ends of jobs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from signal import SIGKILL, SIGTERM

from clustrix_prefect.schedulers.job_script import exit_code
from clustrix_prefect.schedulers.pbs_listings import Job
from clustrix_prefect.schedulers.refusals import Refusals
from clustrix_prefect.schedulers.scheduler import JobState, JobStatus

REFUSALS = Refusals(
    "PBS",
    "qsub",
    for_now=re.compile(
        r"would exceed .* limit|Maximum number of jobs already in queue|cannot connect to server"
        r"|Connection refused|server .*shutting down|Resource temporarily unavailable"
        r"|temporarily unable to accept job|Unable to contact slurm controller",
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
        "exceeds queue": "Ask for less; `qstat -Qf` shows each queue's limits.",
        "exceed": "Ask for less; `qstat -Qf` shows each queue's limits.",
        "resource": "Correct `resource_list`, or leave the request out with `skip_directives`.",
        "account": "Name an account that you may charge (the block's `account`).",
        "project": "Name a project of yours (the block's `project`).",
        "Unauthorized": "Use a queue that is open to you.",
        "array": "The site's arrays are smaller: set the block's `max_array_size`.",
        "node configuration": "No node is that large: ask for less.",
    },
)
_WAITING = {
    "Q": "waiting (Q)",
    "H": "held (H)",
    "W": "waits for its time (W)",
    "T": "in transit (T)",
}
_ENDED = "CFX"
_SUBSTATE_DELETED = "91"
_BY_SIGNAL = 256
_ENDING_SIGNALS = (SIGTERM, SIGKILL)


def status_of(job: Job, ends: Mapping[int, JobState]) -> JobStatus:
    """What a job's attributes say.

    Args:
        job: As `pbs_listings.jobs_in` gives it.
        ends: What the dialect means by negative exit statuses.
    """
    state, name = job.get("job_state", "?"), job.get("job_name", "")
    node = re.split(r"[/+:]", job["exec_host"])[0] if job.get("exec_host") else None
    comment = job.get("comment", "")
    if state in _ENDED:
        return _ended(job, ends, node, comment, name)
    if state in _WAITING:
        if state == "H" and "too many failed attempts" in comment:
            return JobStatus(JobState.NOT_STARTED, comment, name=name)
        # Comments that only repeat that it waits change with the time in them.
        reason = re.sub(r"^Not Running: ", "", comment) or _WAITING[state]
        return JobStatus(JobState.QUEUED, reason, name=name)
    return JobStatus(JobState.RUNNING, "suspended (S)" if state == "S" else "", node, name=name)


def _ended(
    job: Job, ends: Mapping[int, JobState], node: str | None, comment: str, name: str
) -> JobStatus:
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
        state = ends.get(status, JobState.FAILED)
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
