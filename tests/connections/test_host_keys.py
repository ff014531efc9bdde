"""known_hosts, in all the forms in which OpenSSH writes it."""

from __future__ import annotations

import base64
import os
import pwd
import subprocess
from pathlib import Path

import pytest

from clustrix_prefect.connections.host_keys import HostAddress, KnownHosts, fingerprint
from clustrix_prefect.connections.ssh_config import host_settings
from clustrix_prefect.errors import HostKeyRefused


class Key:
    """A host key made by ssh-keygen."""

    def __init__(self, directory: Path, kind: str = "ed25519") -> None:
        file = directory / f"{kind}-{len(list(directory.iterdir()))}"
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", file], check=True)
        self.file = file.with_suffix(".pub")
        self.type, self.text = self.file.read_text().split()[:2]
        self.blob = base64.b64decode(self.text)
        self.line = f"{self.type} {self.text}"


@pytest.fixture
def key(tmp_path: Path) -> Key:
    (tmp_path / "keys").mkdir()
    return Key(tmp_path / "keys")


@pytest.fixture
def other(key: Key, tmp_path: Path) -> Key:
    return Key(tmp_path / "keys")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "known_hosts"


def verify(file: Path, key: Key, host: str = "ndoli", port: int = 22, **how: str) -> None:
    KnownHosts([file]).verify(HostAddress(host, port, **how), key.type, key.blob)


def refusal(file: Path, key: Key, host: str = "ndoli", port: int = 22, **how: str) -> str:
    with pytest.raises(HostKeyRefused) as caught:
        verify(file, key, host, port, **how)
    return str(caught.value)


def test_fingerprints_are_those_of_ssh_keygen(key: Key) -> None:
    shown = subprocess.run(
        ["ssh-keygen", "-lf", key.file], capture_output=True, text=True, check=True
    ).stdout
    assert fingerprint(key.blob) in shown


class TestAccepted:
    @pytest.mark.parametrize(
        ("names", "host", "port"),
        [
            ("ndoli", "ndoli", 22),
            ("NDOLI", "ndoli", 22),
            ("ndoli", "Ndoli", 22),
            ("gate,ndoli,10.0.0.1", "ndoli", 22),
            ("[ndoli]:2222", "ndoli", 2222),
            ("ndoli", "ndoli", 2222),
            ("*.example.org", "login.example.org", 22),
            ("login?.example.org", "login2.example.org", 22),
            ("[*.example.org]:2222", "login.example.org", 2222),
            ("*.example.org,!bad.example.org", "good.example.org", 22),
        ],
    )
    def test_by_name(self, file: Path, key: Key, names: str, host: str, port: int) -> None:
        file.write_text(f"{names} {key.line} a comment\n")
        verify(file, key, host, port)

    @pytest.mark.parametrize(("name", "port"), [("ndoli", 22), ("[ndoli]:2222", 2222)])
    def test_hashed(self, file: Path, key: Key, other: Key, name: str, port: int) -> None:
        file.write_text(f"elsewhere {other.line}\n{name} {key.line}\n")
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", file], check=True)
        assert "ndoli" not in file.read_text()
        verify(file, key, port=port)
        assert "has changed" in refusal(file, other, port=port)

    def test_among_lines_that_cannot_be_read(self, file: Path, key: Key) -> None:
        file.write_text(
            f"# comment\n\nndoli\nndoli ssh-ed25519 !!!\n|1|x {key.line}\n"
            f"@strange ndoli {key.line}\nndoli {key.line}\n"
        )
        verify(file, key)

    def test_beside_a_certificate_authority(self, file: Path, key: Key, other: Key) -> None:
        file.write_text(f"@cert-authority * {other.line}\nndoli {key.line}\n")
        verify(file, key)

    def test_any_of_several_keys(self, file: Path, key: Key, other: Key) -> None:
        file.write_text(f"ndoli {other.line}\nndoli {key.line}\n")
        verify(file, key)

    def test_in_a_second_file(self, file: Path, key: Key, tmp_path: Path) -> None:
        file.write_text(f"ndoli {key.line}\n")
        hosts = KnownHosts([tmp_path / "missing", file])
        hosts.verify(HostAddress("ndoli"), key.type, key.blob)


