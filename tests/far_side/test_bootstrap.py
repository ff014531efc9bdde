"""The agent starts through login shells that are not tidy, or says what it met."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time

import pytest

from clustrix_prefect.connections import bootstrap
from clustrix_prefect.connections.agent import AgentClient
from clustrix_prefect.connections.connection import Channel
from clustrix_prefect.connections.local import LocalConnection
from clustrix_prefect.errors import AgentError, ConnectionLost, LoginInterrupted
from clustrix_prefect.far_side.wire import protocol
from tests.far_side.calls import Call
from tests.far_side.far import Far, is_alive, wait_for

ADD = "def f(a, b=1):\n    return a + b"


class LoginConnection(LocalConnection):
    """This machine, through a login shell as sshd would start it.

    Args:
        shell: The account's shell.
        before: A program's words that see the command before the shell does.
        environment: What sshd would have set.
    """

    def __init__(self, shell: str = "bash", before: str = "", **environment: str) -> None:
        super().__init__()
        variables = {"PATH": "/usr/bin:/bin", "HOME": os.environ["HOME"], **environment}
        words = [f"{name}={value}" for name, value in variables.items()]
        self._prefix = shlex.join(["env", "-i", *words])
        self._shell, self._before = shell, before

    def start(self, command: str) -> Channel:
        login = f"{self._before} exec {self._prefix} {self._shell} -c {shlex.quote(command)}"
        return super().start(login)


def start(connection, **options):
    """Start an agent and stop it; what it said."""
    client = AgentClient(connection, on_event=print, on_lost=print, **options)
    try:
        return client.start()
    finally:
        client.close()
        connection.close()


@pytest.fixture
def home(tmp_path):
    """A home directory with start-up files of its own."""
    path = tmp_path / "home"
    path.mkdir()
    return path


@pytest.mark.parametrize("shell", ["sh", "bash", "dash", "zsh", "tcsh", "csh", "ksh", "fish"])
def test_any_login_shell_will_do(shell, python, home):
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} on this machine")
    hello = start(LoginConnection(shell, HOME=str(home)), python=python)
    assert hello["executable"] == python
    assert hello["home"] == str(home)


def test_the_command_is_one_line_that_csh_can_read():
    odd = 'it\'s\n"fine" $(x) `y` !z'
    command = bootstrap.command_line("m", b"", python="python3", prologue=[odd], work_dir=odd)
    assert "\n" not in command
    assert "!" not in command
    assert "\\\\" not in command  # fish makes one of two
    assert subprocess.run(["sh", "-n", "-c", command]).returncode == 0


def test_a_banner_and_noise_do_not_matter(oldest):
    noise = "printf 'Welcome!\\n\\0\\1\\2 <abc> ready\\nno newline'; echo oops >&2;"
    hello = start(LoginConnection(before=noise), python=oldest)
    assert hello["protocol"] == 1


def test_a_noisy_bashrc_does_not_matter(oldest, home):
    (home / ".bashrc").write_text("echo from .bashrc; date\n")
    connection = LoginConnection("bash", HOME=str(home), BASH_ENV=str(home / ".bashrc"))
    assert start(connection, python=oldest)["user"]


def test_a_login_that_ends_is_quoted(home):
    (home / ".bashrc").write_text("echo 'Maintenance until noon.'; echo bye >&2; exit 4\n")
    # Newer releases take a socket for a login over the network, and read the home's own.
    connection = LoginConnection("bash", HOME=str(home), BASH_ENV=str(home / ".bashrc"))
    with pytest.raises(LoginInterrupted) as caught:
        start(connection)
    for part in ("Maintenance until noon.", "bye", "exit status 4", ".bashrc"):
        assert part in str(caught.value)


def test_a_login_that_hangs_is_given_up():
    began = time.monotonic()
    with pytest.raises(LoginInterrupted, match=r"within 1 s.*Press any key"):
        start(LoginConnection(before="echo Press any key; read key;"), start_timeout=1.0)
    assert time.monotonic() - began < 60


def test_a_login_that_floods_is_given_up():
    with pytest.raises(LoginInterrupted, match="spam"):
        start(LoginConnection(before="yes spam;"))


def test_no_python_is_said_with_what_was_tried(home):
    with pytest.raises(LoginInterrupted) as caught:
        start(_bare(home), python="/opt/none/python")
    for candidate in ("/opt/none/python", "python3", "platform-python", "python3.6"):
        assert candidate in str(caught.value)
    assert "`python`" in str(caught.value)


def test_python_that_comes_with_a_module_is_found(oldest, home):
    setup = ['echo "it\'s in $HOME" !', f"export PATH={os.path.dirname(oldest)}:$PATH"]
    hello = start(_bare(home), prologue=setup)
    assert hello["executable"].startswith(os.path.dirname(oldest))


def test_python_that_comes_with_the_profile_is_found(oldest, home):
    connection = _bare(home)
    profile = f"echo hello from profile\nPATH={os.path.dirname(oldest)}:$PATH\n"
    (home / ".bash_profile").write_text(profile)
    assert start(connection)["executable"].startswith(os.path.dirname(oldest))


def test_a_python_that_is_too_old_is_passed_over(oldest, home):
    tools = home / "bin"
    connection = _bare(home)
    (tools / "python3").write_text("#!/bin/sh\nexit 1\n")  # as `-c "sys.exit(version < 3.6)"`
    (tools / "python3").chmod(0o755)
    (tools / "python3.6").symlink_to(oldest)
    assert start(connection)["python"] >= [3, 6]


def _bare(home) -> LoginConnection:
    """A login whose PATH has shells, but no Python."""
    tools = home / "bin"
    tools.mkdir()
    for name in ("bash", "sh", "env"):
        (tools / name).symlink_to(shutil.which(name))
    # /etc/profile would bring the whole system's PATH.
    (home / ".bash_profile").write_text(f"PATH={tools}\n")
    return LoginConnection(f"{tools}/bash", PATH=str(tools), HOME=str(home))


def test_the_clock_and_the_round_trip_are_measured(oldest):
    client = AgentClient(LocalConnection(), python=oldest, on_event=print, on_lost=print)
    client.start()
    assert 0 < client.round_trip_seconds < 60
    assert abs(client.clock_offset) <= client.round_trip_seconds
    assert client.round_trips == 1
    client.close()
    with pytest.raises(ConnectionLost):
        client.request(protocol.ping())
    with pytest.raises(ConnectionLost):
        client.send(protocol.ack())  # type: ignore[call-arg]


# --- the work directory -------------------------------------------------------------------


def configure(work_dir, connection=None, **options):
    connection = connection or LocalConnection()
    client = AgentClient(connection, on_event=print, on_lost=print, **options)
    client.start()
    try:
        return client.request(protocol.configure(work_dir=work_dir))
    finally:
        client.close()


def test_the_work_directory_is_below_the_home_unless_said(oldest, home):
    facts = configure(None, LoginConnection(HOME=str(home)), python=oldest)
    assert facts["work_dir"] == f"{home}/.clustrix-prefect"
    assert facts["free_bytes"] > 0
    assert (home / ".clustrix-prefect").stat().st_mode & 0o777 == 0o700
    connection = LoginConnection(HOME=str(home), SCRATCH=str(home / "scratch"))
    facts = configure("$SCRATCH/a b/~x", connection, python=oldest)
    assert facts["work_dir"] == f"{home}/scratch/a b/~x"
    facts = configure("relative", LoginConnection(HOME=str(home)), python=oldest)
    assert facts["work_dir"] == f"{home}/relative"


def test_a_work_directory_that_cannot_be_written_is_named(oldest):
    for path, reason in (("/proc/nowhere", "No such file"), ("/sys/x", "not permitted|denied")):
        with pytest.raises(AgentError, match=f"{path}.*({reason})") as caught:
            configure(path, python=oldest)
        assert caught.value.type == "WorkDirNotWritable"
    with pytest.raises(AgentError, match="NOT_SET"):
        configure("$NOT_SET/work", python=oldest)


def test_a_work_directory_that_others_prepared_is_refused(oldest, tmp_path):
    (tmp_path / "work" / "runs").mkdir(parents=True)
    (tmp_path / "work" / "runs").chmod(0o777)
    with pytest.raises(AgentError, match="runs") as caught:
        configure(str(tmp_path / "work"), python=oldest)
    assert caught.value.type == "WorkDirNotPrivate"


@pytest.fixture
def small_disk(tmp_path):
    """A file system of three megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_is_named(oldest, small_disk):
    filling = small_disk / "filling"
    filling.write_bytes(b"x" * 3_000_000)
    with pytest.raises(AgentError, match=f"No space left on device.*{small_disk}") as caught:
        configure(str(small_disk / "work"), python=oldest)
    assert caught.value.type == "DiskFull"
    filling.unlink()
    far = Far(oldest, small_disk / "work")
    with pytest.raises(AgentError) as caught:
        far.send_blobs([Call(ADD, (os.urandom(4_000_000),))])
    assert caught.value.type == "DiskFull"
    # What did not fit has made way again, so a smaller call runs.
    call = Call(ADD, (1,))
    far.run(call)
    assert far.value(call) == 2
    far.close()


def test_a_result_that_does_not_fit_on_the_disk_is_not_a_silent_loss(oldest, small_disk):
    far = Far(oldest, small_disk / "work")
    call, small = Call("import os\ndef f():\n    return os.urandom(4000000)"), Call(ADD, (1,))
    far.run(call, small, max_workers=1)
    event, _ = far.wait("worker_died", call)
    assert "No space left on device" in event["stderr_tail"]
    assert far.value(small) == 2
    far.close()


def test_a_file_system_that_is_read_only_is_named(oldest, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(AgentError, match=f"{small_disk}.*Read-only file system") as caught:
        configure(str(small_disk / "work"), python=oldest)
    assert caught.value.type == "WorkDirNotWritable"


# --- the way ends -------------------------------------------------------------------------


def test_the_agent_ends_when_its_client_is_silent(oldest, tmp_path):
    far = Far(oldest, tmp_path / "work", silence=3.0)
    pid = far.agent_pid()
    os.kill(pid, 19)  # a frozen peer, whose connection stays open
    wait_for(lambda: far.lost, 8)
    assert "silent" in str(far.lost[0])
    os.kill(pid, 18)
    wait_for(lambda: not is_alive(pid), 5)
    far.close()
