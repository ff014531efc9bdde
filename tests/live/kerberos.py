"""A Kerberos realm of our own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.live.daemon import Daemon, ServiceUnavailable, free_port, listens
from tests.live.rundir import RunDirectory

REALM = "CLUSTRIX.TEST"
_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
_PROGRAMS = {"krb5kdc": "krb5-kdc", "kadmin.local": "krb5-admin-server", "kinit": "krb5-user"}


class Kerberos:
    """MIT's key distribution centre on a free port of the loopback interface.

    Attributes:
        environment: Variables by which programs find the realm; a server's keys among them.

    Args:
        run: The test run's directory.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._directory = run.child("kerberos")
        self._port = free_port()
        self.environment = {
            "KRB5_CONFIG": str(self._directory / "krb5.conf"),
            "KRB5_KDC_PROFILE": str(self._directory / "kdc.conf"),
            "KRB5_KTNAME": f"FILE:{self._directory / 'keytab'}",
        }
        self._kdc = Daemon(
            ["krb5kdc", "-n"],
            log=self._directory / "kdc.log",
            environment={"PATH": _PATH, **self.environment},
            ready=lambda: listens(self._port),
        )

    def start(self) -> None:
        """Make the realm, with keys for hosts named "localhost", and start the centre.

        Raises:
            ServiceUnavailable: A program is missing, or it does not start.
        """
        missing = [
            package
            for program, package in _PROGRAMS.items()
            if shutil.which(program, path=_PATH) is None
        ]
        if missing:
            raise ServiceUnavailable(f"not installed: {', '.join(missing)}")
        (self._directory / "krb5.conf").write_text(
            f"[libdefaults]\n  default_realm = {REALM}\n  dns_lookup_kdc = false\n"
            "  dns_canonicalize_hostname = false\n  rdns = false\n  clockskew = 1\n"
            "  udp_preference_limit = 1\n"
            f"[realms]\n  {REALM} = {{\n    kdc = 127.0.0.1:{self._port}\n  }}\n"
        )
        (self._directory / "kdc.conf").write_text(
            f"[realms]\n  {REALM} = {{\n"
            f"    kdc_ports = {self._port}\n    kdc_tcp_ports = {self._port}\n"
            f"    database_name = {self._directory / 'principal'}\n"
            f"    key_stash_file = {self._directory / 'stash'}\n    max_life = 1h\n  }}\n"
        )
        self._run("kdb5_util", "create", "-s", "-P", "master", "-r", REALM)
        self._run("kadmin.local", "addprinc", "-randkey", "host/localhost")
        self._run("kadmin.local", "ktadd", "host/localhost")
        self._kdc.start()

    def stop(self) -> None:
        """End the centre."""
        self._kdc.stop()

    def __str__(self) -> str:
        return f"Kerberos realm {REALM} at 127.0.0.1:{self._port}"

    def add(self, name: str, password: str) -> None:
        """Add somebody to the realm."""
        self._run("kadmin.local", "addprinc", "-pw", password, name)

    def get_ticket(self, name: str, password: str, cache: Path, seconds: int) -> None:
        """Get a ticket that lasts so long."""
        variables = {"KRB5CCNAME": f"FILE:{cache}"}
        self._run("kinit", "-l", f"{seconds}s", name, given=f"{password}\n", **variables)

    def has_ticket(self, cache: Path) -> bool:
        """Whether there is one that has not ended."""
        variables = {**os.environ, **self.environment, "KRB5CCNAME": f"FILE:{cache}"}
        return subprocess.run(["klist", "-s"], env=variables).returncode == 0

    def _run(self, *command: str, given: str = "", **variables: str) -> None:
        done = subprocess.run(
            command,
            input=given,
            capture_output=True,
            text=True,
            env={"PATH": _PATH, **self.environment, **variables},
        )
        if done.returncode:
            raise ServiceUnavailable(f"{' '.join(command)}: {done.stderr.strip()}")
