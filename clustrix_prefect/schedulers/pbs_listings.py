"""The jobs that `qselect` names, and what `qstat` says of them as text or as XML."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from xml.etree import ElementTree

from clustrix_prefect.schedulers.scheduler import JobState, JobStatus

Job = Mapping[str, str]

_ATTRIBUTE = re.compile(r"^(?:    |\t)([A-Za-z_][\w.]*) = (.*)\Z")
# As `ctime` of C writes a time.
_TIME = re.compile(r"[A-Z][a-z]{2} ([A-Z][a-z]{2}) +(\d+) (\d\d:\d\d:\d\d) (\d{4})\Z")
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_ID = re.compile(r"^(\d+(?:\[\d*\])?)(?:\.\S*)?\Z")


class ListedStatuses(Mapping[str, JobStatus]):
    """Statuses by id; what is in the queue, and could not be read, is there as unknown.

    Args:
        listed: The ids that `qselect` named; an array may stand for its elements.
        read: What `qstat` said, by id.
    """

    def __init__(self, listed: set[str], read: Mapping[str, JobStatus]) -> None:
        self._listed = listed
        self._read = read

    def __getitem__(self, job_id: str) -> JobStatus:
        if job_id in self._read:
            return self._read[job_id]
        if job_id in self._listed or array_of(job_id) in self._listed:
            return JobStatus(JobState.UNKNOWN, "its state cannot be read")
        raise KeyError(job_id)

    def __iter__(self) -> Iterator[str]:
        # An array is not one job more than its elements are.
        arrays = {array_of(job_id) for job_id in self._read}
        yield from self._read
        yield from self._listed - self._read.keys() - arrays

    def __len__(self) -> int:
        return sum(1 for _ in self)


def in_order_of_time(told: str) -> str:
    """Return a time as `qstat` tells it, with the year first; as it is if it is told otherwise."""
    match = _TIME.match(told)
    if match is None or match[1] not in _MONTHS:
        return told
    month, day, clock, year = match.groups()
    return f"{year}-{_MONTHS.index(month) + 1:02}-{int(day):02} {clock}"


def array_of(job_id: str) -> str:
    """Return the id of the array that an element belongs to; any other id as it is."""
    return re.sub(r"\[\d+\]$", "[]", job_id)


def ids_in(listing: str) -> set[str]:
    """Return the ids, without their server, that stand before anything else in a listing."""
    found = set()
    for line in listing.splitlines():
        if not (match := _ID.match(line.strip())):
            break
        found.add(match[1])
    return found


def jobs_in(listing: str) -> Iterator[tuple[str, Job]]:
    """Yield what is said of jobs in a listing: ids without their server, and attributes.

    Attributes are in lower case; resources are "resource_list.walltime" in every form. What
    cannot be read costs no other job.
    """
    read = _from_xml if "<Data>" in listing else _from_text
    for job_id, attributes in read(listing):
        yield (
            job_id.strip().partition(".")[0],
            {name.lower(): value for name, value in attributes.items()},
        )


def _from_xml(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    # Torque writes a document for each id that it was asked for; users' variables are in them.
    for document in re.findall(r"<Job>.*?</Job>", text, re.DOTALL):
        try:
            job = ElementTree.fromstring(document)  # noqa: S314 (our scheduler's)
        except ElementTree.ParseError:
            continue
        told = {child.tag: (child.text or "").strip() for child in job}
        nested = {
            f"{child.tag}.{inner.tag}": (inner.text or "").strip()
            for child in job
            for inner in child
        }
        yield told.get("Job_Id", ""), {**told, **nested}


def _from_text(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    for block in re.split(r"^Job Id:", text, flags=re.MULTILINE)[1:]:
        job_id, *lines = block.split("\n")
        attributes: dict[str, str] = {}
        last = ""
        for line in lines:
            if attribute := _ATTRIBUTE.match(line):
                last = attribute[1]
                attributes[last] = attribute[2]
            elif last:
                # Long values go on in the next line, broken anywhere within a word.
                attributes[last] += line.removeprefix("\t")
        yield job_id, attributes
