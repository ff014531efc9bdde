"""Array elements as schedulers fold them: many of one array in one line."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

from clustrix_prefect.schedulers.array_indices import parse_indices
from clustrix_prefect.schedulers.scheduler import JobStatus


class FoldedStatuses(Mapping[str, JobStatus]):
    """Statuses by id; what was folded (`123_[4-9]`) is unfolded when asked for.

    Args:
        separator: What stands between a job's id and an element's index.
    """

    def __init__(self, separator: str) -> None:
        self._separator = separator
        self._jobs: dict[str, JobStatus] = {}
        self._folded: defaultdict[str, list[tuple[list[range], JobStatus]]] = defaultdict(list)

    def add(self, job_id: str, indices: str | None, status: JobStatus) -> None:
        """Note a job or an element, or those of a job's elements that an expression names."""
        if indices is None:
            self._jobs[job_id] = status
        else:
            self._folded[job_id].append((parse_indices(indices), status))

    def __getitem__(self, element_id: str) -> JobStatus:
        if element_id in self._jobs:
            return self._jobs[element_id]
        job, _, index = element_id.partition(self._separator)
        if index.isdigit():
            for ranges, status in self._folded.get(job, ()):
                if any(int(index) in indices for indices in ranges):
                    return status
            # An array that was cancelled before any of it ran is listed by its bare number.
            whole = self._jobs.get(job)
            if whole is not None and whole.state.is_final:
                return whole
        raise KeyError(element_id)

    def __iter__(self) -> Iterator[str]:
        yield from self._jobs
        for job, parts in self._folded.items():
            for ranges, _ in parts:
                for indices in ranges:
                    yield from (f"{job}{self._separator}{index}" for index in indices)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def few_or_whole(element_ids: Sequence[str], job_of: Callable[[str], str], few: int) -> list[str]:
    """Return ids to ask for: elements by themselves, of more than few of one array the array."""
    by_job: defaultdict[str, list[str]] = defaultdict(list)
    for element_id in element_ids:
        by_job[job_of(element_id)].append(element_id)
    return [asked for job, ids in by_job.items() for asked in (ids if len(ids) <= few else [job])]


def fold_elements(
    element_ids: Sequence[str], separator: str, fold: Callable[[list[int]], list[str]]
) -> list[str]:
    """Jobs as they are, then each array's elements as `fold` writes their indices."""
    jobs: list[str] = []
    elements: defaultdict[str, list[int]] = defaultdict(list)
    for element_id in element_ids:
        job, _, index = element_id.partition(separator)
        if index:
            elements[job].append(int(index))
        else:
            jobs.append(job)
    folded = ((job, text) for job, indices in elements.items() for text in fold(indices))
    return [*jobs, *(f"{job}{separator}{text}" for job, text in folded)]
