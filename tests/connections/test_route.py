"""Ways to real SSH servers, and how each of them ends when it is barred."""

from __future__ import annotations

import dataclasses
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from clustrix_prefect.connections import route
from clustrix_prefect.connections.authentication import Login
from clustrix_prefect.connections.route import Destination, open_ssh
from clustrix_prefect.errors import (
    AuthenticationFailed,
    ConfigurationError,
    ConnectionFailed,
    HostKeyRefused,
)
from tests.connections.conftest import StartServer, read_all
from tests.live.ssh_host import SSHHost


def whoami(destination: Destination) -> str:
    connection = open_ssh(destination)
    try:
        return read_all(connection.start("whoami")).decode().strip()
    finally:
        connection.close()


def authenticated_with(destination: Destination) -> str:
    connection = open_ssh(destination)
    connection.close()
    return connection.facts.authenticated_with


def failure(destination: Destination, kind: type[ConnectionFailed]) -> str:
    with pytest.raises(kind) as caught:
        open_ssh(destination)
    assert type(caught.value) is kind
    return str(caught.value)


def with_login(destination: Destination, **login: Any) -> Destination:
    username = destination.login.username
    return dataclasses.replace(destination, login=Login(username=username, **login))


class TestHostKeys:
    def test_an_unknown_one_is_refused_before_anything_is_told(
        self, destination: Destination, tmp_path: Path
    ) -> None:
        file = tmp_path / "known_hosts"
        stranger = dataclasses.replace(destination, known_hosts=file)
        message = failure(stranger, HostKeyRefused)
        show = message.split("(`")[1].split("`")[0]
        shown = subprocess.run(show, shell=True, capture_output=True, text=True).stdout
        assert message.split("it offered ssh-ed25519 ")[1].split(",")[0] in shown
        add = message.split("add it: `")[1].split("`")[0]
        subprocess.run(add, shell=True, capture_output=True)
        assert whoami(stranger) == destination.login.username

    def test_the_key_type_that_is_known_is_asked_for(
        self, destination: Destination, start_server: StartServer, home: Path, tmp_path: Path
    ) -> None:
        key = tmp_path / "rsa"
        subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-N", "", "-f", key], check=True)
        port = start_server(f"HostKey {key}")
        public = key.with_suffix(".pub").read_text()
        (home / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}")
        connection = open_ssh(dataclasses.replace(destination, port=port, known_hosts=None))
        connection.close()
        assert connection.facts.host_key.startswith("ssh-rsa ")

    def test_a_certificate_authority_line_does_no_harm(
        self, destination: Destination, ssh_host: SSHHost, tmp_path: Path
    ) -> None:
        file = tmp_path / "known_hosts"
        line = ssh_host.known_hosts.read_text()
        authority = "@cert-authority * " + line.partition(" ")[2]
        file.write_text(authority + line)
        assert whoami(dataclasses.replace(destination, known_hosts=file)) == ssh_host.username


