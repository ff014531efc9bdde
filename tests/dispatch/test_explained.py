"""Of two accounts of a job's end, the one that tells more counts."""

from __future__ import annotations

import pytest

from clustrix_prefect.dispatch.failures import explained
from clustrix_prefect.schedulers.scheduler import JobState, JobStatus


@pytest.mark.parametrize(
    ("said", "noted", "state", "exit_code"),
    [
        (None, JobStatus(JobState.FAILED, exit_code=3), JobState.FAILED, 3),
        (JobStatus(JobState.FAILED, exit_code=3), None, JobState.FAILED, 3),
        # A listing with one state for all ends.
        (
            JobStatus(JobState.COMPLETED),
            JobStatus(JobState.FAILED, exit_code=3),
            JobState.FAILED,
            3,
        ),
        (JobStatus(JobState.COMPLETED), JobStatus(JobState.KILLED), JobState.KILLED, None),
        # The scheduler knows who asked it to end.
        (
            JobStatus(JobState.CANCELLED, exit_code=-15),
            JobStatus(JobState.KILLED),
            JobState.CANCELLED,
            -15,
        ),
        (
            JobStatus(JobState.CANCELLED),
            JobStatus(JobState.TIME_LIMIT),
            JobState.TIME_LIMIT,
            None,
        ),
        (
            JobStatus(JobState.FAILED, exit_code=1),
            JobStatus(JobState.REQUEUED),
            JobState.REQUEUED,
            1,
        ),
        (
            JobStatus(JobState.OUT_OF_MEMORY),
            JobStatus(JobState.FAILED, exit_code=-9),
            JobState.OUT_OF_MEMORY,
            None,
        ),
    ],
)
def test_explained(
    said: JobStatus | None, noted: JobStatus | None, state: JobState, exit_code: int | None
) -> None:
    found = explained(said, noted)
    assert found is not None
    assert (found.state, found.exit_code) == (state, exit_code)


def test_what_nobody_knows() -> None:
    assert explained(None, None) is None
