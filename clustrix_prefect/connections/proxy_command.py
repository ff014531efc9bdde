"""`ProxyCommand`: a program whose standard streams lead to the host.

paramiko's own class spins when the program ends; a socket needs no class at all.
"""

from __future__ import annotations

import socket
import subprocess
import threading

from clustrix_prefect.errors import ConnectionFailed


def start_proxy(command: str) -> socket.socket:
    """Start the program and return the socket that its streams are on.

    Raises:
        ConnectionFailed: It cannot be started.
    """
    ours, its = socket.socketpair()
    with its:
        try:
            process = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {command}"],
                stdin=its.fileno(),
                stdout=its.fileno(),
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            raise ConnectionFailed(
                f"The ProxyCommand {command!r} does not start: {error}."
            ) from error
    # It ends when its input does; somebody must take note of it then.
    threading.Thread(target=process.wait, name="clustrix-proxy", daemon=True).start()
    return ours
