"""What a call logs and prints, and what `prefect.runtime` tells it, far away as here."""

from __future__ import annotations

import logging
import os
import time
from typing import Any
from uuid import UUID

import prefect.runtime
import pytest
from prefect import flow, get_run_logger, runtime, tags, task
from prefect.client.orchestration import get_client
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from .api import logs, task_run


@task(log_prints=True)
def talk(x: int) -> None:
    logger = get_run_logger()
    logger.info("first %s", x)
    print("second", x)
    logger.warning("third")
    print("fourth\nfifth")
    logger.error("sixth")
    logger.debug("seventh")
    logger.info("last")


@task
async def talk_later() -> None:
    get_run_logger().info("from a coroutine")
    print("unheard")
    get_run_logger().info("last")


@task
def use_plain_logging() -> None:
    logging.getLogger("my.science").warning("careful with %s", "that")
    logging.getLogger("my.science").info("all is well")
    try:
        raise ValueError("inner")
    except ValueError:
        get_run_logger().exception("it broke")
    get_run_logger().info("last")


@task
def say_and_wait(gate: str) -> bool:
    """Whether somebody heard it while this runs."""
    get_run_logger().info("I am running")
    deadline = time.time() + 60
    while time.time() < deadline:
        if os.path.exists(gate):
            return True
        time.sleep(0.05)
    return False


@task(task_run_name="known-{x}", tags=["static"])
def ask_runtime(x: int) -> dict[str, Any]:
    return {
        "task run": (
            str(runtime.task_run.id),
            runtime.task_run.name,
            runtime.task_run.task_name,
            sorted(runtime.task_run.tags),
            runtime.task_run.parameters,
            prefect.runtime.task_run.run_count,
        ),
        "flow run": (
            str(runtime.flow_run.id),
            prefect.runtime.flow_run.name,
            runtime.flow_run.flow_name,
            runtime.flow_run.parameters,
        ),
    }


@task(retries=1)
def count_runs() -> int:
    if runtime.task_run.run_count == 1:
        raise ValueError("again")
    return runtime.task_run.run_count


def test_lines_arrive_in_order_with_their_levels(runner: TaskRunner[Any]) -> None:
    @flow(task_runner=runner)
    def talking() -> list[UUID]:
        futures: list[PrefectFuture[Any]] = [talk.submit(1)]
        if isinstance(runner, ThreadPoolTaskRunner):  # whose threads lose each other's prints
            futures[0].wait()
        futures += [talk.submit(2), talk_later.submit()]
        for future in futures:
            future.result()
        return [future.task_run_id for future in futures]

    one, two, later = talking()
    for number, task_run_id in enumerate((one, two), start=1):
        lines = logs(task_run_id, until="Finished in state")
        said = [(line.level, line.message.strip()) for line in lines]
        start = said.index((logging.INFO, f"first {number}"))
        spoken = [(level, text) for level, text in said[start:] if "state" not in text]
        if (logging.INFO, "fourth\nfifth") in spoken:  # one print may be one line
            at = spoken.index((logging.INFO, "fourth\nfifth"))
            spoken[at : at + 1] = [(logging.INFO, "fourth"), (logging.INFO, "fifth")]
        assert spoken == [
            (logging.INFO, f"first {number}"),
            (logging.INFO, f"second {number}"),
            (logging.WARNING, "third"),
            (logging.INFO, "fourth"),
            (logging.INFO, "fifth"),
            (logging.ERROR, "sixth"),
            (logging.INFO, "last"),
        ]
        found = task_run(task_run_id)
        assert found.start_time is not None
        assert found.end_time is not None
        first = next(line for line in lines if line.message.startswith("first"))
        assert found.start_time <= first.timestamp <= found.end_time
        assert first.flow_run_id == found.flow_run_id
    messages = [line.message for line in logs(later, until="last")]
    assert "from a coroutine" in messages
    assert not any("unheard" in message for message in messages)


@pytest.mark.cluster_only("Prefect sends another logger's lines only where it is told to")
def test_plain_logging_arrives_too(runner: TaskRunner[Any]) -> None:
    @flow(task_runner=runner)
    def scientific() -> UUID:
        future = use_plain_logging.submit()
        future.result()
        return future.task_run_id

    lines = {line.message: line for line in logs(scientific(), until="last")}
    warning = lines["careful with that"]
    assert (warning.level, warning.name) == (logging.WARNING, "my.science")
    assert lines["all is well"].level == logging.INFO
    [broke] = [line for message, line in lines.items() if message.startswith("it broke")]
    assert broke.level == logging.ERROR
    assert "ValueError: inner" in broke.message


def test_lines_arrive_while_the_call_runs(runner: TaskRunner[Any], far_dir: str) -> None:
    gate = f"{far_dir}/gate"

    @flow(task_runner=runner)
    def listening() -> bool:
        future = say_and_wait.submit(gate)
        lines = logs(future.task_run_id, until="I am running")
        [heard] = [line for line in lines if line.message == "I am running"]
        assert time.time() - heard.timestamp.timestamp() < 60
        assert not future.state.is_final()
        with open(gate, "w"):
            pass
        return future.result()

    assert listening() is True


@pytest.mark.engine
def test_runtime(runner: TaskRunner[Any]) -> None:
    @flow(task_runner=runner, flow_run_name="known flow run")
    def asking(depth: int) -> tuple[dict[str, Any], UUID]:
        with tags("dynamic"):
            future = ask_runtime.submit(depth + 1)
        return future.result(), future.task_run_id

    told, task_run_id = asking(3)
    found = task_run(task_run_id)
    assert found.flow_run_id is not None
    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(found.flow_run_id)
    assert told["task run"] == (
        str(task_run_id),
        "known-4",
        "ask_runtime",
        ["dynamic", "static"],
        {"x": 4},
        1,
    )
    assert told["flow run"] == (str(flow_run.id), "known flow run", "asking", {"depth": 3})


@pytest.mark.engine
def test_runtime_counts_runs(runner: TaskRunner[Any]) -> None:
    @flow(task_runner=runner)
    def counting() -> int:
        return count_runs.submit().result()

    assert counting() == 2
