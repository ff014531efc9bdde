"""What lies in a store, and what pruning leaves alone."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task

from clustrix_prefect import ClusterTaskRunner, File, Folder, LocalCluster
from clustrix_prefect.cli.main import main
from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.errors import AgentError
from clustrix_prefect.far_side.environments.locks import Lock
from clustrix_prefect.far_side.wire import protocol
from clustrix_prefect.sessions.store import prune_store, store_usage
from clustrix_prefect.validation.ages import seconds_of
from tests.far_side.calls import Call
from tests.far_side.far import Far, wait_for

SLOW = """
    import time, os
    def f(path):
        while not os.path.exists(path):
            time.sleep(0.05)
        return "done"
"""


def put(far: Far, data: bytes, run: str | None = None) -> str:
    """A content in the store, needed by a run; its name."""
    name = hashlib.sha256(data).hexdigest()
    if run is not None:
        far.client.request(protocol.open_run(run=run))
    far.client.request(protocol.have(blobs=[name], run=run))
    far.client.put_blob(name, data)
    return name


def prune(far: Far, seconds: float = 0) -> set[str]:
    """What was removed."""
    answer = far.client.request(protocol.store_prune(seconds=seconds))
    return {item["name"] for item in answer["items"]}


def test_what_a_run_needs_stays_until_it_has_ended(far: Far) -> None:
    needed = put(far, b"needed", run="open")
    unneeded = put(far, b"unneeded")
    assert prune(far) == {unneeded}
    assert (far.work_dir / "store" / needed).exists()
    far.client.request(protocol.close_run(run="open", keep=False))
    assert prune(far) == {needed}


def test_what_was_used_lately_stays(far: Far) -> None:
    lately, long_ago = put(far, b"lately"), put(far, b"long ago")
    path = far.work_dir / "store" / long_ago
    os.utime(path, (time.time() - 7200, path.stat().st_mtime))
    assert prune(far, 3600) == {long_ago}
    assert (far.work_dir / "store" / lately).exists()


def test_a_running_call_keeps_what_it_needs_when_its_client_is_gone(
    here: Far, tmp_path: Path
) -> None:
    end = tmp_path / "end"
    call = Call(SLOW, (str(end),))
    here.client.request(protocol.open_run(run="run"))
    bundle = hashlib.sha256(call.bundle).hexdigest()
    here.client.request(protocol.have(blobs=[bundle], run="run"))
    here.run(call)
    here.wait("started", call)
    here.kill_agent()
    later = Far(here.python, here.work_dir)
    try:
        assert bundle not in prune(later)
        assert (here.work_dir / "store" / bundle).exists()
        end.touch()
        known = wait_for(
            lambda: (
                (found := later.client.request(protocol.open_run(run="run"))["known"])
                and found[call.id]["state"] == "finished"
                and found
            )
        )
        assert set(known) == {call.id}
    finally:
        end.touch()
        later.close()


def test_what_did_not_arrive_whole_goes_after_a_while(here: Far) -> None:
    partial = here.work_dir / "store" / ("a" * 64 + ".partial")
    partial.write_bytes(b"x")
    assert prune(here) == set()
    os.utime(partial, (time.time() - 7200, time.time() - 7200))
    assert prune(here) == {partial.name}


def test_environments(far: Far) -> None:
    """One that no flow asked for in a while goes; none does while a run may need it."""
    for name in ("idle", "lately", "built"):
        environment = far.work_dir / "environments" / name
        (environment / "env.1" / "bin").mkdir(parents=True)
        (environment / "env.1" / "bin" / "python").symlink_to(sys.executable)
        (environment / "env").symlink_to("env.1")
        (environment / "recipe.json").write_text("{}")
        os.utime(environment / "recipe.json", (time.time() - 7200,) * 2)
    far.client.request(protocol.environment(name="lately", token=None, offset=0, wait=0))
    lock = Lock(str(far.work_dir / "environments" / "built" / "lock"))
    assert lock.acquire("token")
    assert far.client.request(protocol.store_usage())["kinds"]["environment"]["count"] == 3
    needed = put(far, b"needed", run="open")
    assert prune(far) == set()
    far.client.request(protocol.close_run(run="open", keep=False))
    assert prune(far) == {needed, "idle"}
    lock.release("token")
    assert prune(far) == {"built"}
    assert not list((far.work_dir / "environments").glob("idle*"))


@task
def use(path: Path) -> str:
    return path.read_text()


@task
def remake(text: str) -> Any:
    Path("remade.txt").write_text(text)
    Path("remade").mkdir(exist_ok=True)
    Path("remade/leaf").write_text(text + text)
    return File("remade.txt"), Folder("remade")


@task
def use_slowly(file: Path, folder: Path, nested: list[Path], gate: str) -> list[str]:
    """Look at all of it after somebody had time to prune."""
    import time

    Path(gate + ".waiting").touch()
    while not Path(gate).exists():
        time.sleep(0.02)
    return [path.read_text() for path in (file, folder / "leaf", nested[0], nested[1] / "leaf")]


def test_views_and_returned_files(local: ClusterBlock, tmp_path: Path) -> None:
    cluster = LocalCluster(remote_work_dir=str(tmp_path / "work"))
    (tmp_path / "a.txt").write_text("a")

    @flow(task_runner=ClusterTaskRunner(cluster))
    def with_files() -> Sequence[Any]:
        made, folder = remake.submit("b").result()
        assert prune_store(cluster, 0)["count"] == 0
        assert folder.download(tmp_path / "folder", progress=False).joinpath("leaf").is_file()
        return made, use.submit(File(tmp_path / "a.txt")).result(), use.submit(made).result()

    made, *texts = with_files()
    assert texts == ["a", "b"]
    kinds = store_usage(cluster)["kinds"]
    assert kinds["view"]["count"] == 3  # of the two files, and of the modules that travelled
    assert kinds["content"]["needed"] == 0
    gone = prune_store(cluster, 0)
    assert gone["count"] == kinds["view"]["count"] + kinds["content"]["count"]
    assert "content" not in store_usage(cluster)["kinds"]
    with pytest.raises(AgentError, match="no longer in the store"):
        made.download(tmp_path / "b.txt", progress=False)


def test_what_a_running_call_reads_stays(local: ClusterBlock, tmp_path: Path) -> None:
    """Files and folders, sent or returned by another task, and the views of them."""
    cluster = LocalCluster(remote_work_dir=str(tmp_path / "work"))
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "leaf").write_text("leaf")
    gate = tmp_path / "gate"

    @flow(task_runner=ClusterTaskRunner(cluster))
    def with_files() -> Sequence[Any]:
        made = remake.submit("b")
        sent = File(tmp_path / "a.txt"), Folder(tmp_path / "tree")
        running = use_slowly.submit(*sent, made, str(gate))
        try:
            wait_for(Path(f"{gate}.waiting").exists)
            gone = prune_store(cluster, 0)
        finally:
            gate.touch()
        return gone, running.result()

    gone, texts = with_files()
    assert gone["count"] == 0
    assert texts == ["a", "leaf", "b", "bb"]


def test_the_command_line(
    local: ClusterBlock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    LocalCluster(remote_work_dir=str(tmp_path / "work")).save("store-test", overwrite=True)
    far = Far(sys.executable, tmp_path / "work")
    try:
        put(far, b"x" * 5000)
    finally:
        far.close()

    def run(*arguments: str) -> str:
        assert main(["store", *arguments]) == 0
        return capsys.readouterr().out

    assert "1 contents" in run("usage", "local-cluster/store-test", "--items", "3")
    assert json.loads(run("usage", "local-cluster/store-test", "--json"))["kinds"]["content"]
    assert run("prune", "local-cluster/store-test") == "Nothing to remove.\n"
    assert run("prune", "local-cluster/store-test", "--older-than", "0s").startswith("Removed 1")
    assert "nothing of ours" in run("usage", "local-cluster/store-test")


@pytest.mark.parametrize(("text", "seconds"), [("30d", 30 * 86400), ("12h", 43200), ("0s", 0)])
def test_ages(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "3", "d", "-3d", "3y", "3 d x"])
def test_what_is_no_age(text: str) -> None:
    with pytest.raises(Exception, match="not an age"):
        seconds_of(text)
