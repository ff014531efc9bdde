"""`~/.ssh/config`, with what paramiko's reader leaves out."""

from __future__ import annotations

from pathlib import Path

import pytest

from clustrix_prefect.connections.ssh_config import HostSettings, host_settings
from clustrix_prefect.errors import ConfigurationError


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config"


def look_up(config: Path, host: str, text: str) -> HostSettings:
    config.write_text(text)
    return host_settings(host, files=[config])


def test_no_file_says_nothing(config: Path) -> None:
    assert host_settings("ndoli", files=[config]) == HostSettings("ndoli")


def test_everything_we_act_on(config: Path) -> None:
    found = look_up(
        config,
        "ndoli",
        """
        Host other
          Port 1
        Host ndoli
          HostName login.example.org
          Port 2222
          User alice
          IdentityFile /keys/%r
          IdentityFile /keys/second
          CertificateFile "/keys/%h cert.pub"
          PreferredAuthentications publickey, password
          IdentitiesOnly yes
          IdentityAgent /run/agent
          UserKnownHostsFile /a/known_hosts "/b c/known_hosts"
          HostKeyAlias ndoli-alias
          ProxyJump bob@gate:22
          ProxyCommand nc %h %p
          ConnectTimeout 7
        """,
    )
    assert found == HostSettings(
        hostname="login.example.org",
        port=2222,
        user="alice",
        identity_files=(Path("/keys/alice"), Path("/keys/second")),
        certificate_file=Path("/keys/login.example.org cert.pub"),
        preferred_authentications=("publickey", "password"),
        identities_only=True,
        identity_agent="/run/agent",
        known_hosts=(Path("/a/known_hosts"), Path("/b c/known_hosts")),
        host_key_alias="ndoli-alias",
        proxy_jump="bob@gate:22",
        proxy_command="nc login.example.org 2222",
        connect_timeout=7.0,
    )


def test_the_first_value_wins_also_across_files(config: Path, tmp_path: Path) -> None:
    system = tmp_path / "system"
    system.write_text("User site\nPort 7\n")
    config.write_text("Host n*\n  User first\nHost *\n  User second\n")
    found = host_settings("ndoli", files=[config, system])
    assert (found.user, found.port) == ("first", 7)


def test_what_the_user_says_otherwise_wins_and_is_filled_in(config: Path) -> None:
    config.write_text("Host *\n  Port 7\n  User bob\n  ProxyCommand nc %h %p %r\n")
    found = host_settings("ndoli", port=2222, user="alice", files=[config])
    assert (found.port, found.user) == (2222, "alice")
    assert found.proxy_command == "nc ndoli 2222 alice"


class TestInclude:
    def test_relative_to_the_file_with_wildcards_in_order(
        self, config: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "conf.d").mkdir()
        (tmp_path / "conf.d" / "2").write_text("Host *\n  User second\n  Port 2\n")
        (tmp_path / "conf.d" / "1").write_text("Host ndoli\n  User first\n")
        found = look_up(config, "ndoli", "Include conf.d/*\nHost *\n  Port 3\n")
        assert (found.user, found.port) == ("first", 2)

    def test_what_follows_belongs_to_the_block_before(self, config: Path, tmp_path: Path) -> None:
        (tmp_path / "more").write_text("Host other\n  User nobody\n")
        text = "Host ndoli\n  Include more\n  Port 5\nHost *\n  User alice\n"
        assert look_up(config, "ndoli", text).port == 5
        assert look_up(config, "other", text).port is None

    def test_inside_a_block_for_another_host_it_counts_for_nothing(
        self, config: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "more").write_text("Host *\n  User nobody\n")
        assert look_up(config, "ndoli", "Host other\n  Include more\n").user is None

    def test_nested_and_missing_files(self, config: Path, tmp_path: Path) -> None:
        (tmp_path / "a").write_text(f"Include {tmp_path}/b missing\n")
        (tmp_path / "b").write_text("User deep\n")
        assert look_up(config, "ndoli", "Include a\n").user == "deep"

    def test_of_itself_is_refused(self, config: Path) -> None:
        with pytest.raises(ConfigurationError, match="too deeply"):
            look_up(config, "ndoli", "Include config\n")


@pytest.mark.parametrize("text", ["Port many\n", "nonsense\n", 'Host "open\n'])
def test_what_cannot_be_understood_is_named(config: Path, text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        look_up(config, "ndoli", text)
    assert str(config) in str(caught.value)


class TestMatch:
    @pytest.mark.parametrize(
        ("criteria", "matches"),
        [
            ("host ndoli", True),
            ("host other", False),
            ('host ndoli exec "true"', True),
            ('host ndoli exec "false"', False),
            ('exec "true"', True),
            ('!exec "true"', False),
            ('!exec "false"', True),
            ('exec "test %h.%n.%p.%r = ndoli.ndoli.2222.bob"', True),
        ],
    )
    def test_blocks(self, config: Path, criteria: str, matches: bool) -> None:
        text = f"Host ndoli\n  Port 2222\n  User bob\nMatch {criteria}\n  HostKeyAlias matched\n"
        found = look_up(config, "ndoli", text)
        assert found.host_key_alias == ("matched" if matches else None)

    def test_no_command_is_run_for_a_block_that_does_not_match(
        self, config: Path, tmp_path: Path
    ) -> None:
        ran = tmp_path / "ran"
        look_up(config, "ndoli", f'Match host other exec "touch {ran}"\n  Port 9\n')
        assert not ran.exists()