class TestRefused:
    def test_an_unknown_host_with_the_commands_that_show_and_add_its_key(
        self, file: Path, key: Key
    ) -> None:
        message = refusal(file, key, port=2222)
        assert "[ndoli]:2222 is not known" in message
        assert fingerprint(key.blob) in message
        assert "`ssh-keyscan -t ed25519 -p 2222 ndoli | ssh-keygen -lf -`" in message
        assert f"`ssh-keyscan -t ed25519 -p 2222 ndoli >> {file}`" in message

    def test_a_host_behind_a_jump_host_with_a_command_that_goes_through_it(
        self, file: Path, key: Key
    ) -> None:
        message = refusal(file, key, via="alice@gate")
        assert "`ssh alice@gate ssh-keyscan -t ed25519 ndoli | ssh-keygen -lf -`" in message

    def test_a_changed_key_with_the_command_that_removes_the_old_one(
        self, file: Path, key: Key, other: Key
    ) -> None:
        file.write_text(f"# first line\n[ndoli]:2222 {other.line}\n")
        message = refusal(file, key, port=2222)
        assert "has changed" in message
        assert f"{file}, line 2" in message
        assert fingerprint(key.blob) in message
        assert fingerprint(other.blob) in message
        assert f"`ssh-keygen -f {file} -R '[ndoli]:2222'`" in message

    def test_the_command_that_removes_the_old_key_works(
        self, file: Path, key: Key, other: Key
    ) -> None:
        file.write_text(f"[ndoli]:2222 {other.line}\n")
        command = refusal(file, key, port=2222).split("old one with `")[1].split("`")[0]
        subprocess.run(command, shell=True, check=True, capture_output=True)
        assert "is not known" in refusal(file, key, port=2222)

    def test_a_key_of_another_type_is_unknown_not_changed(
        self, file: Path, key: Key, tmp_path: Path
    ) -> None:
        file.write_text(f"ndoli {Key(tmp_path / 'keys', 'ecdsa').line}\n")
        assert "no such key" in refusal(file, key)

    def test_a_revoked_key(self, file: Path, key: Key) -> None:
        file.write_text(f"ndoli {key.line}\n@revoked * {key.line}\n")
        assert "marked as revoked" in refusal(file, key)

    def test_a_host_known_only_through_a_certificate_authority_by_name(
        self, file: Path, key: Key, other: Key
    ) -> None:
        file.write_text(f"@cert-authority *.example.org {other.line}\n")
        message = refusal(file, key, host="login.example.org")
        assert f"{file}, line 1 trusts a certificate authority" in message

    def test_a_negated_name(self, file: Path, key: Key) -> None:
        file.write_text(f"*.example.org,!bad.example.org {key.line}\n")
        assert "is not known" in refusal(file, key, host="bad.example.org")

    def test_an_entry_for_another_port(self, file: Path, key: Key) -> None:
        file.write_text(f"[ndoli]:2222 {key.line}\n")
        assert "is not known" in refusal(file, key, port=2223)

    def test_a_file_that_may_not_be_read_is_named(self, tmp_path: Path, key: Key) -> None:
        assert "cannot be read" in refusal(tmp_path, key)  # a directory


def test_an_alias_is_looked_up_but_the_host_is_scanned(file: Path, key: Key) -> None:
    message = refusal(file, key, host="alias", scan_name="10.0.0.7")
    assert "The host key of alias" in message
    assert "ssh-keyscan -t ed25519 10.0.0.7" in message


def test_the_host_is_asked_for_a_key_of_a_known_type(file: Path, key: Key, tmp_path: Path) -> None:
    ecdsa = Key(tmp_path / "keys", "ecdsa")
    file.write_text(f"@revoked ndoli {key.line}\nndoli {ecdsa.line}\n")
    assert KnownHosts([file]).key_types(HostAddress("ndoli")) == [ecdsa.type]


class TestRevokedHostKeys:
    """`RevokedHostKeys` of ssh_config: keys that no host may have."""

    def revoked(self, file: Path, key: Key, listed: Path) -> str:
        with pytest.raises(HostKeyRefused) as caught:
            KnownHosts([file], listed).verify(HostAddress("ndoli"), key.type, key.blob)
        return str(caught.value)

    def test_a_key_in_the_list_is_refused(self, file: Path, key: Key, other: Key) -> None:
        file.write_text(f"ndoli {key.line}\n")
        listed = file.with_name("revoked")
        listed.write_text(f"# compromised\n\n  {other.line} old\n{key.line} ndoli's\n")
        assert "revoked" in self.revoked(file, key, listed)
        listed.write_text(f"{other.line} old\r\n")
        KnownHosts([file], listed).verify(HostAddress("ndoli"), key.type, key.blob)

    def test_a_list_that_cannot_be_read_takes_no_key(self, file: Path, key: Key) -> None:
        file.write_text(f"ndoli {key.line}\n")
        listed = file.with_name("revoked")
        assert "cannot be read" in self.revoked(file, key, listed)
        listed.write_text("what is this\n")
        assert "Line 1" in self.revoked(file, key, listed)

    def test_a_binary_list_is_named(self, file: Path, key: Key) -> None:
        file.write_text(f"ndoli {key.line}\n")
        listed = file.with_name("krl")
        subprocess.run(["ssh-keygen", "-q", "-k", "-f", listed, key.file], check=True)
        assert "binary form" in self.revoked(file, key, listed)

    def test_the_configuration_names_it(self, file: Path) -> None:
        config = file.with_name("config")
        # OpenSSH 10 answers with the account's own home, whatever $HOME is.
        homes = (Path.home(), Path(pwd.getpwuid(os.getuid()).pw_dir))
        for said, paths in (
            ("~/.ssh/revoked.%h", [home / ".ssh" / "revoked.ndoli" for home in homes]),
            ('"/a b/c"', [Path("/a b/c")]),
            ("none", [None]),
        ):
            config.write_text(f"Host *\n  RevokedHostKeys {said}\n")
            assert host_settings("ndoli", files=[config]).revoked_host_keys in paths


@pytest.mark.parametrize("end", ["\x0c", "\u2028", "\x85", "\x1c", "\r", "\x0b"])
def test_what_ends_a_line_for_python_alone_may_stand_in_a_comment(
    file: Path, key: Key, end: str
) -> None:
    file.write_bytes(f"# told by ana{end}ndoli {key.line}\n".encode())
    assert "not known" in refusal(file, key)
    file.write_bytes(f"other {key.line} x{end}ndoli {key.line}\n".encode())
    assert "not known" in refusal(file, key)


def test_lines_that_windows_ended_are_read(file: Path, key: Key) -> None:
    file.write_bytes(f"ndoli {key.line}\r\n".encode())
    verify(file, key)