class TestLoggingIn:
    def test_with_a_private_key_as_text(self, destination: Destination, ssh_host: SSHHost) -> None:
        way = with_login(destination, private_key=ssh_host.key_file.read_text())
        assert authenticated_with(way) == "the block's private_key"

    def test_with_an_encrypted_key_file(
        self, destination: Destination, ssh_host: SSHHost, tmp_path: Path
    ) -> None:
        key = tmp_path / "key"
        key.write_text(ssh_host.key_file.read_text())
        key.chmod(0o600)
        subprocess.run(["ssh-keygen", "-q", "-p", "-f", key, "-N", "secret words"], check=True)
        way = with_login(destination, key_file=key, passphrase="secret words")
        assert whoami(way) == ssh_host.username
        message = failure(with_login(destination, key_file=key), AuthenticationFailed)
        assert f"key file {key} is encrypted and no passphrase was given" in message

    def test_with_a_password(self, destination: Destination, ssh_host: SSHHost) -> None:
        with ssh_host.password("correct horse"):
            way = with_login(destination, password="correct horse")
            assert authenticated_with(way) == "the password"
            message = failure(with_login(destination, password="wrong"), AuthenticationFailed)
        assert "Tried: the password" in message
        assert "no question" not in message  # this server never asks one
        assert "The host accepts: publickey, password" in message
        assert "wrong" not in message.replace("wrong way", "")

    def test_with_a_password_asked_for_interactively(
        self, destination: Destination, ssh_host: SSHHost, start_server: StartServer
    ) -> None:
        port = start_server("UsePAM yes", "PasswordAuthentication no")
        way = dataclasses.replace(destination, port=port, known_hosts=None)
        with ssh_host.password("correct horse"):
            accepted = authenticated_with(with_login(way, password="correct horse"))
            message = failure(with_login(way, password="wrong"), AuthenticationFailed)
        assert accepted == "the password (keyboard-interactive)"
        assert "no question" not in message
        assert "Tried: the password (keyboard-interactive)" in message

    def test_with_a_key_and_a_password_where_both_are_wanted(
        self, destination: Destination, ssh_host: SSHHost, start_server: StartServer
    ) -> None:
        port = start_server("AuthenticationMethods publickey,password")
        way = dataclasses.replace(destination, port=port, known_hosts=None)
        with ssh_host.password("correct horse"):
            both = with_login(way, key_file=ssh_host.key_file, password="correct horse")
            assert whoami(both) == ssh_host.username
        message = failure(way, AuthenticationFailed)
        assert f"key file {ssh_host.key_file} (accepted, but not enough)" in message
        assert "The host accepts: password" in message

    def test_with_a_key_of_the_agent(
        self, destination: Destination, ssh_host: SSHHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with agent(ssh_host.key_file) as path:
            monkeypatch.setenv("SSH_AUTH_SOCK", path)
            how = authenticated_with(with_login(destination))
        assert how.startswith("ssh-agent key id_ed25519 (SHA256:")

    def test_with_the_key_that_ssh_config_names(
        self, destination: Destination, ssh_host: SSHHost, home: Path
    ) -> None:
        (home / ".ssh" / "config").write_text(
            f"Host ndoli\n  HostName {ssh_host.host}\n  Port {ssh_host.port}\n"
            f"  User {ssh_host.username}\n  IdentityFile {ssh_host.key_file}\n"
            f"  UserKnownHostsFile {ssh_host.known_hosts}\n"
        )
        assert authenticated_with(Destination("ndoli")) == f"key file {ssh_host.key_file}"

    def test_with_the_key_in_the_home(
        self, destination: Destination, ssh_host: SSHHost, home: Path
    ) -> None:
        key = home / ".ssh" / "id_ed25519"
        key.write_text(ssh_host.key_file.read_text())
        assert authenticated_with(with_login(destination)) == f"key file {key}"

    def test_by_kerberos_is_for_openssh(
        self, destination: Destination, start_server: StartServer, home: Path
    ) -> None:
        port = start_server("GSSAPIAuthentication yes", "AuthenticationMethods gssapi-with-mic")
        way = dataclasses.replace(destination, port=port, known_hosts=None)
        with pytest.raises(AuthenticationFailed) as caught:
            open_ssh(way)
        assert "in by Kerberos alone, which this connection does not speak" in caught.value.what
        assert 'connection="openssh"' in caught.value.remedy
        assert "`clustrix-prefect login`" in caught.value.remedy
        config = home / ".ssh" / "config"
        config.write_text("Host *\n  PreferredAuthentications gssapi-keyex,gssapi-with-mic\n")
        with pytest.raises(AuthenticationFailed, match="wants Kerberos alone") as caught:
            open_ssh(destination)
        assert 'connection="openssh"' in caught.value.remedy
        # What ssh would do after Kerberos, as with Debian's own settings, is done here, too.
        config.write_text(
            "Host *\n  GSSAPIAuthentication yes\n"
            "  PreferredAuthentications gssapi-with-mic,publickey\n"
        )
        assert whoami(destination) == destination.login.username

    def test_with_no_key_file_where_ssh_config_says_none(
        self, destination: Destination, ssh_host: SSHHost, home: Path
    ) -> None:
        (home / ".ssh" / "id_ed25519").write_text(ssh_host.key_file.read_text())
        (home / ".ssh" / "config").write_text("IdentityFile none\n")
        assert "nothing to try" in failure(with_login(destination), AuthenticationFailed)

    def test_with_nothing(self, destination: Destination) -> None:
        message = failure(with_login(destination), AuthenticationFailed)
        assert "There was nothing to try" in message
        assert "ssh-add" in message

    def test_with_more_keys_than_the_host_cares_to_try(
        self, destination: Destination, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keys = []
        for number in range(8):
            keys.append(tmp_path / f"key{number}")
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", keys[-1]], check=True
            )
        with agent(*keys) as path:
            monkeypatch.setenv("SSH_AUTH_SOCK", path)
            message = failure(with_login(destination), AuthenticationFailed)
        assert "then hung up" in message

    def test_an_agent_that_is_not_there_is_no_failure_by_itself(
        self, destination: Destination, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        socket_file = tmp_path / "agent"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(socket_file))  # nobody listens
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket_file))
        assert "nothing to try" in failure(with_login(destination), AuthenticationFailed)


