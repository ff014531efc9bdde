"""An SSH server whose file system has a root of its own: its paths do not exist here."""

from __future__ import annotations

import os
import pwd
import shutil
from pathlib import Path

from tests.live.daemon import Daemon, listens
from tests.live.rundir import RunDirectory
from tests.live.ssh_host import SSHHost

_SCRIPT = """
set -e
for directory in usr etc; do
    mount --bind /$directory "$1/$directory"
    mount -o remount,bind,ro "$1/$directory"
done
for directory in dev proc; do mount --rbind /$directory "$1/$directory"; done
mkdir -p "$1$2"
mount --bind "$2" "$1$2"
exec chroot "$1" "$3" -D -e -f "$2/sshd_config"
"""


class RootedSSHHost(SSHHost):
    """OpenSSH's sshd in a root of its own, with the programs of this machine.

    What is mounted there is mounted for the server alone, and goes with it.

    Attributes:
        home: The account's home directory as it is found from here.
        far_home: The same as it is found there.
    """

    def __init__(self, run: RunDirectory) -> None:
        super().__init__(run)
        self.username = f"cxroot{os.getpid()}"
        self.root = run.child("root")
        self.far_home = Path("/home") / self.username
        self.home = self.root / "home" / self.username
        keys = run.child("rooted-ssh")
        self._directory = keys
        self.key_file = keys / "id_ed25519"
        self.known_hosts = keys / "known_hosts"
        self.banner = keys / "banner"
        sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin") or "sshd"
        arguments = ["sh", "-c", _SCRIPT, "sh", str(self.root), str(keys), sshd]
        self._sshd = Daemon(
            ["unshare", "--mount", "--propagation", "private", *arguments],
            log=keys / "sshd.log",
            environment={"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"},
            ready=lambda: listens(self.port),
        )

    def _make_account(self) -> None:
        super()._make_account()
        # Its home is not here.
        shutil.rmtree(self.far_home)
        for name in ("usr", "etc", "dev", "proc", "tmp", "run/sshd"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        (self.root / "tmp").chmod(0o1777)
        for name in ("bin", "sbin", "lib", "lib64"):
            if Path("/", name).is_symlink():
                (self.root / name).symlink_to(os.readlink(f"/{name}"))
        self.home.mkdir(parents=True)
        os.chown(self.home, self.uid, pwd.getpwnam(self.username).pw_gid)
