"""Control masters of the system's ssh: opened, shared, lost, and never asking."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from clustrix_prefect.connections import control_master
from clustrix_prefect.connections.control_master import ControlMaster, MasterState
from clustrix_prefect.connections.openssh import open_openssh
from clustrix_prefect.errors import (
    AuthenticationFailed,
    ConfigurationError,
    ConnectionFailed,
    ConnectionLost,
    HostKeyRefused,
    LoginNeeded,
)
from tests.connections.conftest import StartServer, master_of, read_all
from tests.live.person import at_a_terminal, log_in, process_with
from tests.live.ssh_authority import SSHAuthority
from tests.live.ssh_host import SSHHost

PASSWORD = "correct horse"


@pytest.fixture
def master(ssh_host: SSHHost) -> Iterator[ControlMaster]:
    """The master of the shared server, which a key opens."""
    with master_of(ssh_host) as made:
        yield made


@pytest.fixture
def guarded(
    master: ControlMaster, start_server: StartServer, ssh_host: SSHHost, home: Path
) -> Iterator[ControlMaster]:
    """The master of a server that wants the key, and a password besides: a person's."""
    port = start_server("AuthenticationMethods publickey,password", "UsePAM no")
    made = dataclasses.replace(master, port=port, known_hosts=home / ".ssh" / "known_hosts")
    with ssh_host.password(PASSWORD):
        yield made
        made.close()


def whoami(master: ControlMaster) -> str:
    connection = open_openssh(master)
    try:
        return read_all(connection.start("whoami")).decode().strip()
    finally:
        connection.close()


def pid_of(master: ControlMaster) -> int:
    match = re.search(rb"pid=(\d+)", master._ask("check").stderr)
    assert match is not None
    return int(match[1])


