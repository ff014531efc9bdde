"""The exec stream: what Channel and Connection promise, over TLS and WebSocket."""

from __future__ import annotations

import hashlib
import os
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import trustme
from kubernetes import client

from clustrix_prefect.connections.agent import AgentClient
from clustrix_prefect.errors import ConnectionLost
from clustrix_prefect.far_side.wire import protocol
from clustrix_prefect.kubernetes.exec import PodConnection, open_websocket
from tests.kubernetes.exec_server import exec_server

MIB = 2**20


@pytest.fixture(scope="module")
def pod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PodConnection]:
    ca = trustme.CA()
    ca_file: Path = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(str(ca_file))
    configuration = client.Configuration()
    configuration.ssl_ca_cert = str(ca_file)
    with exec_server(ca) as address:

        def open_stream(command: list[str]) -> Any:
            query = urlencode([("command", word) for word in command])
            return open_websocket(configuration, f"{address}/exec?{query}", {})

        connection = PodConnection(open_stream, "pod p in default")
        yield connection
        connection.close()
    with pytest.raises(ConnectionLost, match="pod p in default was closed"):
        connection.start("true")


def read_all(channel: Any) -> bytes:
    return b"".join(iter(lambda: channel.read(65536), b""))


def test_streams_are_kept_apart_and_the_status_arrives(pod: PodConnection) -> None:
    channel = pod.start("printf out; printf err >&2; exit 7")
    assert read_all(channel) == b"out"
    assert channel.stderr_tail() == "err"
    assert channel.exit_status() == 7
    channel.close()


def test_success_is_zero(pod: PodConnection) -> None:
    channel = pod.start("true")
    assert read_all(channel) == b""
    assert channel.exit_status() == 0


def test_reading_takes_no_more_than_was_asked_for(pod: PodConnection) -> None:
    channel = pod.start("printf abcdef")
    assert [channel.read(4), channel.read(4), channel.read(4)] == [b"abcd", b"ef", b""]


def test_200_mib_both_ways_at_once(pod: PodConnection) -> None:
    channel = pod.start("exec cat")
    sent = os.urandom(MIB) * 200

    writer = threading.Thread(target=channel.write, args=(memoryview(sent),))
    began = time.monotonic()
    writer.start()
    digest, size = hashlib.sha256(), 0
    while size < len(sent):
        data = channel.read(MIB)
        assert data, "the stream ended early"
        digest.update(data)
        size += len(data)
    writer.join()
    print(f"{2 * 200 / (time.monotonic() - began):.0f} MiB/s")
    assert digest.digest() == hashlib.sha256(sent).digest()
    assert channel.exit_status() is None
    channel.close()


def test_closing_releases_a_blocked_reader(pod: PodConnection) -> None:
    channel = pod.start("exec sleep 300")
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(channel.read(1)))
    reader.start()
    time.sleep(0.2)
    began = time.monotonic()
    channel.close()
    reader.join(60)
    assert found == [b""]
    assert time.monotonic() - began < 60


def test_writing_to_what_is_gone_is_an_os_error(pod: PodConnection) -> None:
    channel = pod.start("true")
    read_all(channel)
    with pytest.raises(OSError, match=r"closed|[Bb]roken|reset"):
        channel.write(b"x" * 100 * MIB)


def test_a_server_whose_certificate_is_not_trusted_is_refused() -> None:
    with exec_server(trustme.CA()) as address, pytest.raises(ssl.SSLCertVerificationError):
        open_websocket(client.Configuration(), f"{address}/exec?command=true", {})


def test_the_agent_runs_over_it(pod: PodConnection, tmp_path: Path) -> None:
    agent = AgentClient(
        pod,
        work_dir=str(tmp_path),
        on_event=lambda event, body: None,
        on_lost=lambda reason: None,
    )
    agent.start()
    assert agent.request(protocol.configure(work_dir=str(tmp_path)))["work_dir"] == str(tmp_path)
    agent.close()
