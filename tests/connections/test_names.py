"""No shell of this machine sees anything but a name, whoever wrote it."""

from __future__ import annotations

from pathlib import Path

import pytest

from clustrix_prefect.connections.authentication import Login
from clustrix_prefect.connections.names import checked_host, checked_user
from clustrix_prefect.connections.route import Destination, open_ssh
from clustrix_prefect.connections.ssh_config import host_settings
from clustrix_prefect.errors import ConfigurationError

HOSTS = ["ndoli", "login-1.example.org", "node_7", "10.0.0.1", "::1", "fe80::1%eth0", "bücher.de"]
USERS = ["ana", "a.b-c_d", "ana@example.org", "DOMAIN\\ana", "machine$", "José", "_svc", "007"]
PROXY = """
Host *
  ProxyCommand echo %h %n %r %p >> {seen}; exit 1
"""
CONFIG = (
    PROXY
    + """
Match exec "echo %h %n %r >> {seen}; true"
  Port 2222
"""
)


@pytest.fixture
def seen(home: Path) -> Path:
    """What a shell was given is appended to this file, or to one beside it."""
    (home / ".ssh" / "config").write_text(CONFIG.format(seen=home / "seen"))
    return home / "seen"


def _attacks(file: Path) -> list[str]:
    touch = f"touch${{IFS}}{file.with_name('was-here')}"
    return [
        f"$({touch})",
        f"`{touch}`",
        f"x;{touch}",
        f"x|{touch}",
        f"x&{touch}",
        f"x\n{touch}",
        f"x>{file.with_name('was-here')}",
        "x y",
        "x'",
        'x"',
        "-oProxyCommand=x",
        "*",
        "~root",
        "x{a,b}",
        "x#",
        "x\\",
        "",
        "x\n",
        "x\u2028y",
    ]


@pytest.mark.parametrize("number", range(19))
@pytest.mark.parametrize("where", ["host", "user", "jump host", "jump user", "HostName", "User"])
def test_what_is_no_name_is_refused_before_any_shell_sees_it(
    where: str, number: int, seen: Path
) -> None:
    text = _attacks(seen)[number]
    if where == "jump user":
        text = text or ";"  # nobody's name there is the usual one's
    config = seen.parent / ".ssh" / "config"
    host, user, jump = "ndoli", "ana", None
    if where == "host":
        host = text
    elif where == "user":
        user = text
    elif where.startswith("jump"):
        jump = f"ana@{text}:22" if where == "jump host" else f"{text}@gate"
    elif text.strip() != text or "\n" in text or not text or where == "User":
        user = f"{text};x"  # a configuration file cannot say it
    else:
        # To its own `Match exec` a file can say anything, as with `ssh` itself.
        config.write_text(f"Host ndoli\n  HostName {text}\n{PROXY.format(seen=seen)}")
    with pytest.raises(ConfigurationError):
        open_ssh(Destination(host, 22, Login(username=user), proxy_jump=jump, timeout=1.0))
    assert not seen.with_name("was-here").exists()
    assert not seen.exists() or text.strip() not in seen.read_text() or not text.strip()


def test_a_user_from_the_configuration_is_looked_at_too(seen: Path) -> None:
    config = seen.parent / ".ssh" / "config"
    config.write_text(f"Host ndoli\n  User $(id)\n{PROXY.format(seen=seen)}")
    with pytest.raises(ConfigurationError, match="not the name of a user"):
        open_ssh(Destination("ndoli", timeout=1.0))
    assert not seen.exists()


def test_names_as_people_have_them_are_taken() -> None:
    assert [checked_host(name) for name in HOSTS] == HOSTS
    assert [checked_user(name) for name in USERS] == USERS


@pytest.mark.parametrize("host", HOSTS)
def test_hosts_as_people_have_them_are_looked_up(home: Path, host: str) -> None:
    assert host_settings(host).hostname == host


@pytest.mark.parametrize("user", USERS)
def test_users_as_people_have_them_are_looked_up(home: Path, user: str) -> None:
    assert host_settings("ndoli", user=user).user == user
    assert host_settings("ndoli", default_user=user).user == user
    (home / ".ssh" / "config").write_text(f"Host *\n  User {user}\n")
    assert host_settings("ndoli").user == user


def test_a_command_of_the_configuration_still_gets_names(seen: Path) -> None:
    found = host_settings("ndoli", user="ana")
    assert found.port == 2222
    assert seen.read_text().split() == ["ndoli", "ndoli", "ana"]


def test_only_line_feeds_end_a_line_of_the_configuration(home: Path) -> None:
    text = "Host *\n# a comment\u2028ProxyCommand x\x0cProxyCommand x\rPort 7\x85Port 8\n  Port 9\n"
    (home / ".ssh" / "config").write_bytes(text.encode())
    found = host_settings("ndoli")
    assert (found.port, found.proxy_command) == (9, None)


def test_lines_that_windows_ended_are_read(home: Path) -> None:
    (home / ".ssh" / "config").write_bytes(b"Host *\r\n  Port 9\r\n  User ana\r\n")
    found = host_settings("ndoli")
    assert (found.port, found.user) == (9, "ana")
