"""SLURM: job scripts, and the commands that submit, list and cancel jobs.

Works without accounting (`sacct`), which many sites do not have.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from clustrix_prefect.schedulers.array_indices import format_indices
from clustrix_prefect.schedulers.folding import FoldedStatuses, fold_elements
from clustrix_prefect.schedulers.job_script import chosen, job_script
from clustrix_prefect.schedulers.scheduler import JobSpec, JobState, JobStatus, Limits
from clustrix_prefect.schedulers.slurm_refusals import refusal
from clustrix_prefect.task_resources import Resources

_STATES = {
    "PENDING": JobState.QUEUED,
    "CONFIGURING": JobState.QUEUED,
    "REQUEUED": JobState.QUEUED,
    "REQUEUE_FED": JobState.QUEUED,
    "REQUEUE_HOLD": JobState.QUEUED,
    "RESV_DEL_HOLD": JobState.QUEUED,
    "SPECIAL_EXIT": JobState.QUEUED,
    "RUNNING": JobState.RUNNING,
    "COMPLETING": JobState.RUNNING,
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

END_MESSAGES = {
    "DUE TO TIME LIMIT": JobState.TIME_LIMIT,
    "DUE TO PREEMPTION": JobState.PREEMPTED,
    "DUE TO NODE FAILURE": JobState.NODE_FAILURE,
}

# The name goes last: it alone may hold the separator.
_STATUS_FORMAT = "%i|%T|%N|%r|%j"
_JOB_ID = re.compile(r"^(\d+)(?:;\S+)?\Z")
_FOLDED = re.compile(r"^(\d+)_\[(.*)\]\Z")
_USER_LIMIT = 'sacctmgr -nP show associations where user="$(id -un)" format=MaxSubmitJobs'


@dataclass(frozen=True)
class SlurmScheduler:
    """How a SLURM site is spoken to.

    Attributes:
        partition: Where jobs go that do not say.
        account: Who is charged for jobs that do not say.
        qos: Quality of service of jobs that do not say.
        extra_directives: Further options of `sbatch`, such as "--exclusive"; they replace ours.
        skip_directives: Options that the site refuses and that are left out, such as "--mem".
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    extra_directives: Sequence[str] = ()
    skip_directives: Sequence[str] = ()

    name = "SLURM"
    index_variable = "SLURM_ARRAY_TASK_ID"
    default_array_size = 1001
    end_messages = END_MESSAGES

    def for_site(self, version: str) -> SlurmScheduler:
        return self

    # --- submitting -----------------------------------------------------------------------

    def job_script(self, spec: JobSpec) -> str:
        single = spec.array_size is None
        own_id = "$SLURM_JOB_ID" if single else "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
        return job_script(spec, (f"#SBATCH {line}" for line in self._directives(spec)), own_id)

    def _directives(self, spec: JobSpec) -> list[str]:
        options = (
            name if value is None else f"{name}={shlex.quote(value)}"
            for name, value in self._options(spec)
        )
        extra = [line.removeprefix("#SBATCH").strip() for line in self.extra_directives]
        return chosen(options, extra, self.skip_directives)

    def _options(self, spec: JobSpec) -> Iterator[tuple[str, str | None]]:
        wanted = spec.resources
        # In file names, %a is the array index and a percent sign is written twice.
        logs = spec.directory.replace("%", "%%") + "/logs/"
        index = "0" if spec.array_size is None else "%a"
        yield "--job-name", spec.name
        yield "--output", f"{logs}{index}.out"
        yield "--error", f"{logs}{index}.err"
        if spec.array_size is not None:
            throttle = f"%{wanted.max_parallel_jobs}" if wanted.max_parallel_jobs else ""
            yield "--array", f"0-{spec.array_size - 1}{throttle}"
        # A job that SLURM requeued by itself would run its calls a second time.
        yield "--no-requeue", None
        for name, value in self._resource_options(wanted):
            if value is not None:
                yield name, str(value)

    def _resource_options(self, wanted: Resources) -> Iterator[tuple[str, object]]:
        yield "--partition", wanted.partition or self.partition
        yield "--account", wanted.account or self.account
        yield "--qos", wanted.qos or self.qos
        yield "--nodes", wanted.nodes
        yield "--ntasks-per-node", wanted.tasks_per_node
        yield "--cpus-per-task", wanted.cores
        yield "--mem", f"{math.ceil(wanted.memory / 1024**2)}M" if wanted.memory else None
        yield "--time", _clock(wanted.time) if wanted.time else None
        yield "--gres", f"gpu:{wanted.gpus}" if wanted.gpus else None
        yield "--constraint", wanted.constraint
        yield "--signal", f"B:USR1@{wanted.signal_before_end}" if wanted.signal_before_end else None

    def submit_command(self, script: str, spec: JobSpec) -> list[str]:
        return ["sbatch", "--parsable", script]

    def trial_command(self, spec: JobSpec) -> list[str]:
        options = [word for line in self._directives(spec) for word in shlex.split(line)]
        return ["sbatch", "--test-only", *options, "--wrap=true"]

    def parse_submit(self, returncode: int, stdout: str, stderr: str) -> str:
        if returncode == 0:
            for line in reversed(stdout.splitlines()):  # site plug-ins may print before it
                if match := _JOB_ID.match(line.strip()):
                    return match[1]
        raise refusal(returncode, stderr or stdout)

    def element_id(self, job_id: str, index: int | None) -> str:
        return job_id if index is None else f"{job_id}_{index}"

    def job_of(self, element_id: str) -> str:
        return element_id.partition("_")[0]

    # --- looking after jobs -----------------------------------------------------------------

    def status_command(self, user_id: int) -> list[str]:
        # SLURM_BITSTR_LEN=0: lists of array indices are not cut off after 64 characters.
        squeue = ["squeue", "--noheader", "--states=all", f"--user={user_id}"]
        return ["env", "SLURM_BITSTR_LEN=0", *squeue, f"--format={_STATUS_FORMAT}"]

    def parse_status(self, stdout: str) -> Mapping[str, JobStatus]:
        statuses = FoldedStatuses("_")
        for line in stdout.splitlines():
            fields = line.split("|", 4)
            if len(fields) == 5:
                job_id, state, node, reason, name = (field.strip() for field in fields)
                folded = _FOLDED.match(job_id)
                job, indices = folded.groups() if folded else (job_id, None)
                statuses.add(job, indices, _status(state, reason, node, name=name))
        return statuses

    def details_command(self, element_id: str) -> list[str]:
        return ["scontrol", "show", "job", element_id]

    def parse_details(self, returncode: int, stdout: str) -> JobStatus | None:
        if returncode != 0:
            return None
        state = re.search(r"^\s+JobState=(\S+) Reason=(.*) Dependency=", stdout, re.MULTILINE)
        if not state:
            return None
        node = re.search(r"^\s+NodeList=(\S*)", stdout, re.MULTILINE)
        name = re.search(r"^JobId=.* JobName=(.*)", stdout, re.MULTILINE)
        exited = re.search(r"\bExitCode=(\d+):(\d+)", stdout)
        exit_code = None
        if exited:
            exit_code = -int(exited[2]) if exited[2] != "0" else int(exited[1])
        return _status(
            state[1],
            state[2],
            node[1] if node else "",
            exit_code=exit_code,
            name=name[1] if name else "",
        )

    def cancel_command(self, element_ids: Sequence[str]) -> list[str]:
        return ["scancel", *_folded(element_ids)]

    def signal_command(self, element_ids: Sequence[str], signal: str) -> list[str]:
        # A job that was cancelled takes no more signals, only KillWait ends it; and to SLURM
        # KILL means to cancel, unless it is the batch process alone that gets it.
        whom = "--batch" if signal == "KILL" else "--full"
        return ["scancel", f"--signal={signal}", whom, *_folded(element_ids)]

    # --- what the site allows ---------------------------------------------------------------

    def limits_commands(self) -> list[list[str]]:
        return [["scontrol", "show", "config"], ["sh", "-c", _USER_LIMIT]]

    def parse_limits(self, outputs: Sequence[tuple[int, str]]) -> Limits:
        (config_code, config), (users_code, users) = outputs
        found = dict(re.findall(r"^(\w+) *= (.*?) *$", config, re.MULTILINE))
        # One job is kept free: at MaxJobCount sbatch waits instead of answering.
        site = _number(found.get("MaxJobCount"))
        site = None if config_code or site is None else site - 1
        of_user = [int(line) for line in users.split() if line.isdigit()] if not users_code else []
        submitted = min((limit for limit in (*of_user, site) if limit), default=None)
        array = None if config_code else _number(found.get("MaxArraySize"))
        return Limits(
            max_array_size=min(array, submitted) if array and submitted else array,
            max_submitted_jobs=submitted,
            version=f"SLURM {found['SLURM_VERSION']}" if "SLURM_VERSION" in found else "",
        )


def _status(
    state: str, reason: str, node: str, *, exit_code: int | None = None, name: str = ""
) -> JobStatus:
    known = _STATES.get(state)
    empty = reason in ("None", "(null)", "")
    return JobStatus(
        # A state that later versions invent must not end a call.
        state=known or JobState.RUNNING,
        reason=("" if empty else reason) if known else state,
        node=node if node and node != "(null)" else None,
        exit_code=exit_code,
        name=name,
    )


def _folded(element_ids: Sequence[str]) -> list[str]:
    """The ids as `scancel` takes them, elements of one array folded."""
    return fold_elements(element_ids, "_", lambda indices: [f"[{format_indices(indices)}]"])


def _clock(seconds: int) -> str:
    """A time limit as SLURM writes it, in whole minutes: what it keeps anyway."""
    minutes = math.ceil(seconds / 60)
    days, minutes = divmod(minutes, 24 * 60)
    clock = f"{minutes // 60:02}:{minutes % 60:02}:00"
    return f"{days}-{clock}" if days else clock


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None
