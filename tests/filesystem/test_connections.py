"""What goes over the connection, and what a filesystem carries with it."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from clustrix_prefect import (
    ClusterFileSystem,
    ClusterTaskRunner,
    LocalCluster,
    SSHCluster,
    SSHCredentials,
    cluster_count_files,
    cluster_du,
    cluster_exists,
    cluster_find,
    cluster_glob,
    cluster_isdir,
    cluster_isfile,
    cluster_ls,
    cluster_stat,
)
from clustrix_prefect.errors import ConfigurationError, ConnectionLost
from clustrix_prefect.filesystem import file_connection
from clustrix_prefect.filesystem.far_files import far_files
from tests.live.prefect_server import PrefectServer
from tests.live.ssh_host import SSHHost

_SECRET = "correct horse battery staple"


@pytest.fixture
def fresh(ssh: SSHCluster) -> Iterator[SSHCluster]:
    """A cluster that nobody has asked yet."""
    cluster = ssh.model_copy(update={"remote_work_dir": f"~/fresh-{os.urandom(4).hex()}"})
    yield cluster
    far_files(cluster).close()


def wait_until(holds: Callable[[], bool]) -> bool:
    """Whether this holds before long."""
    deadline = time.monotonic() + 60
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.05)
    return holds()


def in_a_fork(holds: Callable[[], bool]) -> int:
    """How a child that this process forks ended: 0 if this holds there."""
    child = os.fork()
    if child == 0:
        ok = False
        try:
            ok = holds()
        finally:
            os._exit(0 if ok else 1)
    deadline = time.monotonic() + 60
    while (done := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < deadline:
        time.sleep(0.05)
    if done[0] == 0:
        os.kill(child, 9)
        done = os.waitpid(child, 0)
    return done[1]


def test_twelve_operations_use_one_connection(fresh: SSHCluster, ssh_host: Any, tree: Any) -> None:
    before = ssh_host.logins  # of other tests, which may end meanwhile
    (tree / "x").write_text("x")
    cluster_ls(tree, fresh)
    cluster_find("*", tree, fresh)
    cluster_glob("*", tree, fresh)
    cluster_stat(tree, fresh)
    cluster_exists(tree, fresh)
    cluster_isdir(tree, fresh)
    cluster_isfile(tree, fresh)
    cluster_du(tree, fresh)
    cluster_count_files(tree, cluster=fresh)
    ClusterFileSystem(fresh).cat(f"{tree}/x")
    ClusterFileSystem(fresh).pipe(f"{tree}/y", b"y")
    ClusterFileSystem(fresh).find(str(tree))
    assert len(ssh_host.logins - before) == 1
    assert far_files(fresh).connections == 1


@task(cache_policy=NO_CACHE)
def make_file(path: str) -> str:
    with open(path, "w") as file:
        file.write("x" * 9_000_000)
    return path


def test_in_a_flow_the_runners_connection_is_used(
    fresh: SSHCluster, ssh_host: SSHHost, tree: Any, prefect_server: PrefectServer
) -> None:
    fs = ClusterFileSystem(fresh)
    tree.chmod(0o777)
    before = ssh_host.logins  # of other tests, which may end meanwhile
    assert fs.exists(str(tree))  # there is no task runner yet

    under_way: list[Any] = []

    @flow(task_runner=ClusterTaskRunner(fresh))
    def looking() -> None:
        path = make_file.submit(f"{tree}/made").result()
        assert fs.cat(path) == b"x" * 9_000_000
        fs.pipe(f"{tree}/back", b"y" * 9_000_000)
        assert fs.find(str(tree)) == [f"{tree}/back", path]
        assert cluster_ls(tree, fresh) == ["back", "made"]
        with pytest.raises(FileNotFoundError, match="missing"):
            fs.ls(f"{tree}/missing")
        # The runner's; what was open before is not needed any more.
        assert wait_until(lambda: len(ssh_host.logins - before) == 1)
        ssh_host.drop_connections()
        assert cluster_du(tree, fresh).total_bytes == 18_000_000
        # What is under way when the flow ends is still brought to its end.
        under_way.append(fs.walk("/usr", detail=True))
        next(under_way[0])

    looking()
    assert len(list(under_way[0])) > 100
    assert far_files(fresh).connections == 1
    assert cluster_ls(tree, fresh) == ["back", "made"]
    assert far_files(fresh).connections == 2


def test_a_host_that_is_back_after_the_runner_gave_up(
    fresh: SSHCluster, ssh_host: SSHHost, tree: Any, prefect_server: PrefectServer
) -> None:
    """Files are read again, and further calls run, though the first runner is done for."""
    impatient = fresh.model_copy(update={"reconnect_seconds": 0.5})
    tree.chmod(0o777)

    @flow(task_runner=ClusterTaskRunner(impatient))
    def within() -> list[str]:
        make_file.submit(f"{tree}/made").result()
        return cluster_ls(tree, impatient)

    @flow(task_runner=ClusterTaskRunner(impatient))
    def outlasting() -> None:
        assert cluster_ls(tree, impatient) == []
        ssh_host.stop_listening()
        try:
            ssh_host.drop_connections()
            with pytest.raises(ConnectionLost):
                cluster_ls(tree, impatient)
        finally:
            ssh_host.listen_again()
        assert cluster_ls(tree, impatient) == []
        assert within() == ["made"]
        assert cluster_ls(tree, impatient) == ["made"]

    try:
        outlasting()
        assert cluster_ls(tree, impatient) == ["made"]
    finally:
        far_files(impatient).close()


def test_a_process_forked_in_a_flow_opens_a_connection_of_its_own(
    fresh: SSHCluster, tree: Any, prefect_server: PrefectServer
) -> None:
    @flow(task_runner=ClusterTaskRunner(fresh))
    def forking() -> int:
        def look() -> bool:
            return cluster_ls(tree, fresh) == [] and far_files(fresh).connections == 1

        assert cluster_ls(tree, fresh) == []
        assert far_files(fresh).connections == 0
        status = in_a_fork(look)
        assert cluster_ls(tree, fresh) == []
        return status

    assert forking() == 0


def test_an_idle_connection_is_closed_and_one_in_use_is_not(
    fresh: SSHCluster, tree: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_connection, "IDLE_SECONDS", 0.2)
    fs = ClusterFileSystem(fresh)
    with closing(fs.iter_find("/usr")) as listing:  # type: ignore[type-var]
        next(listing)
        agent = far_files(fresh).agent
        time.sleep(1)
        assert not agent.is_lost
        next(listing)
    assert wait_until(lambda: agent.is_lost)
    assert fs.exists(str(tree))


def test_many_listings_and_pieces_share_a_connection(fresh: SSHCluster, tree: Any) -> None:
    """Several are begun, and read in turns; none waits for another or takes its parts."""
    fs = ClusterFileSystem(fresh)
    for top in range(8):
        for number in range(50):
            (tree / f"{top}/{number:02d}{'x' * 200}").mkdir(parents=True)
            for each in range(10):
                (tree / f"{top}/{number:02d}{'x' * 200}/{top}-{each}").touch()
    found: list[list[str]] = [[] for _ in range(8)]
    listings = [fs.iter_find(f"{tree}/{top}") for top in range(8)]
    for top, path in (
        (top, path)
        for turn in itertools.zip_longest(*listings)
        for top, path in enumerate(turn)
        if path is not None
    ):
        found[top].append(path)
    for top, paths in enumerate(found):
        assert len(paths) == 500
        assert all(f"/{top}-" in path for path in paths)
    errors: list[BaseException] = []

    def write_and_read(number: int) -> None:
        try:
            content = bytes([number]) * 6_000_000
            fs.pipe_file(f"~/piece-{number}", content)
            assert fs.cat_file(f"~/piece-{number}") == content
            fs.rm_file(f"~/piece-{number}")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write_and_read, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert far_files(fresh).connections == 1


def test_the_end_of_a_listing_does_not_overtake_its_parts(fresh: SSHCluster, tree: Any) -> None:
    """Empty directories with long paths: much to say of which nothing is an entry."""
    deep = tree
    for _ in range(14):
        deep = deep / ("d" * 250)
    for number in range(500):
        (deep / f"{number:03d}").mkdir(parents=True)
    walked = [path for path, _, _ in ClusterFileSystem(fresh).walk(str(tree))]
    assert len(walked) == 1 + 14 + 500


OPERATIONS: dict[str, Callable[[ClusterFileSystem, str], Any]] = {
    "cat_file": lambda fs, top: fs.cat_file(f"{top}/file"),
    "range": lambda fs, top: fs.cat_file(f"{top}/file", -2),
    "pipe_file": lambda fs, top: fs.pipe_file(f"{top}/new", b"x" * 1000),
    "info": lambda fs, top: fs.info(f"{top}/file"),
    "exists": lambda fs, top: fs.exists(f"{top}/none"),
    "isdir": lambda fs, top: fs.isdir(top),
    "ls": lambda fs, top: fs.ls(top),
    "mkdir": lambda fs, top: fs.mkdir(f"{top}/a/b/c"),
    "mv": lambda fs, top: fs.mv(f"{top}/file", f"{top}/moved"),
    "cp_file": lambda fs, top: fs.cp_file(f"{top}/file", f"{top}/copy"),
    "rm": lambda fs, top: fs.rm([f"{top}/file", f"{top}/sub"], recursive=True),
    "get_file": lambda fs, top: fs.get_file(f"{top}/file", f"{top}-down"),
    "find": lambda fs, top: fs.find(top),
    "walk": lambda fs, top: list(fs.walk(top)),
    "du": lambda fs, top: fs.du(top),
    "cluster_ls": lambda fs, top: cluster_ls(top, fs.cluster),
    "cluster_find": lambda fs, top: cluster_find("*", top, fs.cluster),
    "cluster_glob": lambda fs, top: cluster_glob("**", top, fs.cluster),
    "cluster_du": lambda fs, top: cluster_du(top, fs.cluster),
    "cluster_exists": lambda fs, top: cluster_exists(top, fs.cluster),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_one_operation_is_one_round_trip(name: str, tmp_path: Any) -> None:
    for number in range(20):
        (tmp_path / f"tree/sub/{number}").mkdir(parents=True)
    (tmp_path / "tree/file").write_text("content")
    fs = ClusterFileSystem(LocalCluster())
    agent = far_files(fs.cluster).agent
    before = agent.round_trips
    OPERATIONS[name](fs, str(tmp_path / "tree"))
    assert agent.round_trips - before == 1


def test_a_listing_arrives_while_it_is_made_and_waits_for_its_reader(
    ssh: SSHCluster, ssh_host: Any
) -> None:
    fs = ClusterFileSystem(ssh)
    agent = far_files(ssh).agent
    before = agent.bytes_received
    with closing(fs.walk("/usr", detail=True)) as listing:  # type: ignore[type-var]
        next(listing)
        time.sleep(1.5)
        ahead = agent.bytes_received - before
        everything = 1 + sum(1 for _ in listing)
    total = agent.bytes_received - before
    assert ahead < 1_500_000 < 2_500_000 < total
    readable = ssh_host.run("find /usr -type d -readable -executable | wc -l")
    assert everything == int(readable.stdout)


def test_a_listing_that_nobody_reads_on_is_ended(ssh: SSHCluster) -> None:
    fs = ClusterFileSystem(ssh)
    agent = far_files(ssh).agent
    for _ in range(3):
        with closing(fs.iter_find("/usr")) as listing:  # type: ignore[type-var]
            assert next(listing).startswith("/usr/")
    received = -1
    deadline = time.monotonic() + 60
    while agent.bytes_received != received and time.monotonic() < deadline:
        received = agent.bytes_received
        time.sleep(0.5)
    assert agent.bytes_received - received < 100  # but for a sign of life
    assert fs.exists("/usr")


def test_a_connection_that_broke_is_opened_again(
    fresh: SSHCluster, ssh_host: Any, tree: Any
) -> None:
    (tree / "x").write_text("x")
    fs = ClusterFileSystem(fresh)
    assert fs.cat(f"{tree}/x") == b"x"
    ssh_host.drop_connections()
    assert fs.cat(f"{tree}/x") == b"x"
    ssh_host.drop_connections()
    assert cluster_ls(tree, fresh) == ["x"]
    assert far_files(fresh).connections == 3


def test_a_listing_whose_connection_breaks_does_not_look_complete(
    fresh: SSHCluster, ssh_host: Any
) -> None:
    fs = ClusterFileSystem(fresh)
    listing = fs.walk("/usr", detail=True)
    next(listing)
    ssh_host.drop_connections()
    with pytest.raises(ConnectionError):
        list(listing)


def test_a_forked_process_opens_a_connection_of_its_own(ssh: SSHCluster, tree: Any) -> None:
    (tree / "x").write_text("x")
    fs = ClusterFileSystem(ssh)
    assert fs.cat(f"{tree}/x") == b"x"
    assert in_a_fork(lambda: fs.cat(f"{tree}/x") == b"x" and far_files(ssh).connections == 1) == 0
    assert fs.cat(f"{tree}/x") == b"x"


# --- what a filesystem carries ------------------------------------------------------------------


@pytest.fixture
def with_secret(prefect_server: PrefectServer) -> Iterator[SSHCluster]:
    block = SSHCluster(
        host="nowhere.invalid", credentials=SSHCredentials(username="ana", password=_SECRET)
    )
    block.save("with-secret", overwrite=True, _sync=True)  # type: ignore[call-arg]
    yield block
    SSHCluster.delete("with-secret", _sync=True)  # type: ignore[call-arg]


def test_pickles_carry_a_name_and_no_secret(with_secret: SSHCluster) -> None:
    for given in (with_secret, "ssh-cluster/with-secret", "with-secret"):
        fs = ClusterFileSystem(given, auto_mkdir=True)
        for carried in (pickle.dumps(fs), fs.to_json().encode(), repr(fs.storage_options).encode()):
            assert b"with-secret" in carried
            assert b"horse" not in carried
        for again in (pickle.loads(pickle.dumps(fs)), ClusterFileSystem.from_json(fs.to_json())):
            assert again == fs
            assert again.auto_mkdir
            assert again.cluster.credentials.password.get_secret_value() == _SECRET
    assert b"horse" not in repr(vars(fs)).encode()


def test_a_block_that_is_not_saved_is_not_pickled() -> None:
    fs = ClusterFileSystem(SSHCluster(host="nowhere.invalid"))
    with pytest.raises(ConfigurationError, match=r'cluster\.save\("name"\)'):
        pickle.dumps(fs)


def test_another_secret_is_another_filesystem() -> None:
    one, other, same = (
        ClusterFileSystem(
            SSHCluster(host="h", credentials=SSHCredentials(username="a", password=password))
        )
        for password in ("one", "other", "one")
    )
    assert one != other
    assert one == same
    assert hash(one) == hash(same)


def test_in_another_process(prefect_server: PrefectServer, tmp_path: Any) -> None:
    LocalCluster(max_parallel_calls=1).save("pickled", overwrite=True, _sync=True)  # type: ignore[call-arg]
    (tmp_path / "x").write_text("x")
    pickled = pickle.dumps(ClusterFileSystem("pickled")).hex()
    program = (
        "import json, pickle, sys;"
        f"fs = pickle.loads(bytes.fromhex('{pickled}'));"
        f"print(json.dumps(fs.ls({str(tmp_path)!r}, detail=False)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [f"{tmp_path}/x"]
    LocalCluster.delete("pickled", _sync=True)  # type: ignore[call-arg]
