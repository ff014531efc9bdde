"""`~/.ssh/config`, as the machine's `ssh` reads it, and as paramiko does where there is none."""

from __future__ import annotations

import getpass
import time
from pathlib import Path

import pytest

from clustrix_prefect.connections import ssh_config
from clustrix_prefect.connections.ssh_config import HostSettings, host_settings
from clustrix_prefect.errors import ConfigurationError


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config"


@pytest.fixture
def no_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PATH on which there is no `ssh`."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


@pytest.fixture(params=["ssh", "no ssh"])
def reader(request: pytest.FixtureRequest) -> None:
    """Either reader."""
    if request.param == "no ssh":
        request.getfixturevalue("no_ssh")


either = pytest.mark.usefixtures("reader")


def look_up(config: Path, host: str, text: str) -> HostSettings:
    config.write_text(text)
    return host_settings(host, files=[config])


@either
def test_no_file_says_nothing(config: Path, home: Path) -> None:
    known_hosts = (home / ".ssh" / "known_hosts",)
    found = host_settings("ndoli", files=[config])
    assert found == HostSettings("ndoli", 22, getpass.getuser(), known_hosts)


@either
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
          PreferredAuthentications publickey,password
          IdentitiesOnly yes
          IdentityAgent /run/agent
          UserKnownHostsFile /a/known_hosts "/b c/known_hosts"
          HostKeyAlias ndoli-alias
          ProxyCommand nc %h %p 100%%
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
        proxy_command="nc login.example.org 2222 100%",
        connect_timeout=7.0,
    )


@either
@pytest.mark.parametrize(
    ("said", "files"),
    [
        ("/a/known_hosts", ["/a/known_hosts"]),
        ('"/b c/known_hosts"', ["/b c/known_hosts"]),
        ('"/b c/known_hosts" "/a/known_hosts"', ["/b c/known_hosts", "/a/known_hosts"]),
        ('/a/known_hosts "/b c/%h"  /d', ["/a/known_hosts", "/b c/ndoli", "/d"]),
        ("none", []),
    ],
)
def test_files_of_known_hosts(config: Path, said: str, files: list[str]) -> None:
    found = look_up(config, "ndoli", f"UserKnownHostsFile {said}\n")
    assert found.known_hosts == tuple(map(Path, files))


@either
@pytest.mark.parametrize(
    ("text", "files"), [("", None), ("IdentityFile none\n", ()), ("IdentityFile /k\n", ("/k",))]
)
def test_key_files_are_those_that_somebody_named(
    config: Path, text: str, files: tuple[str, ...] | None
) -> None:
    found = look_up(config, "ndoli", text).identity_files
    assert found == (None if files is None else tuple(map(Path, files)))


@either
def test_jump_hosts(config: Path) -> None:
    assert look_up(config, "ndoli", "ProxyJump bob@gate:22,%h-2\n").proxy_jump == (
        "bob@gate:22,ndoli-2"
    )
    assert look_up(config, "ndoli", "ProxyJump none\n").proxy_jump is None


def test_a_proxy_command_that_comes_first_counts_instead_of_a_jump_as_in_ssh(config: Path) -> None:
    found = look_up(config, "ndoli", "ProxyCommand nc %h %p\nProxyJump gate\n")
    assert (found.proxy_jump, found.proxy_command) == (None, "nc ndoli 22")


@either
def test_a_default_user_is_the_last_that_counts(config: Path) -> None:
    config.write_text("Host other\n  User ana\n")
    assert host_settings("ndoli", default_user="bob", files=[config]).user == "bob"
    assert host_settings("other", default_user="bob", files=[config]).user == "ana"
    assert host_settings("other", user="carl", default_user="bob", files=[config]).user == "carl"


@either
def test_the_first_value_wins_also_across_files(config: Path, tmp_path: Path) -> None:
    system = tmp_path / "system"
    system.write_text("User site\nPort 7\n")
    config.write_text("Host n*\n  User first\nHost *\n  User second\n")
    found = host_settings("ndoli", files=[config, system])
    assert (found.user, found.port) == ("first", 7)


