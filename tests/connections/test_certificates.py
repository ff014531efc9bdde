"""Certificates of users' keys, from `ssh-keygen`, on a real SSH server that trusts them alone."""

from __future__ import annotations

import dataclasses
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from clustrix_prefect.connections.authentication import Login
from clustrix_prefect.connections.certificates import read_certificate
from clustrix_prefect.connections.private_keys import UnusableKey, public_blob
from clustrix_prefect.connections.route import Destination, open_ssh
from clustrix_prefect.errors import AuthenticationFailed
from tests.live.pam_host import PAMHost
from tests.live.ssh_authority import SSHAuthority


@pytest.fixture
def authority(tmp_path: Path) -> SSHAuthority:
    return SSHAuthority(tmp_path / "authority")


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """A key that no host has in its authorized_keys."""
    return make_key(tmp_path / "key")


def make_key(file: Path, kind: str = "ed25519") -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", file], check=True)
    return file


class TestReading:
    @pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
    def test_when_it_holds_and_for_which_key(
        self, authority: SSHAuthority, tmp_path: Path, kind: str
    ) -> None:
        key = make_key(tmp_path / kind, kind)
        found = read_certificate(authority.sign(key, "ana", "20300102030405Z:20310102030405Z"))
        assert found.key == public_blob(key)
        assert found.begins == datetime(2030, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
        assert found.ends == datetime(2031, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
        with pytest.raises(UnusableKey, match="begins to hold at 2030-01-02"):
            found.check()

    def test_one_that_never_ends(self, authority: SSHAuthority, key_file: Path) -> None:
        found = read_certificate(authority.sign(key_file, "ana", "always:forever"))
        assert found.ends is None
        found.check()

    def test_what_is_none(self, authority: SSHAuthority, key_file: Path, tmp_path: Path) -> None:
        with pytest.raises(UnusableKey, match="does not exist"):
            read_certificate(tmp_path / "nothing")
        with pytest.raises(UnusableKey, match="is a public key, and not a certificate"):
            read_certificate(key_file.with_name("key.pub"))
        with pytest.raises(UnusableKey, match="is not a certificate"):
            read_certificate(key_file)
        with pytest.raises(UnusableKey, match="is a host's certificate"):
            read_certificate(authority.sign(key_file, "ndoli", "always:forever", "-h"))


class TestLoggingIn:
    @pytest.fixture
    def way(self, pam_host: PAMHost, key_file: Path) -> Destination:
        return Destination(
            host=pam_host.host,
            port=pam_host.port,
            login=Login(pam_host.username, key_file=key_file),
            known_hosts=pam_host.known_hosts,
        )

    def test_with_the_one_beside_the_key(
        self, pam_host: PAMHost, authority: SSHAuthority, key_file: Path, way: Destination
    ) -> None:
        authority.sign(key_file, pam_host.username, "-1m:+1h")
        with pam_host.asking(*authority.settings):
            assert facts(way) == (f"key file {key_file} with its certificate", 60)

    @pytest.mark.parametrize("of", ["file", "text"])
    def test_with_one_that_is_named(
        self,
        pam_host: PAMHost,
        authority: SSHAuthority,
        key_file: Path,
        tmp_path: Path,
        way: Destination,
        of: str,
    ) -> None:
        other = tmp_path / "elsewhere"
        authority.sign(key_file, pam_host.username, "-1m:+1h").rename(other)
        key = {"key_file": key_file} if of == "file" else {"private_key": key_file.read_text()}
        login = Login(pam_host.username, certificate_file=other, **key)
        with pam_host.asking(*authority.settings):
            label, minutes = facts(dataclasses.replace(way, login=login))
        assert label.endswith(" with its certificate")
        assert minutes == 60

    @pytest.mark.parametrize("holder", ["file", "agent"])
    def test_with_the_one_that_ssh_config_names(
        self,
        pam_host: PAMHost,
        authority: SSHAuthority,
        key_file: Path,
        home: Path,
        way: Destination,
        holder: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        other = home / "cert of site"
        authority.sign(key_file, pam_host.username, "-1m:+1h").rename(other)
        lines = [f'Host *\n  CertificateFile "{other}"']
        if holder == "file":
            lines += [f"  IdentityFile {make_key(home / 'another')}", f"  IdentityFile {key_file}"]
        (home / ".ssh" / "config").write_text("\n".join(lines) + "\n")
        way = dataclasses.replace(way, login=Login(pam_host.username))
        agent = subprocess.Popen(["ssh-agent", "-D"], stdout=subprocess.PIPE, text=True)
        try:
            assert agent.stdout is not None
            path = agent.stdout.readline().split("=")[1].split(";")[0]
            if holder == "agent":
                monkeypatch.setenv("SSH_AUTH_SOCK", path)
                subprocess.run(["ssh-add", "-q", key_file], check=True)
            with pam_host.asking(*authority.settings):
                label, minutes = facts(way)
        finally:
            agent.terminate()
            agent.wait()
        assert label.endswith(" with its certificate")
        assert ("ssh-agent key" in label) is (holder == "agent")
        assert minutes == 60

    def test_with_one_that_has_ended(
        self, pam_host: PAMHost, authority: SSHAuthority, key_file: Path, way: Destination
    ) -> None:
        certificate = authority.sign(key_file, pam_host.username, "-2h:-1h")
        with pam_host.asking(*authority.settings, "MaxAuthTries 1"):
            with pytest.raises(AuthenticationFailed) as caught:
                open_ssh(way)
            ended = datetime.now().astimezone() - timedelta(hours=1)
            assert f"the certificate {certificate} ended at {ended:%Y-%m-%d %H:}" in str(
                caught.value
            )
            assert caught.value.remedy.startswith("Renew the certificate")
            # Renewed on disk: who connects again takes the new one.
            authority.sign(key_file, pam_host.username, "-1m:+1h")
            assert facts(way)[1] == 60

    def test_an_ended_one_uses_up_no_try_where_the_key_will_do(
        self, pam_host: PAMHost, authority: SSHAuthority, way: Destination, tmp_path: Path
    ) -> None:
        key = tmp_path / "known"
        key.write_bytes(pam_host.key_file.read_bytes())
        key.chmod(0o600)
        public = pam_host.key_file.with_suffix(".pub").read_bytes()
        key.with_name("known.pub").write_bytes(public)
        authority.sign(key, pam_host.username, "-2h:-1h")
        way = dataclasses.replace(way, login=Login(pam_host.username, key_file=key))
        with pam_host.asking("MaxAuthTries 1"):
            assert facts(way) == (f"key file {key}", None)

    def test_with_one_of_another_key_or_account(
        self,
        pam_host: PAMHost,
        authority: SSHAuthority,
        key_file: Path,
        tmp_path: Path,
        way: Destination,
    ) -> None:
        other = authority.sign(make_key(tmp_path / "other"), pam_host.username, "-1m:+1h")
        login = Login(pam_host.username, key_file=key_file, certificate_file=other)
        with pam_host.asking(*authority.settings):
            with pytest.raises(AuthenticationFailed, match=f"{other} is for another key"):
                open_ssh(dataclasses.replace(way, login=login))
            authority.sign(key_file, "somebody", "-1m:+1h")
            with pytest.raises(AuthenticationFailed, match="with its certificate, key file"):
                open_ssh(way)


def facts(way: Destination) -> tuple[str, int | None]:
    """What was logged in with, and the minutes that its certificate still holds for."""
    connection = open_ssh(way)
    connection.close()
    ends = connection.facts.certificate_ends
    how = connection.facts.authenticated_with
    if ends is None:
        return how, None
    return how, round((ends - datetime.now(timezone.utc)).total_seconds() / 60)
