"""An SSH server of our own, with an account of its own to log in to."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from tests.live import rundir
from tests.live.daemon import Daemon, ServiceUnavailable, free_port, listens, wait_until
from tests.live.rundir import RunDirectory


class SSHHost:
    """OpenSSH's sshd on a free port of the loopback interface.

    Attributes:
        host: Its address.
        port: Its port.
        username: An account that exists for this test run only.
        uid: That account's number.
        home: That account's home directory.
        key_file: The private key that logs in.
        known_hosts: A known_hosts file that names this server's key.
        banner: A file whose text is shown before logging in, if it exists.
        settings: Lines of sshd_config that go before its other ones.

    Args:
        run: The test run's directory.
        environment: Variables that every login gets.
        account: What the account's name has in it.
        program: The name that sshd is run by.
    """

    def __init__(
        self,
        run: RunDirectory,
        environment: Mapping[str, str] | None = None,
        account: str = "test",
        program: str = "sshd",
    ) -> None:
        self._run = run
        self._environment = dict(environment or {})
        self._directory = run.child(f"ssh-{account}")
        self.host = "127.0.0.1"
        self.port = free_port()
        self.username = f"cx{account}{os.getpid()}"
        self.uid = -1  # until the account is made
        self.home = Path("/home") / self.username
        self.key_file = self._directory / "id_ed25519"
        self.known_hosts = self._directory / "known_hosts"
        self.banner = self._directory / "banner"
        self.settings: list[str] = []
        sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin") or "sshd"
        if program != "sshd":
            named = self._directory / program
            named.unlink(missing_ok=True)
            named.symlink_to(sshd)
            sshd = str(named)
        self._sshd = Daemon(
            [sshd, "-D", "-e", "-f", str(self._directory / "sshd_config")],
            log=self._directory / "sshd.log",
            environment={"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"},
            ready=lambda: listens(self.port),
        )
        self._needs = ["sshd", "ssh", "ssh-keygen", "useradd"]

    # --- starting and ending --------------------------------------------------------------

    def start(self) -> None:
        """Make the account and the keys, and start the server.

        Raises:
            ServiceUnavailable: Not root, a program is missing, or the server does not start.
        """
        if os.geteuid() != 0:
            raise ServiceUnavailable("an SSH server with an account of its own needs root")
        if missing := [program for program in self._needs if not _has(program)]:
            raise ServiceUnavailable(f"not installed: {', '.join(missing)}")
        self._make_account()
        self._make_keys()
        self._configure(self._environment)
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd's privilege separation
        self._sshd.start()

    def stop(self) -> None:
        """End the server and remove the account."""
        self._sshd.stop()
        self.drop_connections()
        rundir.remove_account(self.username)

    def stop_listening(self) -> None:
        """End the listener only: open connections stay, new ones are refused."""
        self._sshd.stop()

    def listen_again(self) -> None:
        """Start the listener that `stop_listening` ended, on the same port."""
        self._sshd.start()

    def __str__(self) -> str:
        # OpenSSH prints its version on standard error.
        version = subprocess.run(["ssh", "-V"], capture_output=True, text=True).stderr.split(",")[0]
        return f"sshd ({version}) at {self.host}:{self.port} as {self.username}"

    # --- using it ---------------------------------------------------------------------------

    def run(self, command: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command line through the account's login shell, with the system's `ssh`."""
        return subprocess.run(
            self.ssh_command(command),
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )

    def ssh_command(self, command: str) -> list[str]:
        """The argument vector with which the system's `ssh` runs a command line there."""
        known_hosts = f"UserKnownHostsFile={self.known_hosts}"
        options = ["-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", known_hosts]
        where = ["-p", str(self.port), "-i", str(self.key_file)]
        return ["ssh", "-F", "none", *where, *options, f"{self.username}@{self.host}", command]

    @contextlib.contextmanager
    def bashrc(self, text: str) -> Iterator[None]:
        """Give the account this .bashrc for a while."""
        path = self.home / ".bashrc"
        before = path.read_bytes() if path.exists() else None
        path.write_text(text)
        try:
            yield
        finally:
            path.unlink() if before is None else path.write_bytes(before)

    @contextlib.contextmanager
    def bare_path(self, lacks: Collection[str], profile: str = "") -> Iterator[None]:
        """Start commands with a PATH that lacks some programs, for a while.

        Args:
            lacks: Names of programs that only login shells find.
            profile: What login shells do after /etc/profile.
        """
        path = self.home / ".bash_profile"
        path.write_text(profile)
        bare = Path(tempfile.mkdtemp(dir=self._run.child("bare")))
        bare.chmod(0o755)
        for program in Path("/usr/bin").iterdir():
            if program.name not in lacks:
                (bare / program.name).symlink_to(program)
        self._restart({**self._environment, "PATH": str(bare)})
        try:
            yield
        finally:
            self._restart(self._environment)
            path.unlink()

    @contextlib.contextmanager
    def login_shell(self, shell: str) -> Iterator[None]:
        """Give the account this login shell for a while."""
        path = shutil.which(shell)
        if path is None:
            raise ServiceUnavailable(f"not installed: {shell}")
        before = pwd.getpwnam(self.username).pw_shell
        _run("usermod", "--shell", path, self.username)
        try:
            yield
        finally:
            _run("usermod", "--shell", before, self.username)

    @contextlib.contextmanager
    def password(self, password: str) -> Iterator[None]:
        """Let the account log in with this password for a while."""
        subprocess.run(["chpasswd"], input=f"{self.username}:{password}", text=True, check=True)
        try:
            yield
        finally:
            _run("usermod", "--password", "*", self.username)

    @contextlib.contextmanager
    def read_only_home(self) -> Iterator[None]:
        """Take the account's right to write in its home for a while."""
        os.chown(self.home, 0, 0)
        self.home.chmod(0o555)
        try:
            yield
        finally:
            self._own(self.home, 0o755)

    @contextlib.contextmanager
    def small_disk(self, size: int) -> Iterator[Path]:
        """A file system of this many bytes that the account may fill."""
        point = self._run.child("disk")
        options = f"size={size},mode=0700,uid={self.uid}"
        _run("mount", "-t", "tmpfs", "-o", options, "clustrix-live", str(point))
        try:
            yield point
        finally:
            _run("umount", "--lazy", str(point))

    # --- trouble on the line ----------------------------------------------------------------

    def drop_connections(self) -> int:
        """Break every open connection, as a network would; what runs behind them goes on.

        Returns:
            How many sshd processes were ended.
        """
        return self._signal_connections(signal.SIGKILL)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Let every open connection hang for a while: nothing is closed, nothing answers."""
        self._signal_connections(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal_connections(signal.SIGCONT)

    @property
    def environment(self) -> dict[str, str]:
        """Variables that every login gets."""
        return dict(self._environment)

    @property
    def connections(self) -> int:
        """How many connections are logged in."""
        return len(self.logins)

    @property
    def logins(self) -> set[int]:
        """The connections that are logged in, each by the id of its process."""
        found = set()
        for pid in self._connection_processes():
            with contextlib.suppress(FileNotFoundError):  # it has just ended
                if Path(f"/proc/{pid}").stat().st_uid == 0:
                    found.add(pid)
        return found

    @property
    def log(self) -> str:
        """What the server has written down since it was first started."""
        return (self._directory / "sshd.log").read_text()

    @property
    def processes(self) -> list[int]:
        """The ids of the account's processes, those of sshd excepted."""
        return [pid for pid in rundir.processes_of(self.uid) if not _is_sshd(pid)]

    def _signal_connections(self, number: signal.Signals) -> int:
        pids = self._connection_processes()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return len(pids)

    def _connection_processes(self) -> list[int]:
        """Both halves of every connection that is logged in: the account's and root's.

        Found from the account, not from the listener, which they outlive.
        """
        account = rundir.processes_of(self.uid)
        found = {pid for pid in account if _is_sshd(pid)}
        for pid in list(found):
            with contextlib.suppress(OSError):
                found.add(rundir.parent_of(pid))  # the privileged half, which root owns
        return sorted(pid for pid in found if _is_sshd(pid) and pid != self._sshd.pid)

    # --- making it ----------------------------------------------------------------------------

    def _make_account(self) -> None:
        rundir.remove_account(self.username)  # of an earlier run that had the same process id
        self._run.will_make_account(self.username)
        _run("useradd", "--create-home", "--shell", "/bin/bash", self.username)
        _run("usermod", "--password", "*", self.username)  # no password, but not locked
        self.uid = pwd.getpwnam(self.username).pw_uid

    def _make_keys(self) -> None:
        for name in ("id_ed25519", "host_key"):
            path = self._directory / name
            path.unlink(missing_ok=True)
            _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path))
        host_key = (self._directory / "host_key.pub").read_text()
        self.known_hosts.write_text(f"[{self.host}]:{self.port} {host_key}")
        settings = self.home / ".ssh"
        settings.mkdir(exist_ok=True)
        authorized_keys = settings / "authorized_keys"
        authorized_keys.write_text((self._directory / "id_ed25519.pub").read_text())
        self._own(authorized_keys, 0o600)
        self._own(settings, 0o700)

    def _own(self, path: Path, mode: int) -> None:
        os.chown(path, self.uid, pwd.getpwnam(self.username).pw_gid)
        path.chmod(mode)

    def _restart(self, environment: Mapping[str, str]) -> None:
        self._sshd.stop()
        # A connection's process that has only just been forked still holds the port.
        wait_until(lambda: not listens(self.port))
        self._configure(environment)
        self._sshd.start()

    def _configure(self, environment: Mapping[str, str]) -> None:
        variables = " ".join(f'{name}="{value}"' for name, value in environment.items())
        lines = [
            *self.settings,  # of several lines for one thing, sshd takes the first
            f"Port {self.port}",
            f"ListenAddress {self.host}",
            f"HostKey {self._directory / 'host_key'}",
            "PidFile none",
            "UsePAM no",
            f"AllowUsers {self.username}",
            f"Banner {self.banner}",
            "MaxSessions 50",
            "MaxStartups 100",
            "PrintMotd no",
            "LogLevel VERBOSE",
            "Subsystem sftp internal-sftp",
            f"SetEnv {variables}" if variables else "",
        ]
        (self._directory / "sshd_config").write_text("\n".join(lines) + "\n")


def _is_sshd(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().startswith("sshd")
    except OSError:
        return False


def _has(program: str) -> bool:
    return shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is not None


def _run(*command: str) -> None:
    """Run a system command; account commands are tried again while /etc/passwd is locked."""
    for attempt in range(20):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            return
        if "cannot lock" not in done.stderr or attempt == 19:
            raise ServiceUnavailable(f"{' '.join(command)}: {done.stderr.strip()}")
        time.sleep(0.25)
