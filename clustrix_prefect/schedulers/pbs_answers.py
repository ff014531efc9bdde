"""What the commands of a PBS say: refusals, and jobs as JSON, as XML or as text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree import ElementTree

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
_WAITING = {"Q": "", "H": "held (H)", "W": "waits for its time (W)", "T": "in transit (T)"}
_ENDED = "CFX"
_SUBSTATE_DELETED = "91"
_BY_SIGNAL = 256
_ENDING_SIGNALS = (15, 9)

_Job = Mapping[str, str]


def jobs_in(listing: str) -> Iterator[tuple[str, _Job]]:
    """The jobs of a listing in any of its forms: ids without their server, and attributes.

    Attributes are in lower case; resources are "resource_list.walltime" in every form.
    """
    text = listing.lstrip()
    read = _from_json if text.startswith("{") else _from_xml if text.startswith("<") else _from_text
    for job_id, attributes in read(text):
        yield (
            job_id.strip().partition(".")[0],
            {name.lower(): value for name, value in attributes.items()},
        )


def status_of(job: _Job, ends: Mapping[int, JobState]) -> JobStatus:
    """What a job's attributes say.

    Args:
        job: As `jobs_in` gives it.
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
    job: _Job, ends: Mapping[int, JobState], node: str | None, comment: str, name: str
) -> JobStatus:
    told = job.get("exit_status", "")
    if not told.lstrip("-").isdigit():
        deleted = job.get("substate") == _SUBSTATE_DELETED
        return JobStatus(
            JobState.CANCELLED if deleted else JobState.COMPLETED, comment, node, name=name
        )
    status = int(told)
    exit_code = _BY_SIGNAL - status if status > _BY_SIGNAL else status
    if status < 0:
        state = ends.get(status, JobState.FAILED)
    elif -exit_code in _ENDING_SIGNALS:
        state = JobState.TIME_LIMIT if _time_is_over(job) else JobState.CANCELLED
    else:
        state = JobState.FAILED if status else JobState.COMPLETED
    return JobStatus(state, comment, node, exit_code, name)


def _time_is_over(job: _Job) -> bool:
    used, asked = (job.get(f"{name}.walltime") for name in ("resources_used", "resource_list"))
    return bool(used and asked) and _seconds(used or "") >= _seconds(asked or "")


def _seconds(clock: str) -> int:
    seconds = 0
    for part in clock.split(":"):
        seconds = seconds * 60 + int(part or 0)
    return seconds


def _from_json(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    # Names with control characters in them are not escaped by every version.
    for job_id, attributes in json.loads(text, strict=False).get("Jobs", {}).items():
        yield job_id, dict(_flat(attributes))


def _flat(attributes: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in attributes.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", str(value)


def _from_xml(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    for job in ElementTree.fromstring(text).iter("Job"):  # noqa: S314 (our scheduler's)
        told = {child.tag: (child.text or "").strip() for child in job}
        nested = {
            f"{child.tag}.{inner.tag}": (inner.text or "").strip()
            for child in job
            for inner in child
        }
        yield told.get("Job_Id", ""), {**told, **nested}


def _from_text(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    for block in re.split(r"^Job Id:", text, flags=re.MULTILINE)[1:]:
        job_id, *lines = block.splitlines()
        attributes: dict[str, str] = {}
        last = ""
        for line in lines:
            name, equals, value = line.strip().partition(" = ")
            if equals and re.match(r"^[\w.]+$", name):
                attributes[name], last = value, name
            elif last:
                attributes[last] += line.strip()  # long values go on in the next line
        yield job_id, attributes
