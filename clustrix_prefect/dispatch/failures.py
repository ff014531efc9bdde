"""Names for what can befall a job, each with a remedy."""

from __future__ import annotations

import re
import signal
from dataclasses import replace

from clustrix_prefect.errors import (
    InfrastructureError,
    JobCancelled,
    JobLost,
    NodeFailure,
    OutOfDisk,
    OutOfMemory,
    Preempted,
    QueueTimeout,
    TimeLimitExceeded,
    WorkerFailed,
    WorkerNotStarted,
)
from clustrix_prefect.schedulers.scheduler import WORKER_NOT_STARTED, JobState, JobStatus

# How kernels and SLURM's daemons word it when they end a job for its memory; with some set-ups
# (jobacct_gather's OverMemoryKill) the state says only that the job failed.
_OUT_OF_MEMORY = re.compile(
    r"oom[-_ ]?kill|out[ -]of[ -]memory|exceeded (?:job |step )?memory limit"
    r"|memory limit .*exceeded|being killed.*memory",
    re.IGNORECASE,
)
# How Python words it when a worker cannot write a result, or a line of it (ENOSPC, EDQUOT).
_OUT_OF_DISK = re.compile(r"^OSError: \[Errno (?:28|122)\] (.+)$", re.MULTILINE)
_MORE_DISK = (
    "Free some space there, let `remote_work_dir` be where there is more, or return less: a `File`"
    " is not copied back."
)
# SLURM's words for the same, in bytes.
_MEMORY_USED = re.compile(r"exceeded memory limit \((\d+) > \d+\)")
# What a scheduler says where it may not know more.
_UNEXPLAINED = {JobState.COMPLETED, JobState.ENDED, JobState.FAILED, JobState.CANCELLED}
_START_FAILED = re.compile(
    rf"{re.escape(WORKER_NOT_STARTED)}|ModuleNotFoundError: No module named 'clustrix_far_side"
    r"|can't open file .*worker\.py|: (?:command|No such file or directory).*python",
)

# What our own lines of a script say, on the way out.
_REASON = re.compile(rf"^{re.escape(WORKER_NOT_STARTED)}: (.+)$", re.MULTILINE)


def explained(status: JobStatus | None, noted: JobStatus | None) -> JobStatus | None:
    """Return how a job ended: by its scheduler's word, or by what was noted, whichever tells more.

    Args:
        status: The last that the scheduler said, or None if it no longer knows the job.
        noted: What the job's standard error says of its end, if it does.
    """
    if status is None or noted is None:
        return status or noted
    if status.state not in _UNEXPLAINED:
        return status
    told = status.exit_code is not None or status.state is JobState.CANCELLED
    if told and noted.state in (JobState.FAILED, JobState.KILLED):
        return status
    exit_code = noted.exit_code if status.exit_code is None else status.exit_code
    return replace(status, state=noted.state, exit_code=exit_code)


def job_failure(
    status: JobStatus | None,
    stderr_tail: str,
    *,
    started: bool,
    job_id: str | None,
    node: str | None,
) -> InfrastructureError:
    """Return what became of a job that ended, or vanished, without a result.

    Args:
        status: What is known of its end, or None if that is nothing.
        stderr_tail: The last that the job wrote to its standard error.
        started: Whether the worker in it said that it began the call.
        job_id: The scheduler's id.
        node: Where it ran, if the worker said so.
    """
    kind, what, remedy = _name(status, stderr_tail, started)
    return kind(
        what,
        remedy,
        job_id=job_id,
        node=node or (status.node if status else None),
        exit_code=status.exit_code if status else None,
        stderr_tail=stderr_tail,
    )


