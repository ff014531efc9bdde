"""The file in which agents say what they did and could not do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clustrix_prefect.errors import AgentError
from clustrix_prefect.far_side.agent.agent_log import LARGEST, NAME, AgentLog
from clustrix_prefect.far_side.wire import protocol
from tests.far_side.far import Far
from tests.live.daemon import wait_until


def test_an_agent_says_when_it_begins_what_failed_and_why_it_ends(
    python: str, tmp_path: Path
) -> None:
    far = Far(python, tmp_path / "work")
    with pytest.raises(AgentError):
        far.client.request(
            protocol.read_log(run="no-such-run", batch="0", secret="hunter2")  # type: ignore[call-arg]
        )
    far.close()
    log = tmp_path / "work" / NAME
    wait_until(lambda: " ends: " in log.read_text(), 60)
    assert log.stat().st_mode & 0o777 == 0o600
    lines = [line.split(" ", 2) for line in log.read_text().splitlines()]
    assert {int(pid) for _, pid, _ in lines} == {far.hello["pid"]}
    said = [what for *_, what in lines]
    assert said[0].startswith(f"begins on {far.hello['host']} with Python ")
    assert said[1].startswith("read_log failed: ")
    assert said[-1] == "ends: EOFError"
    assert "hunter2" not in log.read_text()


def test_it_is_rotated_and_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    log = AgentLog()
    log.write("before there is a directory")
    log.open(str(tmp_path))
    for number in range(4):
        log.write(f"{number} " + "x" * (LARGEST // 2))
    assert sorted(path.name for path in tmp_path.iterdir()) == [NAME, f"{NAME}.1"]
    assert all(path.stat().st_size < 2 * LARGEST for path in tmp_path.iterdir())
    (tmp_path / NAME).unlink()
    os.symlink(tmp_path / "elsewhere", tmp_path / NAME)
    log.write("to nowhere")
    assert not (tmp_path / "elsewhere").exists()