@either
def test_what_the_user_says_otherwise_wins_and_is_filled_in(config: Path) -> None:
    config.write_text("Host *\n  Port 7\n  User bob\n  ProxyCommand nc %h %p %r\n")
    found = host_settings("ndoli", port=2222, user="alice", files=[config])
    assert (found.port, found.user) == (2222, "alice")
    assert found.proxy_command == "nc ndoli 2222 alice"


class TestInclude:
    def test_with_wildcards_in_order(self, config: Path, tmp_path: Path) -> None:
        (tmp_path / "conf.d").mkdir()
        (tmp_path / "conf.d" / "2").write_text("Host *\n  User second\n  Port 2\n")
        (tmp_path / "conf.d" / "1").write_text("Host ndoli\n  User first\n")
        found = look_up(config, "ndoli", f"Include {tmp_path}/conf.d/*\nHost *\n  Port 3\n")
        assert (found.user, found.port) == ("first", 2)

    def test_what_follows_belongs_to_the_block_before(self, config: Path, tmp_path: Path) -> None:
        (tmp_path / "more").write_text("Host other\n  User nobody\n")
        text = f"Host ndoli\n  Include {tmp_path}/more\n  Port 5\nHost *\n  User alice\n"
        assert look_up(config, "ndoli", text).port == 5
        assert look_up(config, "other", text).port == 22

    def test_inside_a_block_for_another_host_it_counts_for_nothing(
        self, config: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "more").write_text("Host *\n  User nobody\n")
        text = f"Host other\n  Include {tmp_path}/more\n"
        assert look_up(config, "ndoli", text).user == getpass.getuser()

    def test_nested_and_missing_files(self, config: Path, tmp_path: Path) -> None:
        (tmp_path / "a").write_text(f"Include {tmp_path}/b missing\n")
        (tmp_path / "b").write_text("User deep\n")
        assert look_up(config, "ndoli", f"Include {tmp_path}/a\n").user == "deep"

    def test_of_itself_is_refused(self, config: Path) -> None:
        with pytest.raises(ConfigurationError, match=r"(?i)include"):
            look_up(config, "ndoli", f"Include {config}\n")


@either
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

    def test_what_is_looked_at_when_all_else_is_known(self, config: Path) -> None:
        text = (
            "Match final host login.example.org\n  Port 9\nHost *\n  HostName login.example.org\n"
        )
        assert look_up(config, "ndoli", text).port == 9

    def test_a_command_that_does_not_end_is_ended(
        self, config: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ssh_config, "_ANSWER_SECONDS", 0.5)
        begun = time.monotonic()
        with pytest.raises(ConfigurationError, match=r"did not answer.*Match exec"):
            look_up(config, "ndoli", 'Match exec "sleep 600; true"\n  Port 9\n')
        assert time.monotonic() - begun < 60

    def test_what_a_command_leaves_running_is_not_waited_for(
        self, config: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ssh_config, "_ANSWER_SECONDS", 60.0)
        begun = time.monotonic()
        found = look_up(config, "ndoli", 'Match exec "sleep 100 & true"\n  Port 9\n')
        assert found.port == 9
        assert time.monotonic() - begun < 60


@pytest.mark.usefixtures("no_ssh")
@pytest.mark.parametrize(
    "line", ["Include more", "  include=more", 'Match host ndoli exec "true"', "Match tagged far"]
)
def test_without_ssh_what_paramiko_would_pass_over_is_refused(config: Path, line: str) -> None:
    with pytest.raises(ConfigurationError, match=r"only OpenSSH understands.*Install"):
        look_up(config, "ndoli", f"Host ndoli\n  Port 9\n{line}\n  User ana\n")


@either
@pytest.mark.parametrize("host", ["-v", "-oProxyCommand=touch x", "ana@ndoli", "", "ssh://ndoli"])
def test_no_host_is_taken_for_an_option(config: Path, host: str) -> None:
    with pytest.raises(ConfigurationError, match="not the name or address of a host"):
        host_settings(host, files=[config])
