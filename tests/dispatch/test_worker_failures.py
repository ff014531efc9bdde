"""What became of a warm worker that ended under a call."""

import pytest

from clustrix_prefect.dispatch.failures import worker_failure
from clustrix_prefect.errors import OutOfMemory, WorkerFailed


@pytest.mark.parametrize("returncode", [-9, 1], ids=["the worker", "a process that it started"])
def test_what_the_kernel_ended_for_its_memory_is_out_of_memory(returncode: int) -> None:
    error = worker_failure(returncode, "", started=True, node="n1", out_of_memory=True)
    assert type(error) is OutOfMemory
    assert "kernel ended" in error.what
    assert error.exit_code == returncode


def test_an_exit_without_that_is_the_workers_own() -> None:
    assert type(worker_failure(1, "", started=True, node="n1")) is WorkerFailed