class TestOnTheWay:
    def test_through_jump_hosts(self, destination: Destination, ssh_host: SSHHost) -> None:
        jump = f"{ssh_host.username}@127.0.0.1:{ssh_host.port}"
        way = dataclasses.replace(destination, proxy_jump=f"{jump}, {jump}")
        connection = open_ssh(way)
        assert read_all(connection.start("whoami")).decode().strip() == ssh_host.username
        assert connection.facts.jumps == (jump, jump)
        connection.close()

    def test_a_jump_host_must_be_known_too(
        self, destination: Destination, start_server: StartServer, home: Path
    ) -> None:
        port = start_server()
        way = dataclasses.replace(destination, proxy_jump=f"127.0.0.1:{port}")
        assert f"[127.0.0.1]:{port} is not known" in failure(way, HostKeyRefused)

    def test_a_jump_host_does_not_get_the_password(
        self, destination: Destination, ssh_host: SSHHost
    ) -> None:
        way = with_login(destination, password="correct horse")
        way = dataclasses.replace(way, proxy_jump=f"127.0.0.1:{ssh_host.port}")
        with ssh_host.password("correct horse"):
            assert "nothing to try" in failure(way, AuthenticationFailed)

    def test_a_jump_host_that_cannot_reach_the_host(
        self, destination: Destination, ssh_host: SSHHost
    ) -> None:
        way = dataclasses.replace(destination, port=1, proxy_jump=f"127.0.0.1:{ssh_host.port}")
        message = failure(way, ConnectionFailed)
        assert "The jump host 127.0.0.1 cannot reach 127.0.0.1 on port 1" in message

    def test_a_jump_host_that_cannot_be_read(self, destination: Destination) -> None:
        with pytest.raises(ConfigurationError, match="user@host:port"):
            open_ssh(dataclasses.replace(destination, proxy_jump="a@b@c:d"))

    def test_jump_of_ssh_config_unless_the_block_says_none(
        self, destination: Destination, ssh_host: SSHHost, home: Path
    ) -> None:
        (home / ".ssh" / "config").write_text("Host 127.0.0.1\n  ProxyJump localhost:1\n")
        message = failure(destination, ConnectionFailed)
        assert "localhost refuses connections on port 1" in message
        assert whoami(dataclasses.replace(destination, proxy_jump="none")) == ssh_host.username

    def test_a_jump_host_is_reached_in_its_own_way(
        self, destination: Destination, ssh_host: SSHHost, start_server: StartServer, home: Path
    ) -> None:
        outer, inner = start_server(), start_server()
        common = f"HostName 127.0.0.1\n  User {ssh_host.username}\n"
        (home / ".ssh" / "config").write_text(
            f"Host inner\n  Port {inner}\n  ProxyJump outer\n  {common}"
            f"Host outer\n  Port {outer}\n  {common}"
        )
        with (home / ".ssh" / "known_hosts").open("a") as known_hosts:
            known_hosts.write(ssh_host.known_hosts.read_text())
        here = f"{ssh_host.username}@127.0.0.1"
        for jumps, ports in {
            "inner": (outer, inner),
            # As with `ssh`, who names several means to go from each to the next.
            "outer,inner": (outer, inner),
            f"{here}:{ssh_host.port},inner": (ssh_host.port, inner),
            f"inner,{here}:{ssh_host.port}": (outer, inner, ssh_host.port),
        }.items():
            way = dataclasses.replace(destination, known_hosts=None, proxy_jump=jumps)
            connection = open_ssh(way)
            assert connection.facts.jumps == tuple(f"{here}:{port}" for port in ports), jumps
            assert read_all(connection.start("whoami")).decode().strip() == ssh_host.username
            connection.close()

    def test_jump_hosts_that_lead_to_each_other(self, destination: Destination, home: Path) -> None:
        config = home / ".ssh" / "config"
        config.write_text("Host gate\n  ProxyJump other\nHost *\n  ProxyJump gate\n")
        with pytest.raises(ConfigurationError, match=r"gate.* through itself") as caught:
            open_ssh(destination)
        assert "ProxyJump none" in caught.value.remedy
        config.write_text("Host *\n  ProxyJump gate\n")
        with pytest.raises(ConfigurationError, match=r"loop via gate|gate.* through itself"):
            open_ssh(destination)

    def test_a_jump_host_of_which_nothing_is_said_has_the_blocks_user(
        self, destination: Destination, home: Path
    ) -> None:
        (home / ".ssh" / "config").write_text("Host far\n  User other\n")
        near = dataclasses.replace(destination, proxy_jump="near:1,far:1,carl@far:1")
        *jumps, _ = route._hops(near)
        assert [hop.user for hop in jumps] == [destination.login.username, "other", "carl"]

    def test_through_a_proxy_command(
        self, destination: Destination, ssh_host: SSHHost, home: Path
    ) -> None:
        relay = (
            "python3 -c 'import socket,sys,os,threading as t;"
            "s=socket.create_connection((sys.argv[1],int(sys.argv[2])));"
            't.Thread(target=lambda:[os.write(1,d) for d in iter(lambda:s.recv(65536),b"")],'
            "daemon=True).start();"
            '[s.sendall(d) for d in iter(lambda:os.read(0,65536),b"")]\' %h %p'
        )
        (home / ".ssh" / "config").write_text(f"Host 127.0.0.1\n  ProxyCommand {relay}\n")
        assert whoami(destination) == ssh_host.username

    def test_a_proxy_command_that_ends_at_once(self, destination: Destination, home: Path) -> None:
        (home / ".ssh" / "config").write_text("Host *\n  ProxyCommand exit 3\n")
        assert "no SSH session comes about" in failure(destination, ConnectionFailed)


