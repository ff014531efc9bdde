"""What large arguments and files cost over SSH, beside `scp`."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
import zlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from prefect import flow, task, unmapped
from prefect.cache_policies import NO_CACHE

from clustrix_prefect import ClusterTaskRunner, SSHCluster
from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.connections.agent import AgentClient
from clustrix_prefect.far_side.wire import protocol
from clustrix_prefect.sessions.session import sessions
from clustrix_prefect.transfer.digests import FileDigests
from clustrix_prefect.transfer.sources import FileSource
from clustrix_prefect.transfer.upload import send_content
from tests.bench.apart import apart
from tests.bench.lab import Lab
from tests.bench.table import Bound, Part, Row, spread
from tests.live.ssh_host import SSHHost

MIB = 1024 * 1024
CALLS = 1000
SHARED = 64 * MIB
FILE = 1024 * MIB
# Each beside the other, in turn: both see the same machine.
ROUNDS = 7


@dataclass(frozen=True)
class Sent:
    """What one run of a flow sent.

    Attributes:
        everything: Over the connection, the far side's own program left out.
        contents: Code and data of that, as they went over the connection.
        seconds: How long the map took.
    """

    everything: int
    contents: int
    seconds: float


# By default Prefect hashes every argument of every call, which takes longer than all else.
@task(cache_policy=NO_CACHE)
def length(value: Any, index: int) -> int:
    return len(value) + index


def shared_array() -> Any:
    """64 MiB that compression halves, the same each time."""
    numbers = np.random.default_rng(seed=4).integers(0, 2**20, SHARED // 8)
    return numbers.astype("float64")


def map_shared(cluster: ClusterBlock) -> Sent:
    """Map over one large value that all calls share; what that sent."""
    value = shared_array()

    @flow(task_runner=ClusterTaskRunner(cluster))
    def shared() -> Sent:
        session = sessions.acquire(cluster)
        try:
            before, began = session.agent.bytes_sent, time.perf_counter()
            found = length.map(unmapped(value), range(CALLS)).result()
            seconds = time.perf_counter() - began
            if found != [len(value) + index for index in range(CALLS)]:
                raise AssertionError("the results are wrong")
            return Sent(session.agent.bytes_sent - before, session.uploads.sent_bytes, seconds)
        finally:
            sessions.release(session)

    return shared()


def measure(lab: Lab) -> Part:
    """One value for many calls, and one large file."""
    part = Part("Large arguments and files over SSH")
    _measure_shared(lab, part)
    _measure_file(lab, part, lab.ssh_cluster(), "", at_least=0.95)
    over_openssh = lab.ssh_cluster(connection="openssh")
    _measure_file(lab, part, over_openssh, " over OpenSSH", at_least=0.95)
    over_openssh.master.close()
    return part


def _measure_shared(lab: Lab, part: Part) -> None:
    lab.prefect  # noqa: B018
    cluster = lab.ssh_cluster(python=lab.far_python_with_numpy)
    compressed = len(zlib.compress(shared_array(), 1))
    first, second = (apart(lab.log, map_shared, cluster) for _ in range(2))
    ratio = first.everything / compressed
    part.rows += [
        Row(
            f"{CALLS:,} calls share an array of {SHARED // MIB} MiB: sent",
            f"{first.everything / MIB:.1f} MiB",
            f"{compressed / MIB:.1f} MiB compressed",
            f"{ratio:.3f}",
            Bound("<=", 1.05),
            ratio,
        ),
        Row(
            "the same flow again: code and data sent",
            f"{second.contents / 1024:.1f} KiB",
            bound=Bound("<", 64, " KiB"),
            figure=second.contents / 1024,
        ),
    ]
    part.remarks.append(
        f"The maps took {first.seconds:.1f} and {second.seconds:.1f} s; the second sent "
        f"{second.everything / 1024:.0f} KiB in all, nearly all of it the calls' manifests: "
        f"{second.everything / CALLS:.0f} bytes a call."
    )


def _measure_file(lab: Lab, part: Part, cluster: SSHCluster, over: str, *, at_least: float) -> None:
    host = lab.ssh
    directory = lab.directory(f"data-{cluster.connection}")
    path = directory / "large.bin"
    with path.open("wb") as file:
        for _ in range(FILE // MIB):
            file.write(os.urandom(MIB))
    with closing(cluster.connect()) as connection:
        agent = AgentClient(
            connection,
            python=cluster.python,
            on_event=lambda event, body: None,
            on_lost=lambda reason: None,
        )
        agent.start()
        with closing(agent):
            agent.request(protocol.configure(work_dir=f"{host.home}/file-bench"))
            ours, theirs = [], []
            store = f"{host.home}/file-bench/store"
            # Neither side may write to memory that the other has just given back, nor while the
            # kernel still writes to the disk what came before.
            clean = f"rm -f {store}/[0-9a-f]* {host.home}/scp.bin; sync; sleep 3"
            for number in range(ROUNDS):
                agent.request(protocol.command(argv=["sh", "-c", clean]))
                theirs.append(_seconds(lambda: _scp(host, path)))
                agent.request(protocol.command(argv=["sh", "-c", clean]))
                # A new database: each time the file is read for its digests, too.
                digests = FileDigests(directory / f"digests-{number}")
                ours.append(_seconds(lambda d=digests: _send(agent, path, d)))  # type: ignore[misc]
            time.sleep(2)  # a file that changed just now is not taken for known
            digests.of(path)
            before = agent.bytes_sent
            again = _seconds(lambda: _send(agent, path, FileDigests(directory / "digests-2")))
            resent = agent.bytes_sent - before
    speeds = [[FILE / MIB / seconds for seconds in side] for side in (ours, theirs)]
    ratio = statistics.median(speeds[0]) / statistics.median(speeds[1])
    part.rows += [
        Row(
            f"a file of {FILE // MIB} MiB{over}",
            spread(speeds[0], " MiB/s"),
            f"scp {spread(speeds[1], ' MiB/s')}",
            f"{ratio:.2f}",
            Bound(">=", at_least),
            ratio,
        ),
        Row(
            f"the same file again{over}",
            f"{again * 1000:.0f} ms",
            bound=Bound("<", 1, " s"),
            figure=again,
        ),
        Row(
            f"the same file again{over}: sent, without any of its content",
            f"{resent:,} bytes",
            # A question with its name: no content is that short.
            bound=Bound("<", 1024, " bytes"),
            figure=resent,
        ),
    ]


def _send(agent: AgentClient, path: Path, digests: FileDigests) -> None:
    chunks = digests.of(path)
    if agent.request(protocol.have(blobs=[chunks.name]))["missing"]:
        with FileSource(path, chunks.size) as source:
            send_content(agent, source, chunks)


def _scp(host: SSHHost, path: Path) -> None:
    options = ["-o", "BatchMode=yes", "-o", f"UserKnownHostsFile={host.known_hosts}"]
    where = ["-P", str(host.port), "-i", str(host.key_file)]
    target = f"{host.username}@{host.host}:scp.bin"
    subprocess.run(["scp", "-q", "-F", "none", *where, *options, str(path), target], check=True)


def _seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began