def _name(
    status: JobStatus | None, stderr_tail: str, started: bool
) -> tuple[type[InfrastructureError], str, str]:
    state = status.state if status else None
    if state is JobState.TIME_LIMIT:
        return (
            TimeLimitExceeded,
            "The job ran into its time limit.",
            'Ask for more with resources(time="HH:MM:SS"), or split the work.',
        )
    if state is JobState.OUT_OF_MEMORY or _OUT_OF_MEMORY.search(stderr_tail):
        return (
            OutOfMemory,
            "The job used more memory than it asked for.",
            'Ask for more with resources(memory="16GB"), or work on less at once.',
        )
    if state is not JobState.CANCELLED and (full := _OUT_OF_DISK.findall(stderr_tail)):
        return OutOfDisk, f"There was no room for the result: {full[-1]}.", _MORE_DISK
    if state is JobState.CANCELLED:
        who = re.fullmatch(r"by (\d+)", status.reason if status else "")
        return (
            JobCancelled,
            f"{f'The user with the id {who[1]}' if who else 'Somebody'} cancelled the job.",
            "Ask who did (the scheduler's accounting may say), then run the flow again.",
        )
    if state is JobState.KILLED:
        return (
            JobCancelled,
            "The job was killed: somebody cancelled it, its node ran out of memory, or it ran into"
            " a limit of its queue.",
            "Ask who did, or ask for more with resources(memory=..., time=...); then run the flow"
            " again.",
        )
    if status is not None and state is JobState.NOT_STARTED:
        return (
            WorkerNotStarted,
            f"The scheduler cannot start the job: {status.reason or 'it does not say why'}.",
            "It was taken out of the queue. Mend what the reason names, or tell the"
            " administrators, then run the flow again.",
        )
    if state is JobState.NODE_FAILURE:
        told = f": {status.reason}" if status and "Prolog" in status.reason else ""
        return NodeFailure, f"The node failed under the job{told}.", "Run the flow again."
    if state is JobState.PREEMPTED:
        return (
            Preempted,
            "The job was preempted by one of higher priority.",
            "Use a partition or QoS that is not preempted, or allow more requeues.",
        )
    if state is JobState.REQUEUED:
        return (
            Preempted,
            "The scheduler took the job from its node, to run it again by itself.",
            "Use a queue whose jobs are not preempted, or allow more requeues.",
        )
    failed_early = state is JobState.FAILED and not started
    if failed_early or _START_FAILED.search(stderr_tail):
        return (
            WorkerNotStarted,
            f"The job ran, but the worker in it could not be started{_reason(stderr_tail)}.",
            "Look at the end of its standard error; the block's `python`, `modules` and `setup`"
            " say what is used on the nodes.",
        )
    if state in (JobState.FAILED, JobState.COMPLETED):
        return (
            WorkerFailed,
            "The job ended without a result.",
            "Look at the end of its standard error: the interpreter was ended or crashed.",
        )
    return (
        JobLost,
        "The scheduler no longer knows the job, and there is no result.",
        "Look whether the work directory is shared with the nodes and not purged. Whether somebody"
        " took the job out of the queue, only the scheduler's accounting or history would tell.",
    )


def memory_at_end(stderr_tail: str) -> int | None:
    """Return the bytes that a job used when the scheduler ended it for them, if that says so."""
    found = _MEMORY_USED.search(stderr_tail)
    return int(found[1]) if found else None


def _reason(stderr_tail: str) -> str:
    found = _REASON.findall(stderr_tail)
    return f": {found[-1]}" if found else ""


def worker_failure(
    returncode: int | None,
    stderr_tail: str,
    *,
    started: bool,
    node: str | None,
    out_of_memory: bool = False,
) -> InfrastructureError:
    """Return what became of a warm worker that ended under a call.

    Args:
        returncode: Its exit status, or minus the signal that ended it; None if nobody saw it,
            because it was the worker of an earlier agent.
        stderr_tail: The last that it wrote to its standard error.
        started: Whether it said that it began the call.
        node: Its host.
        out_of_memory: Whether the kernel said meanwhile that it ended processes for the memory
            that the worker and all beside it may use.
    """
    if returncode is None:
        return JobLost(
            "The worker that ran the call is gone, and there is no result.",
            "Look whether the host was restarted.",
            node=node,
        )
    if out_of_memory:
        return OutOfMemory(
            "The kernel ended the worker, or what it started, for its memory: together they used"
            " all that they may.",
            'Ask for more with resources(memory="16GB"), or work on less at once.',
            node=node,
            exit_code=returncode,
            stderr_tail=stderr_tail,
        )
    if returncode == -signal.SIGKILL:
        return WorkerFailed(
            "The worker was killed by signal 9 (SIGKILL): by somebody, or by the kernel, if the"
            " host's memory was used up.",
            "Look at the host's memory and its kernel's log (`dmesg`); lower `max_parallel_calls`,"
            " or work on less at once.",
            node=node,
            exit_code=returncode,
            stderr_tail=stderr_tail,
        )
    if full := _OUT_OF_DISK.findall(stderr_tail):
        return OutOfDisk(
            f"There was no room for the result: {full[-1]}.",
            _MORE_DISK,
            node=node,
            exit_code=returncode,
            stderr_tail=stderr_tail,
        )
    if not started:
        kind: type[InfrastructureError] = WorkerNotStarted
        what = f"The worker could not be started{_reason(stderr_tail)}."
        remedy = (
            "Look at the end of its standard error; check the block's `python`, `modules` and"
            " `setup`."
        )
    else:
        kind = WorkerFailed
        what = (
            f"The worker was ended by signal {-returncode} ({signal.Signals(-returncode).name})."
            if returncode < 0 and -returncode in signal.Signals._value2member_map_
            else f"The worker ended with exit status {returncode} before its call was done."
        )
        remedy = "Look at the end of its standard error: native code crashed, or the task exited."
    return kind(what, remedy, node=node, exit_code=returncode, stderr_tail=stderr_tail)


def queue_timed_out(limit: float, reason: str, job_id: str | None = None) -> QueueTimeout:
    """Return what is said of a call that waited for too long.

    Args:
        limit: How long it might wait, in seconds.
        reason: What it waited for, as far as that is known.
        job_id: Its job.
    """
    return QueueTimeout(
        f"The call waited for more than {limit:g} s in the queue"
        f"{f' ({reason})' if reason else ''}.",
        "Ask for less, use another partition, or raise resources(queue_timeout=...).",
        job_id=job_id,
    )