class TestUnreachable:
    def test_no_such_host(self, destination: Destination) -> None:
        nowhere = dataclasses.replace(destination, host="no-such-host.invalid")
        assert "There is no host named no-such-host.invalid" in failure(nowhere, ConnectionFailed)

    def test_nothing_listens(self, destination: Destination) -> None:
        message = failure(dataclasses.replace(destination, port=1), ConnectionFailed)
        assert "127.0.0.1 refuses connections on port 1" in message

    def test_nobody_answers(self, destination: Destination) -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen(0)
            port = silent.getsockname()[1]
            # The kernel accepts one connection for a listener that never does, and no more.
            first = socket.create_connection(("127.0.0.1", port))
            second = socket.socket()
            second.setblocking(False)
            second.connect_ex(("127.0.0.1", port))
            way = dataclasses.replace(destination, port=port, timeout=1.0)
            message = failure(way, ConnectionFailed)
            first.close()
            second.close()
        assert f"does not answer on port {port} within 1 s" in message

    def test_something_else_listens(self, destination: Destination) -> None:
        with http_server() as port:
            message = failure(
                dataclasses.replace(destination, port=port, timeout=2.0), ConnectionFailed
            )
        assert "no SSH session comes about" in message

    def test_something_listens_and_says_nothing(self, destination: Destination) -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            way = dataclasses.replace(destination, port=silent.getsockname()[1], timeout=1.0)
            assert "no SSH session comes about" in failure(way, ConnectionFailed)


class agent:
    """ssh-agent with these keys, while in the block."""

    def __init__(self, *keys: Path) -> None:
        self._keys = keys

    def __enter__(self) -> str:
        self._process = subprocess.Popen(["ssh-agent", "-D"], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        path = self._process.stdout.readline().split("=")[1].split(";")[0]
        for key in self._keys:
            subprocess.run(
                ["ssh-add", "-q", key], env={"SSH_AUTH_SOCK": path, "PATH": "/usr/bin"}, check=True
            )
        return path

    def __exit__(self, *exc_info: object) -> None:
        self._process.terminate()
        self._process.wait()


class http_server:
    """Something that speaks another protocol, while in the block."""

    def __enter__(self) -> int:
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()
        return int(self._listener.getsockname()[1])

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    def __exit__(self, *exc_info: object) -> None:
        self._listener.close()
