"""Transactions: commit and rollback of calls, as in Prefect's own runners."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, task
from prefect.task_runners import TaskRunner
from prefect.transactions import Transaction, transaction

from .api import task_run

pytestmark = pytest.mark.engine

events: list[tuple[str, int]] = []


@task
def write(path: str) -> str:
    Path(path).write_text("written")
    return path


@write.on_rollback
def remove(txn: Transaction) -> None:
    assert txn.get("path")
    os.unlink(txn.get("path"))
    events.append(("rolled back", os.getpid()))


@write.on_commit
def keep(txn: Transaction) -> None:
    events.append(("committed", os.getpid()))


@task
def fail() -> None:
    raise ValueError("after the write")


@pytest.fixture(autouse=True)
def no_events() -> None:
    events.clear()


def test_rollback(runner: TaskRunner[Any], tmp_path: Path, far_dir: str) -> None:
    path = f"{far_dir}/file"
    ids: list[UUID] = []

    @flow(task_runner=runner)
    def all_or_nothing() -> None:
        with transaction() as txn:
            txn.set("path", path)
            future = write.submit(path)
            assert future.result() == path
            assert os.path.exists(path)
            assert events == []
            ids.append(future.task_run_id)
            fail.submit().result()

    with pytest.raises(ValueError, match="after the write"):
        all_or_nothing()
    assert events == [("rolled back", os.getpid())]
    assert not os.path.exists(path)
    task_run(ids[0], "RolledBack")


def test_commit(runner: TaskRunner[Any], far_dir: str) -> None:
    path = f"{far_dir}/file"

    @flow(task_runner=runner)
    def all_or_nothing() -> None:
        with transaction():
            write.submit(path).result()
            assert events == []
        assert events == [("committed", os.getpid())]

    all_or_nothing()
    assert os.path.exists(path)


def test_outside_a_transaction_each_call_commits(runner: TaskRunner[Any], far_dir: str) -> None:
    @flow(task_runner=runner)
    def single() -> None:
        write.submit(f"{far_dir}/file").result()

    single()
    assert events == [("committed", os.getpid())]
