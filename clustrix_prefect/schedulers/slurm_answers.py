"""What SLURM's commands say: states, the ends of jobs, limits, and why a job waits for ever."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Set
from dataclasses import replace

from clustrix_prefect.schedulers.folding import FoldedStatuses
from clustrix_prefect.schedulers.scheduler import JobState, JobStatus, Limit, Limits, LimitScope

_STATES = {
    "PENDING": JobState.QUEUED,
    "CONFIGURING": JobState.QUEUED,
    "EXPEDITING": JobState.QUEUED,
    "REQUEUED": JobState.QUEUED,
    "REQUEUE_FED": JobState.QUEUED,
    "REQUEUE_HOLD": JobState.QUEUED,
    "RESV_DEL_HOLD": JobState.QUEUED,
    "SPECIAL_EXIT": JobState.QUEUED,
    "RUNNING": JobState.RUNNING,
    "COMPLETING": JobState.ENDING,
    "RESIZING": JobState.RUNNING,
    "SIGNALING": JobState.RUNNING,
    "STAGE_OUT": JobState.RUNNING,
    "STOPPED": JobState.RUNNING,
    "SUSPENDED": JobState.RUNNING,
    "COMPLETED": JobState.COMPLETED,
    "FAILED": JobState.FAILED,
    "TIMEOUT": JobState.TIME_LIMIT,
    "DEADLINE": JobState.TIME_LIMIT,
    "OUT_OF_MEMORY": JobState.OUT_OF_MEMORY,
    "CANCELLED": JobState.CANCELLED,
    "REVOKED": JobState.CANCELLED,
    "BOOT_FAIL": JobState.NODE_FAILURE,
    "LAUNCH_FAILED": JobState.NODE_FAILURE,
    "NODE_FAIL": JobState.NODE_FAILURE,
    "RECONFIG_FAIL": JobState.NODE_FAILURE,
    "PREEMPTED": JobState.PREEMPTED,
}
# While a node is cleared after a job, its state hides how it ended; the reason does not.
_ENDED_FOR = {
    "TimeLimit": JobState.TIME_LIMIT,
    "OutOfMemory": JobState.OUT_OF_MEMORY,
    "NodeDown": JobState.NODE_FAILURE,
    "NonZeroExitCode": JobState.FAILED,
}
# The last of the numbers that can be a signal.
_SIGNALS = 64
# A job whose Prolog failed and that may not be requeued is cancelled by slurmd. Releases tell of it
# by an error's number where signals are, or only by what they say of the node.
_PROLOG_FAILED = 54
_NODE_IS_OUT = re.compile(r"^NodeReason=(\S+) .*\bprolog\b", re.IGNORECASE | re.MULTILINE)
# How a record of `scontrol` begins, and a line of `sacct`.
_RECORD = re.compile(r"JobId=(\d+)(?: ArrayJobId=(\d+) ArrayTaskId=(\S+))?")
_ACCOUNTED = re.compile(
    r"^(\d+)(?:_(?:(\d+)|\[(.*)\]))?\|([A-Z_]+)((?: by \d+)?)\+?\|(\d+:\d+)\|(.*)$", re.MULTILINE
)

_NEVER_RUNS = {
    "PartitionConfig|PartitionNodeLimit": "Ask for less, or use another partition; `sinfo -o"
    " '%P %D %c %m'` shows what each has.",
    "PartitionTimeLimit": "Ask for less with resources(time=...); `sinfo -o '%P %l'` shows each"
    " partition's limit.",
    "PartitionDown|PartitionInactive": "Use another partition, or wait until this one is up.",
    "BadConstraints": "Ask for what some node has; `sinfo -o '%N %c %m %f %G'` shows it.",
    "InvalidAccount": "Name an account that `sacctmgr show assoc user=$USER` lists.",
    "InvalidQOS": "Name a QoS that `sacctmgr show assoc user=$USER` lists.",
    "JobHeldAdmin": "An administrator holds it: ask them, or cancel it.",
    "DependencyNeverSatisfied": "Correct the dependency in `extra_directives`.",
    r"(?:Assoc|QOS)(?:Max|Min)\w+Per(?:Job|Node)(?:Limit)?": "Ask for less, or use another account,"
    " QoS or partition; `sacctmgr show qos` and `sacctmgr show assoc` list the limits.",
}


# Why a job waits (squeue's manual, "JOB REASON CODES"), by how the reason begins.
_WORDS = {
    "Priority": "other jobs go first",
    "Resources": "it is next, and nodes, cores or memory are not free yet",
    "JobArrayTaskLimit": "as many calls as `max_parallel_jobs` allows run already",
    "Dependency": "a job that it depends on has not ended yet",
    "BeginTime": "the time at which it may begin is not come",
    "JobHeldUser": "somebody held it; `scontrol release` lets it go",
    "JobHeldAdmin": "an administrator holds it",
    "Licenses": "a licence that it needs is not free",
    "PartitionDown": "its partition starts no jobs for now",
    "PartitionInactive": "its partition is out of service",
    "ReqNodeNotAvail": "a node that it needs is down, reserved or in use",
    "Reservation": "its reservation has not begun",
    "NodeDown": "a node that it needs is down",
    "Assoc": "a limit of the account is used up for now",
    "QOS": "a limit of the QoS is used up for now",
    "MaxJobs": "as many jobs as the site allows run already",
}


def in_words(reason: str) -> str:
    """Return a reason why a job waits, with what it means."""
    for begin, words in _WORDS.items():
        if reason.startswith(begin):
            return f"{reason}: {words}"
    return reason


def status_of(
    state: str, reason: str, node: str, *, exit_code: int | None = None, name: str = ""
) -> JobStatus:
    """Return what `squeue`, `scontrol` and `sacct` mean by a job's state.

    Args:
        state: Its name, in capitals.
        reason: Why it waits or ended, if that is said.
        node: Where it runs or ran.
        exit_code: How it ended; minus a signal.
        name: The job's.
    """
    known = _STATES.get(state)
    empty = reason in ("None", "(null)", "")
    return JobStatus(
        # A state that later versions invent must not end a call.
        state=known or JobState.RUNNING,
        reason=("" if empty else reason) if known else state,
        node=node if node and node not in ("(null)", "None assigned") else None,
        exit_code=exit_code,
        name=name,
    )


def never_runs(reason: str) -> str | None:
    """Return what to do about a job that will not start by waiting; None: it may."""
    for pattern, remedy in _NEVER_RUNS.items():
        if re.fullmatch(pattern, reason):
            return remedy
    return None


def ends_of_jobs(element_ids: Iterable[str], details: str) -> dict[str, JobStatus]:
    """Return how jobs stand by what `scontrol show job` and, after it, `sacct` said.

    Args:
        element_ids: The jobs and array elements.
        details: The outputs of both, and `sinfo`'s of nodes; each may have said nothing.

    Returns:
        Those of them that either knows.
    """
    broken = set(_NODE_IS_OUT.findall(details))
    told, accounted = FoldedStatuses("_"), FoldedStatuses("_")
    for record in re.split(r"^(?=JobId=\d)", details, flags=re.MULTILINE)[1:]:
        if (begin := _RECORD.match(record)) and (status := _of_controller(record, broken)):
            job, array, indices = begin.groups()
            told.add(array or job, indices, status)
    for job, index, indices, *line in _ACCOUNTED.findall(details):
        accounted.add(job, index or indices or None, _of_accounting(*line))
    stand = (
        (element_id, _together(told.get(element_id), accounted.get(element_id)))
        for element_id in element_ids
    )
    return {element_id: status for element_id, status in stand if status is not None}


def _together(told: JobStatus | None, accounted: JobStatus | None) -> JobStatus | None:
    if told is None or accounted is None:
        return told or accounted
    if told.state is JobState.ENDING and accounted.state.is_final:
        return replace(accounted, name=told.name)
    if told.state is JobState.CANCELLED and accounted.state is JobState.CANCELLED:
        return replace(told, reason=accounted.reason)  # it says who did it
    return told


def _of_controller(record: str, broken: Set[str]) -> JobStatus | None:
    state = re.search(r"^\s+JobState=(\S+) Reason=(.*) Dependency=", record, re.MULTILINE)
    if not state:
        return None
    node = re.search(r"^\s+NodeList=(\S*)", record, re.MULTILINE)
    name = re.search(r"^JobId=.* JobName=(.*)", record, re.MULTILINE)
    code, signal = _exit_of(record)
    status = status_of(
        state[1],
        state[2],
        node[1] if node else "",
        exit_code=_exit_code(code, signal),
        name=name[1] if name else "",
    )
    if status.state is JobState.ENDING:
        if ended := _ENDED_FOR.get(state[2]):
            return replace(status, state=ended)
        if code and not signal:
            return replace(status, state=JobState.FAILED)
    is_cancelled = status.exit_code == 0 and status.state is JobState.CANCELLED
    if is_cancelled and not broken.isdisjoint(_nodes_in(status.node or "")):
        return _prolog_failed(status)
    return _without_prolog(status, signal)


def _of_accounting(state: str, reason: str, ended: str, node: str) -> JobStatus:
    code, signal = (int(part) for part in ended.split(":"))
    status = status_of(state, reason.strip(), node, exit_code=_exit_code(code, signal))
    return _without_prolog(status, signal)


def _nodes_in(listed: str) -> Iterator[str]:
    """Yield the names in a list of nodes as SLURM folds it: "gpu1,n[01-03,7]"."""
    for name, indices in re.findall(r"([^,\[]+)(?:\[([^\]]*)\])?", listed):
        if not indices:
            yield name
        for first, last in re.findall(r"(\d+)(?:-(\d+))?", indices):
            for number in range(int(first), int(last or first) + 1):
                yield f"{name}{number:0{len(first)}}"


def _without_prolog(status: JobStatus, signal: int) -> JobStatus:
    if status.state is not JobState.CANCELLED or signal != _PROLOG_FAILED or status.node is None:
        return status
    return _prolog_failed(status)


def _prolog_failed(status: JobStatus) -> JobStatus:
    return replace(
        status,
        state=JobState.NODE_FAILURE,
        reason=f"the Prolog of {status.node} failed",
        exit_code=None,
    )


def _exit_of(details: str) -> tuple[int, int]:
    found = re.search(r"\bExitCode=(\d+):(\d+)", details)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _exit_code(code: int, signal: int) -> int | None:
    """As Python has them; SLURM also puts errors of its own where signals are."""
    if signal == 0:
        return code
    return -signal if signal <= _SIGNALS else None


def limits_of(config: str, users: str) -> Limits:
    """Return what a site allows.

    Args:
        config: What `scontrol show config` said; empty if nothing.
        users: What `sacctmgr` said of the user, of its associations and of the QOS, a line
            "--" between them; empty if nothing.
    """
    found = dict(re.findall(r"^(\w+) *= (.*?) *$", config, re.MULTILINE))
    jobs = _number(found.get("MaxJobCount"))
    # One job is kept free: at MaxJobCount sbatch waits instead of answering.
    limits = [
        Limit("MaxArraySize", max_array_size=_number(found.get("MaxArraySize"))),
        Limit("MaxJobCount", max_submitted_jobs=jobs - 1 if jobs else None),
    ]
    sections = re.split(r"^--$", users, flags=re.MULTILINE)
    if len(sections) != 3:
        sections = ["", "", ""]
    user, associations, qualities = (section.strip().splitlines() for section in sections)
    default = user[0].strip("|") if user else ""
    default_qos = ""
    for line in associations:
        cluster, account, partition, most, group, qos = [*line.split("|"), *[""] * 6][:6]
        if cluster not in ("", found.get("ClusterName", cluster)):
            continue  # one accounting serves several clusters
        whose = f"the account {account}" + (f" in the partition {partition}" if partition else "")
        limits += _submit_limits(
            {"MaxSubmitJobs": most, "GrpSubmitJobs": group},
            whose,
            LimitScope(account=account, partition=partition or None),
        )
        if account == default and not partition:
            default_qos = qos
    for line in qualities:
        name, user_most, account_most, group = [*line.split("|"), *[""] * 4][:4]
        limits += _submit_limits(
            {
                "MaxSubmitJobsPerUser": user_most,
                "MaxSubmitJobsPerAccount": account_most,
                "GrpSubmitJobs": group,
            },
            f"the QOS {name}",
            LimitScope(qos=name),
        )
    version = found.get("SLURM_VERSION")
    return Limits(
        [limit for limit in limits if limit.max_array_size or limit.max_submitted_jobs],
        version=f"SLURM {version}" if version else "",
        default_account=default or None,
        default_qos=default_qos or None,
    )


def _submit_limits(told: dict[str, str], whose: str, applies_to: LimitScope) -> Iterator[Limit]:
    for name, value in told.items():
        if number := _number(value):
            yield Limit(f"{name} of {whose}", applies_to, max_submitted_jobs=number)


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None
