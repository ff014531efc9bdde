"""This machine as a far side."""

from __future__ import annotations

import threading
import time

import pytest

from clustrix_prefect.connections.local import LocalConnection
from clustrix_prefect.errors import ConnectionLost


def wait_for(condition, seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@pytest.fixture
def connection():
    connection = LocalConnection()
    yield connection
    connection.close()


def read_all(channel) -> bytes:
    return b"".join(iter(lambda: channel.read(65536), b""))


def test_output_input_and_exit_status(connection):
    channel = connection.start("read line; echo got $line; echo oops >&2; exit 3")
    assert channel.exit_status() is None
    channel.write(b"hello\n")
    assert read_all(channel) == b"got hello\n"
    assert wait_for(lambda: channel.exit_status() == 3)
    assert wait_for(lambda: channel.stderr_tail() == "oops\n")


def test_last_words_that_come_after_the_exit_status(connection):
    channel = connection.start("(sleep 0.3; echo last words >&2) >/dev/null & exit 3")
    wait_for(lambda: channel.exit_status() == 3)
    assert channel.stderr_tail() == "last words\n"


def test_a_lot_of_stderr_blocks_nothing(connection):
    channel = connection.start("yes e | head -c 3000000 >&2; echo done")
    assert read_all(channel) == b"done\n"
    assert len(channel.stderr_tail()) == 8192


def test_megabytes_both_ways(connection):
    channel = connection.start("cat")
    data = bytes(range(256)) * 40_000
    writer = threading.Thread(target=channel.write, args=(memoryview(data),))
    writer.start()
    received = b""
    while len(received) < len(data):
        received += channel.read(1 << 20)
    writer.join()
    assert received == data


def test_close_unblocks_a_reader_and_a_writer(connection):
    channel = connection.start("sleep 30")
    ended = []

    def read():
        ended.append(channel.read(1))

    def write():
        with pytest.raises(OSError):
            channel.write(bytes(10_000_000))
        ended.append("writer")

    threads = [threading.Thread(target=read), threading.Thread(target=write)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    channel.close()
    for thread in threads:
        thread.join(60)
    assert sorted(map(str, ended)) == ["b''", "writer"]
    channel._process.kill()


def test_the_program_sees_the_end_of_its_input_when_we_close(connection):
    channel = connection.start("cat; exit 7")
    channel.close()
    assert wait_for(lambda: channel.exit_status() == 7)


def test_a_closed_connection_starts_nothing(connection):
    connection.close()
    with pytest.raises(ConnectionLost):
        connection.start("true")
