"""More servers for the account of an `SSHHost`, each with settings of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.live.daemon import Daemon, free_port, listens


@contextmanager
def serving(
    directory: Path, known_hosts: Path, *settings: str, environment: Mapping[str, str] | None = None
) -> Iterator[int]:
    """Run a server with these lines of sshd_config; its port.

    Args:
        directory: For its files.
        known_hosts: Its key is added to this file.
        settings: Lines of sshd_config.
        environment: Variables for the server itself.
    """
    port = free_port()
    own = directory / f"sshd-{port}"
    own.mkdir()
    key = own / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    with known_hosts.open("a") as file:
        file.write(f"[127.0.0.1]:{port},[localhost]:{port} {key.with_suffix('.pub').read_text()}")
    lines = (f"Port {port}", "ListenAddress 127.0.0.1", f"HostKey {key}", "PidFile none")
    config = own / "config"
    config.write_text("\n".join([*lines, *settings, ""]))
    sshd = shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin") or "sshd"
    server = Daemon(
        [sshd, "-D", "-e", "-f", str(config)],
        log=own / "log",
        environment={"PATH": os.environ["PATH"], **(environment or {})},
        ready=lambda: listens(port),
    )
    server.start()
    try:
        yield port
    finally:
        server.stop()