def eventually(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


class TestChannels:
    def test_output_input_and_exit_status(self, master: ControlMaster) -> None:
        channel = open_openssh(master).start("read line; echo got $line; echo oops >&2; exit 3")
        assert channel.exit_status() is None
        channel.write(b"hello\n")
        assert read_all(channel) == b"got hello\n"
        eventually(lambda: channel.exit_status() == 3)
        eventually(lambda: channel.stderr_tail() == "oops\n")

    def test_large_buffers_go_both_ways_at_once(self, master: ControlMaster) -> None:
        channel = open_openssh(master).start("cat")
        data = os.urandom(8 * 1024 * 1024)
        writer = threading.Thread(target=channel.write, args=(memoryview(data),))
        writer.start()
        received = bytearray()
        while len(received) < len(data):
            received += channel.read(1 << 20)
        writer.join()
        assert received == data
        channel.close()

    def test_close_releases_a_reader_and_ends_the_far_program(
        self, master: ControlMaster, ssh_host: SSHHost
    ) -> None:
        channel = open_openssh(master).start("exec cat")
        channel.write(b"x")
        assert channel.read(1) == b"x"
        with ThreadPoolExecutor() as pool:
            reading = pool.submit(channel.read, 1)
            channel.close()
            assert reading.result(60) == b""
        with pytest.raises(OSError):
            channel.write(b"x")

    def test_a_status_of_255_is_the_far_programs_own(self, master: ControlMaster) -> None:
        channel = open_openssh(master).start("echo there; exit 255")
        assert read_all(channel) == b"there\n"

    def test_no_further_session(
        self, master: ControlMaster, start_server: StartServer, home: Path
    ) -> None:
        one = dataclasses.replace(
            master, port=start_server("MaxSessions 1"), known_hosts=home / ".ssh" / "known_hosts"
        )
        try:
            connection = open_openssh(one)
            first = connection.start("echo first; cat")
            assert first.read(100) == b"first\n"
            with pytest.raises(ConnectionLost, match="MaxSessions"):
                connection.start("echo second").read(100)
            first.close()
        finally:
            one.close()

    def test_nothing_goes_another_way_than_over_the_master(self, master: ControlMaster) -> None:
        connection = open_openssh(master)
        master.close()
        with pytest.raises(ConnectionLost, match="is gone"):
            connection.start("echo here").read(100)


class TestUnattended:
    def test_one_login_for_all_that_come(self, master: ControlMaster, ssh_host: SSHHost) -> None:
        before = ssh_host.logins
        with ThreadPoolExecutor(8) as pool:
            names = set(pool.map(lambda _: whoami(master), range(8)))
        assert names == {ssh_host.username}
        assert len(ssh_host.logins - before) == 1
        opened = master.opened
        assert opened is not None
        assert not opened.by_hand

    def test_two_processes_use_one(self, master: ControlMaster, ssh_host: SSHHost) -> None:
        before = ssh_host.logins
        processes = [subprocess.Popen(process_with(master, "ensure()")) for _ in range(2)]
        assert [process.wait(60) for process in processes] == [0, 0]
        assert whoami(master) == ssh_host.username
        assert len(ssh_host.logins - before) == 1

    def test_where_a_person_is_needed_it_says_so_and_does_not_hang(
        self, guarded: ControlMaster
    ) -> None:
        began = time.monotonic()
        with pytest.raises(LoginNeeded, match=r"without a person: .*Permission denied \(password"):
            guarded.ensure()
        assert time.monotonic() - began < 30
        assert guarded.state is MasterState.ABSENT

    def test_nor_does_it_ask_on_the_terminal_that_is_there(self, guarded: ControlMaster) -> None:
        status, seen = at_a_terminal(process_with(guarded, "ensure()"), {})
        assert status == 1
        assert "LoginNeeded" in seen
        assert "password:" not in seen

    def test_a_jump_host_asks_nothing_either(
        self, guarded: ControlMaster, master: ControlMaster, ssh_host: SSHHost
    ) -> None:
        jumping = dataclasses.replace(
            guarded,
            port=ssh_host.port,
            proxy_jump=f"{guarded.username}@{guarded.host}:{guarded.port}",
        )
        began = time.monotonic()
        with pytest.raises(LoginNeeded, match="Permission denied"):
            jumping.ensure()
        assert time.monotonic() - began < 30

    def test_nobody_listens(self, master: ControlMaster) -> None:
        with pytest.raises(ConnectionFailed, match="refused") as caught:
            dataclasses.replace(master, port=1).ensure()
        assert type(caught.value) is ConnectionFailed

    def test_no_ssh(self, master: ControlMaster, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "/nowhere")
        with pytest.raises(ConfigurationError, match='connection="paramiko"'):
            master.ensure()


class TestWhatTheConfigurationSays:
    def test_jumps_match_exec_and_aliases(
        self, ssh_host: SSHHost, home: Path, tmp_path: Path
    ) -> None:
        asked = tmp_path / "asked"
        (home / ".ssh" / "known_hosts").write_text(ssh_host.known_hosts.read_text())
        (home / ".ssh" / "config").write_text(
            f'Match host far exec "touch {asked}"\n'
            f"  HostName {ssh_host.host}\n  ProxyJump gate\n"
            f"Host gate\n  HostName {ssh_host.host}\n"
            f"Host gate far {ssh_host.host}\n"
            f"  Port {ssh_host.port}\n  User {ssh_host.username}\n"
            f"  IdentityFile {ssh_host.key_file}\n"
            f"  UserKnownHostsFile {home}/.ssh/known_hosts\n"
        )
        before = ssh_host.logins
        master = ControlMaster("far")
        try:
            assert whoami(master) == ssh_host.username
            assert asked.exists()
            assert len(ssh_host.logins - before) == 2  # the jump host is the same server
        finally:
            master.close()

    @pytest.mark.parametrize("hop", ["target", "jump"])
    def test_an_unknown_host_key_is_refused_whatever_it_says(
        self, master: ControlMaster, start_server: StartServer, home: Path, hop: str
    ) -> None:
        stranger = start_server()  # its key is in ~/.ssh/known_hosts alone
        (home / ".ssh" / "config").write_text("Host *\n  StrictHostKeyChecking no\n")
        jump = f"{master.username}@{master.host}:{stranger}"
        asked = (
            dataclasses.replace(master, port=stranger)
            if hop == "target"
            else dataclasses.replace(master, proxy_jump=jump)
        )
        with pytest.raises(HostKeyRefused, match="ssh-keyscan"):
            asked.ensure()

    def test_a_certificate_that_lies_elsewhere(
        self, ssh_host: SSHHost, start_server: StartServer, home: Path, tmp_path: Path
    ) -> None:
        key = tmp_path / "id"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        authority = SSHAuthority(tmp_path / "authority")
        certificate = tmp_path / "elsewhere-cert.pub"
        authority.sign(key, ssh_host.username, "-1m:+1h").rename(certificate)
        port = start_server(*authority.settings)
        known_hosts = home / ".ssh" / "known_hosts"
        bare = ControlMaster(
            ssh_host.host, port, ssh_host.username, key_file=key, known_hosts=known_hosts
        )
        with pytest.raises(LoginNeeded):
            bare.ensure()
        master = dataclasses.replace(bare, certificate_file=certificate)
        try:
            assert whoami(master) == ssh_host.username
        finally:
            master.close()

    @pytest.mark.parametrize(
        ("said", "cipher"),
        [("", "aes128-gcm@openssh.com"), ("Ciphers aes192-ctr,aes256-ctr\n", "aes192-ctr")],
        ids=["nothing", "another"],
    )
    def test_the_quickest_cipher_where_none_is_named(
        self,
        master: ControlMaster,
        start_server: StartServer,
        home: Path,
        tmp_path: Path,
        said: str,
        cipher: str,
    ) -> None:
        (home / ".ssh" / "config").write_text(said)
        port = start_server("LogLevel DEBUG1")
        other = dataclasses.replace(master, port=port, known_hosts=home / ".ssh" / "known_hosts")
        try:
            other.ensure()
        finally:
            other.close()
        log = (tmp_path / f"sshd-{port}" / "log").read_text()
        assert set(re.findall(r"kex: \S+ cipher: (\S+)", log)) == {cipher}

    def test_names_that_a_shell_could_read_something_into_are_refused(
        self, master: ControlMaster
    ) -> None:
        for wrong in ({"host": "a;b"}, {"username": "$(x)"}, {"proxy_jump": "a$(x)"}):
            with pytest.raises(ConfigurationError):
                dataclasses.replace(master, **wrong).ensure()  # type: ignore[arg-type]

    def test_paths_with_blanks_and_percent_signs(
        self, master: ControlMaster, ssh_host: SSHHost, tmp_path: Path
    ) -> None:
        known = tmp_path / "known %h hosts"
        known.write_text(ssh_host.known_hosts.read_text())
        moved = dataclasses.replace(master, known_hosts=known)
        try:
            assert whoami(moved) == ssh_host.username
        finally:
            moved.close()
        with pytest.raises(ConfigurationError, match="quotes"):
            dataclasses.replace(master, known_hosts=tmp_path / 'a"b').ensure()


class TestByHand:
    def test_a_password_is_asked_on_the_terminal(
        self, guarded: ControlMaster, ssh_host: SSHHost
    ) -> None:
        before = ssh_host.logins
        status, seen = log_in(guarded, {"password:": PASSWORD})
        assert status == 0, seen
        assert whoami(guarded) == whoami(guarded) == ssh_host.username
        assert len(ssh_host.logins - before) == 1
        opened = guarded.opened
        assert opened is not None
        assert (opened.by_hand, opened.idle_seconds) == (True, 3600)
        assert "lasts until" in guarded.shown

    def test_a_wrong_one(self, guarded: ControlMaster) -> None:
        status, seen = log_in(guarded, {"password:": "wrong"})
        assert status == 1
        assert "AuthenticationFailed: ssh did not log in" in seen
        assert not guarded.is_live

    def test_at_a_jump_host_too(self, guarded: ControlMaster, ssh_host: SSHHost) -> None:
        known = guarded.known_hosts
        assert known is not None
        with known.open("a") as file:
            file.write(ssh_host.known_hosts.read_text())
        jumping = dataclasses.replace(
            guarded, port=ssh_host.port, proxy_jump=f"{guarded.host}:{guarded.port}"
        )
        try:
            status, seen = log_in(jumping, {"password:": PASSWORD})
            assert status == 0, seen
            assert whoami(jumping) == ssh_host.username
        finally:
            jumping.close()

    def test_nobody_is_asked_where_one_is_logged_in(self, guarded: ControlMaster) -> None:
        log_in(guarded, {"password:": PASSWORD})
        guarded.ensure()
        assert guarded.close()
        assert not guarded.close()
        with pytest.raises(LoginNeeded):
            guarded.ensure()

    def test_one_that_does_not_answer_is_replaced(
        self, guarded: ControlMaster, ssh_host: SSHHost
    ) -> None:
        log_in(guarded, {"password:": PASSWORD})
        pid = pid_of(guarded)
        os.kill(pid, signal.SIGSTOP)
        try:
            status, seen = log_in(guarded, {"password:": PASSWORD})
            assert status == 0, seen
            assert whoami(guarded) == ssh_host.username
        finally:
            os.kill(pid, signal.SIGKILL)


class TestTrouble:
    def test_the_socket_is_deleted(self, master: ControlMaster, ssh_host: SSHHost) -> None:
        connection = open_openssh(master)
        channel = connection.start("cat")
        channel.write(b"x")
        assert channel.read(1) == b"x"
        pid = pid_of(master)
        master._socket.unlink()
        assert master.state is MasterState.ABSENT
        channel.write(b"y")  # what is under way goes on
        assert channel.read(1) == b"y"
        assert whoami(master) == ssh_host.username
        assert pid_of(master) != pid
        channel.close()
        os.kill(pid, signal.SIGTERM)

    def test_the_master_is_killed(self, master: ControlMaster, ssh_host: SSHHost) -> None:
        channel = open_openssh(master).start("cat")
        channel.write(b"x")
        assert channel.read(1) == b"x"
        os.kill(pid_of(master), signal.SIGKILL)
        assert channel.read(1) == b""
        assert master.state is MasterState.ABSENT  # although its socket is there
        assert whoami(master) == ssh_host.username

    def test_the_master_sleeps(
        self, master: ControlMaster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(control_master, "_ANSWER_SECONDS", 0.5)
        channel = open_openssh(master).start("cat")
        channel.write(b"x")
        assert channel.read(1) == b"x"
        pid = pid_of(master)
        os.kill(pid, signal.SIGSTOP)
        try:
            assert master.state is MasterState.SILENT
            with pytest.raises(ConnectionLost, match="does not answer"):
                master.ensure()
        finally:
            os.kill(pid, signal.SIGCONT)
        eventually(lambda: master.is_live)
        channel.write(b"y")
        assert channel.read(1) == b"y"
        channel.close()


class TestTheDirectory:
    @pytest.fixture(autouse=True)
    def elsewhere(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(control_master, "_DIRECTORY", tmp_path)
        return tmp_path / f"clustrix-prefect-{os.geteuid()}"

    def test_it_is_made_for_us_alone(self, elsewhere: Path) -> None:
        assert ControlMaster("ndoli").state is MasterState.ABSENT
        assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o700

    @pytest.mark.parametrize("made", ["open", "link", "file", "theirs"])
    def test_one_that_others_could_use_is_refused(
        self, elsewhere: Path, tmp_path: Path, made: str
    ) -> None:
        if made == "open":
            elsewhere.mkdir()
            elsewhere.chmod(0o770)
        elif made == "link":
            (tmp_path / "other").mkdir(mode=0o700)
            elsewhere.symlink_to(tmp_path / "other")
        elif made == "file":
            elsewhere.touch(mode=0o600)
        else:
            elsewhere.mkdir(mode=0o700)
            os.chown(elsewhere, 65534, 65534)
        with pytest.raises(ConfigurationError, match="yours alone"):
            ControlMaster("ndoli").ensure()


def test_paths_of_sockets_are_short(master: ControlMaster) -> None:
    # 104 on macOS, of which ssh itself takes 17 while it makes one.
    assert len(str(master._new_socket())) + 17 < 100


def test_refusals_are_what_they_are() -> None:
    failure = ControlMaster("ndoli")._failure
    said = "Connection closed by UNKNOWN port 65535"
    assert type(failure(f"a@gate: Permission denied (publickey).\n{said}")) is LoginNeeded
    assert type(failure("Too many authentication failures")) is LoginNeeded
    assert type(failure("Host key verification failed.")) is HostKeyRefused
    assert type(failure(said)) is ConnectionFailed
    assert issubclass(LoginNeeded, AuthenticationFailed)
