"""What Grid Engine's commands say: refusals, states, and the ends of jobs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from clustrix_prefect.schedulers.refusals import Refusals
from clustrix_prefect.schedulers.scheduler import JobState, JobStatus, Limit, Limits

REFUSALS = Refusals(
    "Grid Engine",
    "qsub",
    for_now=re.compile(
        r"unable to contact qmaster|Connection refused|unable to send message to qmaster"
    ),
    limits=re.compile(r"only \d+ (?:active )?jobs are allowed"),
    no_answer=re.compile(r"got (?:send|read) (?:error|timeout)|failed receiving", re.IGNORECASE),
    noise=re.compile(r"^\s*(?:Unable to run job: |qsub: |error: |denied: )+|^Exiting\.$"),
    remedies={
        "unknown queue": "Name a queue that `qconf -sql` lists (the block's `queue`).",
        "parallel environment": "Name one that `qconf -spl` lists (`parallel_environment`).",
        "in PE": "Ask for fewer cores, or name another `parallel_environment`.",
        "unknown resource": "Name resources that `qconf -sc` lists: the block's `memory_resource`"
        " and `gpu_resource` say what is asked for, `skip_directives` leaves it out.",
        "project": "Name a project that `qconf -sprjl` lists (the block's `project`).",
        "no suitable queues": "Ask for less; `qhost -F` shows what the nodes have.",
        "Unknown option": "Correct `extra_directives`; `man qsub` lists the options.",
    },
)
_WAITING = {"qw": "waiting", "hqw": "held", "hRwq": "held", "Rq": "to be run again"}
# After the task's number come the time and, of the process that failed, the user and its id.
_ERROR = re.compile(r"^error reason +(\d+): +\S+ \S+ (?:\[\d+:\d+\]: )?(?:error: )?(.+)$", re.M)
_TIME_LIMIT = "qmaster enforced h_rt"
# Codes of `failed` with which a job never ran, and those that stand for its node.
_NEVER_RAN = range(1, 20)
_NODE_FAILED = {20, 22, 23, 24}
_AFTER_THE_JOB = 100
# Between two writings of the accounting, where a site does not say.
_FLUSH_TIME = "00:00:15"


def status_of(state: str, node: str | None, name: str) -> JobStatus:
    """Return what `qstat` means by the letters of a job's state.

    Args:
        state: The letters, such as "qw", "Eqw" or "dr".
        node: Where it runs.
        name: The job's name.
    """
    if "E" in state:
        return JobStatus(JobState.NOT_STARTED, f"it is in state {state}", name=name)
    if "q" in state:
        told = f"{_WAITING[state]} ({state})" if state in _WAITING else state
        return JobStatus(JobState.QUEUED, told, name=name)
    return JobStatus(JobState.RUNNING, "" if state == "r" else state, node, name=name)


def limits_of(configuration: str, usage: str) -> Limits:
    """Return what a site allows, by what `qconf -sconf` and `qstat -help` said."""
    found = dict(re.findall(r"^(max_aj_tasks|max_u_jobs)\s+(\d+)$", configuration, re.M))
    flushes = dict(re.findall(r"\b(\w*flush_time)=(\d+:\d+:\d+)", configuration))
    flush_time = flushes.get("accounting_flush_time") or flushes.get("flush_time", _FLUSH_TIME)
    hours, minutes, seconds = map(int, flush_time.split(":"))
    version = re.match(r"\S.*", usage)
    return Limits(
        [
            Limit("max_aj_tasks", max_array_size=int(found.get("max_aj_tasks", 0)) or None),
            Limit("max_u_jobs", max_submitted_jobs=int(found.get("max_u_jobs", 0)) or None),
        ],
        version=f"Grid Engine ({version[0].strip()})" if version else "",
        accounting_delay=hours * 3600 + minutes * 60 + seconds,
    )


def ends_of_jobs(element_ids: Iterable[str], details: str) -> dict[str, JobStatus]:
    """Return how jobs ended by what `qstat -j` (its lines on errors) and `qacct -j` said.

    Args:
        element_ids: The jobs and array tasks.
        details: Records that begin with a line of equals signs and have the `jobnumber`.

    Returns:
        Those of them that have ended, or cannot start, and that either knows.
    """
    errors: dict[str, JobStatus] = {}
    ended: dict[str, JobStatus] = {}
    for record in re.split(r"^==+$", details, flags=re.MULTILINE):
        told = dict(re.findall(r"^(\w+) +(.*?) *$", record, re.MULTILINE))
        job, task = told.get("jobnumber", ""), told.get("taskid", "undefined")
        for failed_task, why in _ERROR.findall(record):
            error = JobStatus(JobState.NOT_STARTED, why.strip())
            errors[f"{job}.{failed_task}"] = errors[job] = error
        if status := _end_of_job(told):  # of several runs of one, the last
            ended[job if task == "undefined" else f"{job}.{task}"] = status
    known = ended | errors
    return {element_id: known[element_id] for element_id in element_ids if element_id in known}


def _end_of_job(told: Mapping[str, str]) -> JobStatus | None:
    if "failed" not in told or "exit_status" not in told:
        return None
    code, _, why = (part.strip() for part in told["failed"].partition(":"))
    status = int(told["exit_status"].split()[0])
    exit_code = 128 - status if code == str(_AFTER_THE_JOB) and status > 128 else status
    node = told.get("hostname")
    state = _end(int(code), why, exit_code)
    return JobStatus(state, why, node, exit_code, told.get("jobname", ""))


def _end(code: int, why: str, exit_code: int) -> JobState:
    if why.startswith(_TIME_LIMIT):
        return JobState.TIME_LIMIT
    if code == _AFTER_THE_JOB and exit_code == -9:
        return JobState.KILLED
    if code in _NODE_FAILED:
        return JobState.NODE_FAILURE
    if code in _NEVER_RAN or code in (21, 26, 27, 28):
        return JobState.NOT_STARTED
    return JobState.COMPLETED if code == exit_code == 0 else JobState.FAILED
