"""What goes over the connection for files and results, and what becomes of it when that breaks."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task

from clustrix_prefect import ClusterTaskRunner, File, Folder, LocalCluster, RemoteFolder
from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.far_side.wire import protocol
from clustrix_prefect.far_side.wire.chunks import CHUNK_BYTES
from clustrix_prefect.packaging.blobs import Blob
from clustrix_prefect.sessions import blob_uploads as contents
from clustrix_prefect.sessions.session import Session, sessions
from clustrix_prefect.transfer import download
from clustrix_prefect.transfer.digests import FileDigests
from tests.live import clusters
from tests.live.pythons import FarPythons
from tests.live.ssh_host import SSHHost

SIZE = 10 * CHUNK_BYTES


@task
def make_file(size: int) -> Any:
    Path("made.bin").write_bytes(os.urandom(size))
    return File("made.bin")


@task
def make_folder(size: int) -> Any:
    Path("tree/sub").mkdir(parents=True, exist_ok=True)
    Path("tree/sub/leaf").write_bytes(os.urandom(size))
    return Folder("tree")


@task
def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@task
def count_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@task
def large(size: int) -> bytes:
    return bytes(range(256)) * (size // 256)


@task
def name_a_folder(path: str) -> Any:
    top = Path(path)
    (top / "sub").mkdir(parents=True)
    (top / "sub" / "leaf").write_text("leaf")
    (top / "run.sh").write_text("#!/bin/sh\n")
    (top / "run.sh").chmod(0o755)
    (top / "link").symlink_to("sub/leaf")
    return Folder.remote(path)


def used(cluster: ClusterBlock, look: Callable[[Session], Any]) -> Any:
    """What is to be seen of the session of a cluster."""
    session = sessions.acquire(cluster)
    try:
        return look(session)
    finally:
        sessions.release(session)


def traffic(cluster: ClusterBlock) -> int:
    """What went over the connection so far, both ways."""
    return int(
        used(cluster, lambda session: session.agent.bytes_sent + session.agent.bytes_received)
    )


def test_what_is_passed_on_never_travels(
    runner: ClusterTaskRunner, cluster: ClusterBlock, tmp_path: Path
) -> None:
    @flow(task_runner=runner)
    def passing_on() -> Sequence[Any]:
        before = traffic(cluster)
        file, folder = make_file.submit(SIZE), make_folder.submit(SIZE)
        found = digest_of.submit(file).result(), count_in.submit(folder).result()
        return found, file.result(), traffic(cluster) - before

    (digest, size), file, went = passing_on()
    assert size == SIZE
    assert went < SIZE / 20
    target = file.download(tmp_path / "here.bin", progress=False)
    assert hashlib.sha256(target.read_bytes()).hexdigest() == digest


@pytest.mark.parametrize(("limit", "waits"), [(1, True), (16, False)])
def test_results_above_the_limit_wait_until_they_are_opened(
    local: ClusterBlock, tmp_path: Path, limit: int, waits: bool
) -> None:
    cluster = LocalCluster(remote_work_dir=str(tmp_path / "work"), fetch_results_above=limit)
    size = 3 * 2**20

    @flow(task_runner=ClusterTaskRunner(cluster))
    def returning() -> Sequence[Any]:
        large.submit(256).result()
        before = used(cluster, lambda session: session.agent.round_trips)
        found = large.submit(size).result()
        return found, used(cluster, lambda session: session.agent.round_trips) - before

    found, asked = returning()
    assert found == bytes(range(256)) * (size // 256)
    # It is read when it is opened; otherwise it comes with the message that the call is done.
    assert (asked > 0) is waits


class TestDroppedConnections:
    @pytest.fixture
    def over_ssh(
        self, quick_prefect: None, ssh_host: SSHHost, far_pythons: FarPythons
    ) -> ClusterBlock:
        return clusters.ssh_cluster(
            ssh_host, far_pythons, ssh_host.home / f"dropped-{os.urandom(4).hex()}"
        )

    def test_an_upload_of_a_flow_goes_on(
        self,
        over_ssh: ClusterBlock,
        ssh_host: SSHHost,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        path = tmp_path / "model.pt"
        path.write_bytes(os.urandom(SIZE))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        dropped: list[int] = []

        def drop(progress: Any, done: int) -> None:
            if done >= 4 * CHUNK_BYTES and not dropped:
                dropped.append(ssh_host.drop_connections())

        monkeypatch.setattr(contents._Progress, "__call__", drop)

        @flow(task_runner=ClusterTaskRunner(over_ssh))
        def uploading() -> Sequence[Any]:
            before = used(over_ssh, lambda session: session.uploads.sent_bytes)
            found = digest_of.submit(File(path)).result()
            return found, used(over_ssh, lambda session: session.uploads.sent_bytes) - before

        found, sent = uploading()
        assert found == digest
        assert dropped[0] > 0
        # Of the second attempt: the far side has what it confirmed in the first.
        assert 0 < sent < 6.1 * CHUNK_BYTES

    def test_a_download_goes_on(
        self,
        over_ssh: ClusterBlock,
        ssh_host: SSHHost,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        write = download._write
        dropped: list[Any] = []
        received: list[int] = []

        def write_and_drop(descriptor: int, data: bytes, offset: int) -> None:
            received.append(offset)
            write(descriptor, data, offset)
            if offset == 5 * CHUNK_BYTES and not dropped:
                dropped.append(ssh_host.drop_connections())

        monkeypatch.setattr(download, "_write", write_and_drop)

        @flow(task_runner=ClusterTaskRunner(over_ssh))
        def downloading() -> Sequence[Any]:
            made = make_file.submit(SIZE)
            target = made.result().download(tmp_path / "here.bin", progress=False)
            return target, digest_of.submit(made).result()

        target, digest = downloading()
        assert hashlib.sha256(target.read_bytes()).hexdigest() == digest
        assert dropped[0] > 0
        # Whatever was written before is not asked for again.
        assert sorted(received) == [index * CHUNK_BYTES for index in range(10)]
        assert not list(tmp_path.glob(".*partial"))


def test_of_a_changed_file_it_is_said_how_much_was_new(
    cluster: ClusterBlock, tmp_path: Path
) -> None:
    path = tmp_path / "large.bin"
    path.write_bytes(os.urandom(3 * CHUNK_BYTES))
    lines: list[str] = []

    def send(name: str) -> None:
        blob = Blob.of_file(path, FileDigests(tmp_path / name).of(path))

        def bring(session: Session) -> None:
            session.request(protocol.open_run(run="a-run"))
            wait = session.uploads.bring("a-run", [blob], lambda level, line: lines.append(line))
            if wait is not None:
                wait.result(60)

        used(cluster, bring)

    send("first")
    with path.open("r+b") as file:
        file.seek(CHUNK_BYTES + 5)
        file.write(b"changed")
    send("second")
    first, second = lines
    assert re.fullmatch(r"Sent large\.bin, 12\.0 MiB, in [\d.]+ s", first)
    assert re.fullmatch(
        r"Sent large\.bin, 12\.0 MiB, in [\d.]+ s; 4\.0 MiB of it were new to the cluster", second
    )


def test_a_folder_at_a_path_is_downloaded(
    runner: ClusterTaskRunner, cluster: ClusterBlock, tmp_path: Path
) -> None:
    path = used(cluster, lambda session: f"{session.work_dir}/named-{os.urandom(4).hex()}")

    @flow(task_runner=runner)
    def naming() -> RemoteFolder:
        return name_a_folder.submit(path).result()

    named = naming()
    target = named.download(tmp_path / "got", progress=False)
    assert (target / "sub" / "leaf").read_text() == "leaf"
    assert os.access(target / "run.sh", os.X_OK)
    assert os.readlink(target / "link") == "sub/leaf"
    assert sorted(found.name for found in tmp_path.iterdir() if "got" in found.name) == ["got"]


def test_a_download_shows_how_far_it_is(
    local: ClusterBlock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = LocalCluster(remote_work_dir=str(tmp_path / "work"))

    @flow(task_runner=ClusterTaskRunner(cluster))
    def making() -> Any:
        made = make_file.submit(2_500_000), make_folder.submit(1_500_000)
        named = name_a_folder.submit(str(tmp_path / "named"))
        return [future.result() for future in (*made, named)]

    for made, size in zip(making(), ("2.5/2.5 MB", "1.5/1.5 MB", "14/14 bytes"), strict=True):
        capsys.readouterr()
        made.download(tmp_path / f"silent-{made.name}", progress=False)
        assert capsys.readouterr().err == ""
        made.download(tmp_path / f"shown-{made.name}")
        shown = capsys.readouterr().err
        assert made.name in shown
        assert size in shown
