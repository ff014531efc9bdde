"""The lock of a build: one holder, whom nobody waits for when it is dead."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from clustrix_prefect.far_side.environments import locks
from clustrix_prefect.far_side.environments.locks import Heartbeat, Lock


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "lock")


def test_one_of_many_gets_it(path: str) -> None:
    with ThreadPoolExecutor(16) as pool:
        got = list(pool.map(lambda n: Lock(path).acquire(f"t{n}", os.getpid()), range(50)))
    assert got.count(True) == 1
    assert sorted(os.listdir(os.path.dirname(path))) == ["lock"]


def test_given_up_it_can_be_had_again(path: str) -> None:
    lock = Lock(path)
    assert lock.acquire("a", os.getpid())
    lock.release("b")  # not b's to release
    assert not lock.acquire("b")
    lock.release("a")
    assert lock.owner() is None
    assert lock.acquire("b")


def test_a_dead_holder_on_this_host_is_not_waited_for(path: str) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    lock = Lock(path)
    assert lock.acquire("a", child.pid)
    assert not lock.acquire("b")
    child.kill()
    assert child.wait()
    assert lock.acquire("b")
    owner = lock.owner()
    assert owner is not None
    assert owner["token"] == "b"


def test_a_process_id_that_came_round_again_is_another_process(path: str) -> None:
    assert Lock(path).acquire("a", os.getpid())
    file = Path(path, "owner.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "started": "1"}))
    assert Lock(path).acquire("b")


def test_a_holder_elsewhere_is_dead_when_it_stops_touching_the_lock(path: str) -> None:
    lock = Lock(path)
    assert lock.acquire("a", os.getpid())
    file = Path(path, "owner.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "host": "elsewhere"}))
    assert not lock.acquire("b")
    long_ago = time.time() - locks.STALE_SECONDS - 1
    os.utime(Path(path, "beat"), (long_ago, long_ago))
    assert lock.acquire("b")


def test_the_holder_touches_it(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "BEAT_SECONDS", 0.05)
    lock = Lock(path)
    assert lock.acquire("a", os.getpid())
    os.utime(Path(path, "beat"), (1, 1))
    with Heartbeat(lock):
        deadline = time.monotonic() + 60
        while Path(path, "beat").stat().st_mtime == 1:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_builder_takes_over_what_was_taken_for_it(path: str) -> None:
    lock = Lock(path)
    assert lock.acquire("a")
    assert not lock.take_over("b")
    assert lock.take_over("a")
    owner = lock.owner()
    assert owner is not None
    assert owner["pid"] == os.getpid()
