"""Why `sbatch` did not take a job: for now, for good, or perhaps it did."""

from __future__ import annotations

import re

from clustrix_prefect.errors import SubmissionRefused
from clustrix_prefect.schedulers.refusals import Refusals
from clustrix_prefect.schedulers.scheduler import LimitReached, TryLater

# Limits on how much may be submitted; a limit on one job's size or time is named differently
# (QOSMaxCpuPerJobLimit) and will not go away by waiting.
_LIMITS = re.compile(
    r"\b(?:QOS|Assoc)\w*Submit\w*Limit|temporarily unable to accept job|job queue full"
    r"|MaxJobCount limit reached",
    re.IGNORECASE,
)
# The texts are those of SLURM's slurm_errno.c, from 20.11 to 26.11.
_FOR_NOW = re.compile(
    r"Unable to create job record, try again"
    r"|Resource temporarily unavailable"
    r"|Unable to contact slurm controller"
    r"|controller (?:is )?in standby mode"
    r"|controller not responding"
    r"|Rate limit exceeded"
    r"|Protocol authentication error|Munge encode failed"
    r"|Communication connection failure|Connection refused"
    r"|Connection rejected by handler|Connection forced closed by quiesce"
    r"|shutting down and closing all communications"
    r"|Unable to connect to database"
    r"|Job can not be altered now, try again later"
    r"|Requested partition configuration not available now",
    re.IGNORECASE,
)
_POLICY = re.compile(r"Job violates accounting/QOS policy", re.IGNORECASE)
_NAMED_LIMIT = re.compile(r"\b(?:QOS|Assoc)\w*Limit\b")
# The request may have arrived all the same.
_NO_ANSWER = re.compile(
    r"Socket timed out|Zero Bytes were transmitted|Connection timed out"
    r"|Connection reset|Unexpected message received|Message (?:receive|send) failure"
    r"|Communication shutdown failure",
    re.IGNORECASE,
)
_NOISE = re.compile(r"^\s*(?:sbatch: |error: |fatal: |allocation failure: )+")

_REMEDIES = {
    "Invalid partition": "Name a partition that `sinfo` lists (the block's `partition`).",
    "Invalid account": "Name an account that `sacctmgr show assoc user=$USER` lists (`account`).",
    "Invalid qos": "Name a QoS that `sacctmgr show assoc user=$USER` lists (`qos`).",
    "time limit is invalid": "Ask for less with resources(time=...); `sinfo` shows each "
    "partition's limit.",
    "Memory specification": "Ask for less with resources(memory=...); if the site does not "
    'manage memory, set the block\'s skip_directives=["--mem"].',
    "--mem": 'If the site does not take --mem, set the block\'s skip_directives=["--mem"].',
    "job array specification": "The site's arrays are smaller: set the block's `max_array_size`.",
    "generic resource (gres)": "Name GPUs as `sinfo -o %G` does, for example "
    'resources(gpus="a100:1"), or use extra_directives.',
    "feature specification": "Name features that `sinfo -o %f` lists: resources(constraint=...).",
    "More processors": "Ask for fewer cores; `sinfo -o '%P %c'` shows what nodes have.",
    "Node count": "Ask for fewer nodes; `sinfo -o '%P %D'` shows what there is.",
    "node configuration": "No node has all of that: ask for fewer cores, less memory, or fewer GPUs"
    " or others; `sinfo -N -o '%N %c %m %G'` shows what they have.",
    "not available (inactive or drain)": "Use another partition, or wait until this one is back.",
    "not permitted to use this partition": "Use a partition that is open to you.",
    "unrecognized option": "Correct `extra_directives`, or leave the option out with "
    "`skip_directives`.",
    "accounting/QOS policy": "Ask for less, or use another account, QoS or partition; "
    "`sacctmgr show qos` lists the limits.",
}


_REFUSALS = Refusals("SLURM", "sbatch", _FOR_NOW, _LIMITS, _NO_ANSWER, _NOISE, _REMEDIES)


def refusal(returncode: int, stderr: str) -> TryLater | SubmissionRefused:
    """Return what `sbatch` meant by this.

    Args:
        returncode: Its exit status, not 0.
        stderr: What it wrote to its standard error.
    """
    if _POLICY.search(stderr) and not _NAMED_LIMIT.search(stderr):
        # Older versions do not say which limit; most often it is one on how much is submitted.
        return LimitReached(_REFUSALS.plain(stderr))
    return _REFUSALS.read(returncode, stderr)
