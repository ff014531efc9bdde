"""Programs on a real SSH server."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from clustrix_prefect.connections.connection import Channel
from clustrix_prefect.connections.route import Destination, open_ssh
from clustrix_prefect.connections.ssh import SSHConnection
from clustrix_prefect.errors import ConnectionLost
from tests.connections.conftest import StartServer, read_all
from tests.live.ssh_host import SSHHost


@pytest.fixture
def connection(destination: Destination) -> Iterator[SSHConnection]:
    connection = open_ssh(destination)
    yield connection
    connection.close()


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def test_output_input_and_exit_status(connection: SSHConnection) -> None:
    channel = connection.start("read line; echo got $line; echo oops >&2; exit 3")
    assert channel.exit_status() is None
    channel.write(b"hello\n")
    assert read_all(channel) == b"got hello\n"
    wait_for(lambda: channel.exit_status() == 3)
    wait_for(lambda: channel.stderr_tail() == "oops\n")


def test_last_words_that_come_after_the_exit_status(connection: SSHConnection) -> None:
    channel = connection.start("(sleep 0.3; echo last words >&2) >/dev/null & exit 3")
    wait_for(lambda: channel.exit_status() == 3)
    assert channel.stderr_tail() == "last words\n"


def test_several_programs_share_one_connection(
    connection: SSHConnection, ssh_host: SSHHost
) -> None:
    first = connection.start("echo up; cat")
    assert first.read(100) == b"up\n"
    before = ssh_host.connections  # ours, and those that other tests hold open
    channels = [connection.start(f"echo {number}; cat") for number in range(5)]
    assert [channel.read(100) for channel in channels] == [b"%d\n" % n for n in range(5)]
    wait_for(lambda: 1 <= ssh_host.connections <= before)


def test_a_lot_of_stderr_blocks_nothing(connection: SSHConnection) -> None:
    channel = connection.start("head -c 8000000 /dev/zero | tr '\\0' e >&2; echo done")
    assert read_all(channel) == b"done\n"
    wait_for(lambda: len(channel.stderr_tail()) == 8192)


def test_large_buffers_go_both_ways_at_once(connection: SSHConnection) -> None:
    channel = connection.start("cat")
    data = bytes(range(256)) * 200_000
    writer = threading.Thread(target=channel.write, args=(memoryview(data),), daemon=True)
    writer.start()
    received = bytearray()
    while len(received) < len(data):
        received += channel.read(1 << 20)
    writer.join()
    assert received == data


def test_the_program_sees_the_end_of_its_input_when_we_close(
    connection: SSHConnection, ssh_host: SSHHost
) -> None:
    before = set(ssh_host.processes)  # what other tests left running
    channel = connection.start("cat")
    wait_for(lambda: not before.issuperset(ssh_host.processes))
    channel.close()
    wait_for(lambda: before.issuperset(ssh_host.processes))


def test_close_releases_a_reader_and_a_writer(connection: SSHConnection) -> None:
    channel = connection.start("exec sleep 60")
    ended: list[str] = []

    def read() -> None:
        assert channel.read(1) == b""
        ended.append("reader")

    def write() -> None:
        with pytest.raises(OSError):
            channel.write(bytes(10_000_000))
        ended.append("writer")

    threads = [threading.Thread(target=target, daemon=True) for target in (read, write)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    channel.close()
    for thread in threads:
        thread.join(60)
    assert sorted(ended) == ["reader", "writer"]


def test_close_returns_though_the_peer_is_frozen(
    connection: SSHConnection, ssh_host: SSHHost
) -> None:
    channel = connection.start("cat")
    with ssh_host.frozen():
        writer = threading.Thread(target=_write_until_it_fails, args=(channel,), daemon=True)
        writer.start()
        time.sleep(0.5)
        began = time.monotonic()
        channel.close()
        connection.close()
        writer.join(60)
        assert not writer.is_alive()
        assert time.monotonic() - began < 60


def _write_until_it_fails(channel: Channel) -> None:
    data = bytes(50_000_000)  # more than all buffers on the way hold
    with pytest.raises(OSError):
        channel.write(data)


def test_a_dropped_connection_ends_reads_and_starts_nothing_more(
    connection: SSHConnection, ssh_host: SSHHost
) -> None:
    channel = connection.start("exec sleep 60")
    wait_for(lambda: ssh_host.connections >= 1)
    ssh_host.drop_connections()
    assert channel.read(1) == b""
    _write_until_it_fails(channel)
    with pytest.raises(ConnectionLost, match="is gone"):
        connection.start("true")


def test_says_where_it_leads_and_how_it_got_there(
    connection: SSHConnection, ssh_host: SSHHost, destination: Destination
) -> None:
    assert connection.description == f"{ssh_host.username}@127.0.0.1:{ssh_host.port}"
    assert connection.facts.host_key.startswith("ssh-ed25519 SHA256:")
    assert connection.facts.authenticated_with == f"key file {ssh_host.key_file}"


def test_a_host_that_allows_no_further_session_says_so(
    start_server: StartServer, destination: Destination
) -> None:
    port = start_server("MaxSessions 1")
    connection = open_ssh(dataclasses.replace(destination, port=port, known_hosts=None))
    connection.start("cat")
    with pytest.raises(ConnectionLost, match="opens no further session"):
        connection.start("cat")
    connection.close()
