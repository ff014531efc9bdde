"""The way to a host: its settings, the jump hosts before it, its key, and logging in."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import paramiko

from clustrix_prefect.connections.authentication import Login, authenticate
from clustrix_prefect.connections.connection import HostFacts
from clustrix_prefect.connections.host_keys import (
    SYSTEM_FILE,
    HostAddress,
    KnownHosts,
    fingerprint,
)
from clustrix_prefect.connections.names import jump_host
from clustrix_prefect.connections.proxy_command import start_proxy
from clustrix_prefect.connections.ssh import SSHConnection
from clustrix_prefect.connections.ssh_config import HostSettings, host_settings
from clustrix_prefect.errors import AuthenticationFailed, ConfigurationError, ConnectionFailed

_LOG = "clustrix_prefect.paramiko"
# Whatever paramiko logs as an error reaches us as an exception, too.
logging.getLogger(_LOG).setLevel(logging.CRITICAL)

_KEEPALIVE = 15
_LOGIN_TIMEOUT = 60.0  # PAM and LDAP can be slow


@dataclass(frozen=True)
class Destination:
    """Where to go, as the user says it; `~/.ssh/config` fills in what is left out.

    Attributes:
        host: Name, address or `Host` alias of `~/.ssh/config`.
        port: Port, or None for what the configuration says.
        login: What to log in with.
        known_hosts: The known_hosts file, or None for what the configuration says.
        proxy_jump: Jump hosts, "user@host:port" separated by commas; "none" for no jump
            whatever the configuration says.
        timeout: Seconds to wait for each host to answer.
    """

    host: str
    port: int | None = None
    login: Login = field(default_factory=Login)
    known_hosts: Path | None = None
    proxy_jump: str | None = None
    timeout: float = 20.0


@dataclass(frozen=True)
class _Hop:
    """One host on the way, settings and all."""

    user: str
    port: int
    settings: HostSettings
    known_hosts: KnownHosts
    login: Login
    timeout: float

    def __str__(self) -> str:
        return f"{self.user}@{self.settings.hostname}:{self.port}"


def open_ssh(destination: Destination) -> SSHConnection:
    """Connect and log in.

    Raises:
        ConfigurationError: The SSH configuration cannot be understood.
        ConnectionFailed: A host on the way cannot be reached.
        HostKeyRefused: A host on the way is not the one we know, or not known.
        AuthenticationFailed: A host on the way does not let us in.
        CredentialError: A one-time code cannot be asked for.
    """
    codes = destination.login.codes
    if codes is None:
        return _open(destination)
    with codes.turn():
        try:
            return _open(destination)
        except AuthenticationFailed:
            if codes.count != 1:
                raise
            # Another process may have used up that code: hosts do not say so. The next is ours.
            codes.await_next()
            return _open(destination)


def _open(destination: Destination) -> SSHConnection:
    *jumps, target = _hops(destination)
    ends: list[datetime] = []
    with contextlib.ExitStack() as on_failure:
        transports: list[paramiko.Transport] = []
        previous: _Hop | None = None
        for hop in (*jumps, target):
            stream = _through(transports[-1], hop) if transports else _direct(hop)
            on_failure.callback(stream.close)
            transport = _transport(stream, hop)
            on_failure.callback(transport.close)
            transports.append(transport)
            host_key = _verified_key(transport, hop, previous)
            done = authenticate(transport, hop.user, hop.login, hop.settings, str(hop))
            ends += [done.certificate_ends] if done.certificate_ends is not None else []
            transport.set_keepalive(_KEEPALIVE)
            previous = hop
        on_failure.pop_all()
    facts = HostFacts(host_key, done.how, tuple(map(str, jumps)), min(ends, default=None))
    return SSHConnection(transports, str(target), facts)


# --- which hosts --------------------------------------------------------------------------


def _hops(destination: Destination) -> list[_Hop]:
    login = destination.login
    settings = host_settings(destination.host, port=destination.port, user=login.username)
    jumps = _jumps(destination.proxy_jump or settings.proxy_jump, destination)
    return [*jumps, _hop(destination, settings, login)]


def _jumps(named: str | None, destination: Destination, behind: tuple[str, ...] = ()) -> list[_Hop]:
    """The jump hosts of a `ProxyJump`; as with `ssh`, the first is reached in its own way."""
    if named is None or named.lower() == "none":
        return []
    hops = [_jump(text, destination) for text in named.split(",")]
    first = str(hops[0])
    if first in behind:
        raise ConfigurationError(
            f"The jump host {first} is to be reached through itself.",
            "Write `ProxyJump none` for it in ~/.ssh/config, above what sets another.",
        )
    return [*_jumps(hops[0].settings.proxy_jump, destination, (*behind, first)), *hops]


def _jump(text: str, destination: Destination) -> _Hop:
    named = jump_host(text)
    login = destination.login.for_jump()
    settings = host_settings(
        named.host, port=named.port, user=named.user, default_user=login.username
    )
    return _hop(destination, settings, login)


def _hop(destination: Destination, settings: HostSettings, login: Login) -> _Hop:
    if destination.known_hosts is not None:
        files: Sequence[Path] = [destination.known_hosts.expanduser()]
    else:
        files = settings.known_hosts
    return _Hop(
        user=settings.user,
        port=settings.port,
        settings=settings,
        known_hosts=KnownHosts([*files, SYSTEM_FILE], settings.revoked_host_keys),
        login=login,
        timeout=settings.connect_timeout or destination.timeout,
    )


# --- reaching one -------------------------------------------------------------------------


def _direct(hop: _Hop) -> socket.socket:
    if hop.settings.proxy_command:
        return start_proxy(hop.settings.proxy_command)
    name, port = hop.settings.hostname, hop.port
    try:
        stream = socket.create_connection((name, port), timeout=hop.timeout)
    except socket.gaierror as error:
        raise ConnectionFailed(
            f"There is no host named {name} ({error.strerror}).",
            "Check the name, and whether it is known only inside a network or VPN.",
        ) from error
    except ConnectionRefusedError as error:
        raise ConnectionFailed(
            f"{name} refuses connections on port {port}.", "Check the port; is sshd running there?"
        ) from error
    except TimeoutError as error:
        raise ConnectionFailed(
            f"{name} does not answer on port {port} within {hop.timeout:g} s.",
            "Check whether a VPN, a firewall or a jump host (proxy_jump) is in the way.",
        ) from error
    except OSError as error:
        raise ConnectionFailed(
            f"{name} cannot be reached on port {port}: {error.strerror or error}.",
            "Check this machine's network and the host's name.",
        ) from error
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return stream


def _through(jump: paramiko.Transport, hop: _Hop) -> paramiko.Channel:
    address = (hop.settings.hostname, hop.port)
    try:
        return jump.open_channel("direct-tcpip", address, ("127.0.0.1", 0), timeout=hop.timeout)
    except (paramiko.SSHException, EOFError, OSError) as error:
        peer = jump.getpeername()[0]
        raise ConnectionFailed(
            f"The jump host {peer} cannot reach {address[0]} on port {address[1]}: {error}.",
            "Check the name as the jump host knows it, and whether it allows forwarding "
            "(AllowTcpForwarding of its sshd).",
        ) from error


def _transport(stream: socket.socket | paramiko.Channel, hop: _Hop) -> paramiko.Transport:
    """Return an SSH transport over the stream, before any check of who is there."""
    transport = paramiko.Transport(stream)
    transport.set_log_channel(_LOG)
    transport.banner_timeout = hop.timeout
    codes = hop.login.codes
    transport.auth_timeout = _LOGIN_TIMEOUT + (codes.period if codes else 0)  # for the next one
    options = transport.get_security_options()
    # The quickest cipher that both sides have; paramiko would take it last.
    options.ciphers = sorted(options.ciphers, key=lambda name: "gcm" not in name)
    known = _algorithms(hop.known_hosts.key_types(_address(hop)))
    options.key_types = sorted(options.key_types, key=lambda name: name not in known)
    try:
        transport.start_client(timeout=2 * hop.timeout)
        transport.get_remote_server_key()  # raises if the time ran out, which the above does not
    except (paramiko.SSHException, EOFError, OSError) as error:
        transport.close()
        raise ConnectionFailed(
            f"{hop} answers, but no SSH session comes about: {error}.",
            "Check that the port is sshd's, and that it does not reject this machine "
            "(too many connections, a blocked address).",
        ) from error
    return transport


def _algorithms(key_types: list[str]) -> set[str]:
    """Return the signature algorithms that prove possession of keys of these types."""
    rsa = {"rsa-sha2-512", "rsa-sha2-256"} if "ssh-rsa" in key_types else set()
    return {*key_types, *rsa}


def _address(hop: _Hop, via: str | None = None) -> HostAddress:
    alias = hop.settings.host_key_alias
    if alias:
        return HostAddress(alias, via=via, scan_name=hop.settings.hostname)
    return HostAddress(hop.settings.hostname, hop.port, via)


def _verified_key(transport: paramiko.Transport, hop: _Hop, via: _Hop | None) -> str:
    key = transport.get_remote_server_key()
    jump = f"{via.user}@{via.settings.hostname}" if via else None
    hop.known_hosts.verify(_address(hop, jump), key.get_name(), key.asbytes())
    return f"{key.get_name()} {fingerprint(key.asbytes())}"
