"""Contents on their way to a store and back."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from clustrix_prefect.errors import AgentError, ConnectionLost, NotPortable
from clustrix_prefect.far_side.store.store import is_intact
from clustrix_prefect.far_side.wire import protocol
from clustrix_prefect.far_side.wire.chunks import CHUNK_BYTES, ChunkList
from clustrix_prefect.transfer.digests import FileDigests, chunks_of
from clustrix_prefect.transfer.download import fetch_file
from clustrix_prefect.transfer.sources import FileSource, MemorySource
from clustrix_prefect.transfer.upload import send_content
from tests.far_side.far import Far

SIZE = 3 * CHUNK_BYTES + 12345


def sent(far: Far, data: bytes, **options: Any):
    """Send bytes; what it cost and the content's name."""
    chunks = chunks_of(data)
    return send_content(far.client, MemorySource(data), chunks, **options), chunks.name


def test_names_follow_from_the_bytes():
    short = chunks_of(b"abc")
    assert short.name == hashlib.sha256(b"abc").hexdigest()
    assert chunks_of(b"").name == hashlib.sha256(b"").hexdigest()
    long = chunks_of(b"x" * (CHUNK_BYTES + 1))
    assert len(long.digests) == 2
    assert ChunkList.parse(long.text(), long.name).digests == long.digests
    with pytest.raises(ValueError, match="not what its name says"):
        ChunkList.parse(long.text() + b"\n", long.name)


def test_there_and_back_under_every_python(far: Far, tmp_path: Path):
    data = os.urandom(SIZE)
    cost, name = sent(far, data)
    assert cost.sent_bytes == SIZE
    stored = far.work_dir / "store" / name
    assert stored.read_bytes() == data
    assert stat.S_IMODE(stored.stat().st_mode) == 0o400
    assert is_intact(str(stored), SIZE)
    done: list[int] = []
    fetch_file(far.client, tmp_path / "back", content=name, on_progress=done.append)
    assert (tmp_path / "back").read_bytes() == data
    assert done[-1] == SIZE
    assert [path.name for path in tmp_path.glob(".back*")] == []


def test_only_changed_chunks_travel(far: Far):
    data = bytearray(os.urandom(SIZE))
    sent(far, bytes(data))
    data[CHUNK_BYTES + 7] ^= 1
    cost, name = sent(far, bytes(data))
    assert cost.sent_bytes == CHUNK_BYTES
    assert (far.work_dir / "store" / name).read_bytes() == data


def test_what_shrinks_is_compressed(here: Far):
    data = b"all work and no play " * 500_000
    before = here.client.bytes_sent
    cost, name = sent(here, data, unhurried=True)
    assert cost.sent_bytes == len(data)
    assert cost.wire_bytes < len(data) / 20
    assert here.client.bytes_sent - before < cost.wire_bytes + 20_000
    assert (here.work_dir / "store" / name).read_bytes() == data


def test_an_upload_goes_on_where_the_connection_broke(here: Far, tmp_path: Path):
    data = os.urandom(8 * CHUNK_BYTES)
    chunks = chunks_of(data)

    class Breaking(MemorySource):
        """Bytes of which the last cannot be read before the agent is gone."""

        def read(self, offset: int, size: int) -> memoryview:
            if offset >= 6 * CHUNK_BYTES:
                here.kill_agent()
            return super().read(offset, size)

    with pytest.raises(ConnectionLost):
        send_content(here.client, Breaking(data), chunks)
    again = Far(here.python, here.work_dir)
    try:
        cost = send_content(again.client, MemorySource(data), chunks)
        assert cost.sent_bytes <= 6 * CHUNK_BYTES
        assert (here.work_dir / "store" / chunks.name).read_bytes() == data
        assert not list((here.work_dir / "store").glob("*.partial"))
    finally:
        again.close()


def test_a_download_goes_on_where_it_stopped(here: Far, tmp_path: Path):
    data = os.urandom(SIZE)
    _, name = sent(here, data)
    target = tmp_path / "back"
    draft = target.with_name(f".back.{name[:16]}.partial")
    draft.write_bytes(data[: 2 * CHUNK_BYTES] + b"garbage")
    before = here.client.bytes_received
    fetch_file(here.client, target, content=name)
    assert target.read_bytes() == data
    assert here.client.bytes_received - before < SIZE - 2 * CHUNK_BYTES + 10_000


def test_a_file_that_changes_on_the_way_is_refused(here: Far, tmp_path: Path):
    path = tmp_path / "data"
    path.write_bytes(os.urandom(SIZE))
    chunks = FileDigests(tmp_path / "digests").of(path)
    with path.open("r+b") as file:
        file.write(b"changed")
    with pytest.raises(NotPortable, match="changed while"), FileSource(path, SIZE) as source:
        send_content(here.client, source, chunks)
    assert not (here.work_dir / "store" / chunks.name).exists()


def test_a_content_that_was_tampered_with_is_not_delivered(here: Far, tmp_path: Path):
    data = os.urandom(SIZE)
    _, name = sent(here, data)
    stored = here.work_dir / "store" / name
    stored.chmod(0o600)
    with stored.open("r+b") as file:
        file.seek(CHUNK_BYTES)
        file.write(b"evil")
    with pytest.raises(AgentError, match="not what its name says"):
        fetch_file(here.client, tmp_path / "back", content=name)
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize("token", ["../x", "a" * 63, "A" * 64, "/etc/passwd"])
def test_names_that_are_paths_are_refused(here: Far, token: str):
    with pytest.raises(AgentError, match="does not name"):
        here.client.request(protocol.upload_begin(token=token, size=1))
    with pytest.raises(AgentError, match="does not name"):
        here.client.request(protocol.have(blobs=[token]))


def test_files_that_did_not_change_are_not_read_again(tmp_path: Path, monkeypatch):
    path = tmp_path / "data"
    path.write_bytes(os.urandom(SIZE))
    long_ago = time.time() - 60
    os.utime(path, (long_ago, long_ago))
    first = FileDigests(tmp_path / "digests").of(path)

    def must_not_read(*_: object) -> bytes:
        raise AssertionError("it was read again")

    with monkeypatch.context() as patched:
        patched.setattr(FileSource, "read", must_not_read)
        # As another process would.
        assert FileDigests(tmp_path / "digests").of(path).name == first.name
    with path.open("r+b") as file:
        file.write(b"changed")
    os.utime(path, (long_ago, long_ago))  # only its time of change tells
    assert FileDigests(tmp_path / "digests").of(path).name != first.name
