"""Logins with passwords, one-time codes and certificates, on an sshd that asks PAM."""

from __future__ import annotations

import dataclasses
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import paramiko
import pytest

from clustrix_prefect import SSHCluster, SSHCredentials
from clustrix_prefect.connections.authentication import Login
from clustrix_prefect.connections.one_time_codes import codes_of_seed
from clustrix_prefect.connections.route import Destination, open_ssh
from clustrix_prefect.errors import AuthenticationFailed, LoginInterrupted
from clustrix_prefect.far_side.wire import protocol
from clustrix_prefect.sessions.opened import opened
from tests.connections.conftest import read_all
from tests.live.pam_host import CODE, KEYBOARD, PASSWORD, PAMHost

SECRET = "correct horse"
KEY_AND_CODE = ("AuthenticationMethods publickey,keyboard-interactive", KEYBOARD)
QUESTIONS = ("AuthenticationMethods keyboard-interactive", KEYBOARD)
# As short as may be: each of the tests that need a second code waits for it.
PERIOD = 3


@pytest.fixture
def way(pam_host: PAMHost) -> Destination:
    """How to log in there, with nothing to log in with yet."""
    return Destination(
        host=pam_host.host,
        port=pam_host.port,
        login=Login(username=pam_host.username),
        known_hosts=pam_host.known_hosts,
    )


def with_login(way: Destination, seed: str | None = None, **login: Any) -> Destination:
    """The same with these; the codes of a login are its own, as those of each connection are."""
    codes = codes_of_seed(seed) if seed else None
    username = way.login.username
    return dataclasses.replace(way, login=Login(username=username, codes=codes, **login))


def logged_in_with(way: Destination) -> str:
    connection = open_ssh(way)
    try:
        assert read_all(connection.start("whoami")).decode().strip() == way.login.username
        return connection.facts.authenticated_with
    finally:
        connection.close()


def failure(way: Destination) -> AuthenticationFailed:
    with pytest.raises(AuthenticationFailed) as caught:
        open_ssh(way)
    assert SECRET not in str(caught.value)
    return caught.value


def codes_used(host: PAMHost) -> int:
    """How many codes PAM has taken, as it notes them."""
    lines = (host.home / ".google_authenticator").read_text().splitlines()
    return len(next(line for line in lines if "DISALLOW_REUSE" in line).split()) - 2


class TestOneTimeCodes:
    def test_after_a_key(self, pam_host: PAMHost, way: Destination) -> None:
        with pam_host.codes(), pam_host.asking(*KEY_AND_CODE, auth=(CODE,)):
            way = with_login(way, pam_host.seed_uri, key_file=pam_host.key_file)
            label = "a one-time code (keyboard-interactive)"
            assert logged_in_with(way) == f"key file {pam_host.key_file}, then {label}"

    def test_after_a_password(self, pam_host: PAMHost, way: Destination) -> None:
        with (
            pam_host.password(SECRET),
            pam_host.codes(),
            pam_host.asking(*QUESTIONS, auth=(PASSWORD, CODE)),
        ):
            way = with_login(way, pam_host.seed, password=SECRET)
            label = "the password and a one-time code (keyboard-interactive)"
            assert logged_in_with(way) == label

    @pytest.mark.parametrize(
        "stack",
        [(PASSWORD, CODE), (f"{CODE} forward_pass", "auth required pam_unix.so use_first_pass")],
        ids=["two questions", "one question"],
    )
    def test_with_a_password_where_either_method_would_do(
        self, pam_host: PAMHost, way: Destination, stack: tuple[str, ...]
    ) -> None:
        with (
            pam_host.password(SECRET),
            pam_host.codes("RATE_LIMIT 1 60"),
            pam_host.asking(KEYBOARD, "PasswordAuthentication yes", "MaxAuthTries 1", auth=stack),
        ):
            # The password alone would have used up the only try.
            way = with_login(way, pam_host.seed_uri, password=SECRET)
            assert "a one-time code" in logged_in_with(way)

    def test_after_the_method_for_passwords(self, pam_host: PAMHost, way: Destination) -> None:
        # PAM is one for both methods: what it asks is what is asked for each.
        chain = "AuthenticationMethods password,keyboard-interactive"
        with (
            pam_host.password(SECRET),
            pam_host.codes(),
            pam_host.asking(chain, KEYBOARD, "PasswordAuthentication yes"),
        ):
            way = with_login(way, pam_host.seed, password=SECRET)
            label = "the password and a one-time code (keyboard-interactive)"
            assert logged_in_with(way) == f"the password, then {label}"

    def test_that_are_wrong(self, pam_host: PAMHost, way: Destination) -> None:
        other = pam_host.seed[::-1]
        with pam_host.codes(period=PERIOD), pam_host.asking(*KEY_AND_CODE, auth=(CODE,)):
            uri = pam_host.seed_uri.replace(pam_host.seed, other)
            error = failure(with_login(way, uri, key_file=pam_host.key_file))
            assert codes_used(pam_host) == 0
        assert "Tried: key file" in error.what
        assert "a one-time code (keyboard-interactive)" in error.what
        assert "`totp`" in error.remedy
        assert "clock" in error.remedy
        assert other not in str(error)

    def test_is_not_given_twice_by_one_connection_after_the_other(
        self, pam_host: PAMHost, way: Destination
    ) -> None:
        with pam_host.codes(period=PERIOD), pam_host.asking(*KEY_AND_CODE, auth=(CODE,)):
            for count in (1, 2, 3):
                codes = codes_of_seed(pam_host.seed_uri)
                login = Login(pam_host.username, key_file=pam_host.key_file, codes=codes)
                logged_in_with(dataclasses.replace(way, login=login))
                # None was refused: it was the next one each time.
                assert (codes.count, codes_used(pam_host)) == (1, count)

    def test_is_not_given_twice_by_two_connections_at_once(
        self, pam_host: PAMHost, way: Destination
    ) -> None:
        done: list[str] = []

        def log_in() -> None:
            done.append(
                logged_in_with(with_login(way, pam_host.seed_uri, key_file=pam_host.key_file))
            )

        with pam_host.codes(period=PERIOD), pam_host.asking(*KEY_AND_CODE, auth=(CODE,)):
            threads = [threading.Thread(target=log_in) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert codes_used(pam_host) == 3
        assert len(done) == 3

    def test_that_somebody_else_used_up_is_followed_by_the_next(
        self, pam_host: PAMHost, way: Destination
    ) -> None:
        with (
            pam_host.codes(period=10),
            pam_host.asking(*KEY_AND_CODE, "MaxAuthTries 1", auth=(CODE,)),
        ):
            login = with_login(way, pam_host.seed_uri, key_file=pam_host.key_file)
            if (rest := 10 - time.time() % 10) < 5:  # both within one period
                time.sleep(rest)
            _use_up(pam_host, pam_host.code())
            logged_in_with(login)
            assert login.login.codes is not None
            assert (login.login.codes.count, codes_used(pam_host)) == (2, 2)

    def test_of_a_host_that_counts_logins(self, pam_host: PAMHost, way: Destination) -> None:
        with (
            pam_host.codes("RATE_LIMIT 1 300", period=PERIOD),
            pam_host.asking(*KEY_AND_CODE, auth=(CODE,)),
        ):
            logged_in_with(with_login(way, pam_host.seed_uri, key_file=pam_host.key_file))
            error = failure(with_login(way, pam_host.seed_uri, key_file=pam_host.key_file))
        assert "it asked no question, as hosts do that count logins" in error.what
        assert "takes none for some minutes" in error.remedy

    def test_that_were_not_given(self, pam_host: PAMHost, way: Destination) -> None:
        with pam_host.codes(), pam_host.asking(*KEY_AND_CODE, auth=(CODE,)):
            error = failure(with_login(way, key_file=pam_host.key_file))
        assert "asks for a one-time code of" in error.what
        assert '("Verification code:")' in error.what
        assert "`totp`" in error.remedy
        assert "clustrix-prefect login" in error.remedy


class TestQuestions:
    def test_that_are_not_understood(self, pam_host: PAMHost, way: Destination) -> None:
        asks = f"{CODE} [authtok_prompt=Favourite colour? ]"
        with pam_host.codes(), pam_host.asking(*KEY_AND_CODE, auth=(asks,)):
            error = failure(with_login(way, pam_host.seed, key_file=pam_host.key_file))
        assert '"Favourite colour?", which cannot be answered from here' in error.what

    def test_and_words_before_them(
        self, pam_host: PAMHost, way: Destination, tmp_path: Path
    ) -> None:
        words = Path("/etc/issue")
        stack = (f"auth optional pam_echo.so file={words}", PASSWORD, CODE)
        pam_host.banner.write_text("Authorised users only.\n" * 3)
        with (
            pam_host.password(SECRET),
            pam_host.codes(),
            pam_host.asking(*QUESTIONS, auth=stack),
        ):
            try:
                way = with_login(way, pam_host.seed_uri, password=SECRET)
                assert "a one-time code" in logged_in_with(way)
            finally:
                pam_host.banner.unlink()

    def test_a_host_that_says_why(self, pam_host: PAMHost, way: Destination) -> None:
        subprocess.run(["chage", "--expiredate", "1", pam_host.username], check=True)
        with pam_host.password(SECRET), pam_host.asking(*QUESTIONS):
            try:
                error = failure(with_login(way, password=SECRET))
            finally:
                subprocess.run(["chage", "--expiredate", "-1", pam_host.username], check=True)
        assert 'it says "Your account has expired' in error.what


class TestExpiredPasswords:
    def test_that_pam_wants_changed(self, pam_host: PAMHost, way: Destination) -> None:
        with pam_host.expired_password(SECRET), pam_host.asking(*QUESTIONS):
            error = failure(with_login(way, password=SECRET))
        assert f"The password of {pam_host.username} has expired" in error.what
        assert "change it" in error.remedy

    def test_that_the_session_wants_changed(self, pam_host: PAMHost, way: Destination) -> None:
        cluster = cluster_at(pam_host, key_file=str(pam_host.key_file))
        with pam_host.expired_password(SECRET), pam_host.asking("AuthenticationMethods publickey"):
            error = interrupted(cluster)
        assert f"The password of {pam_host.username}@127.0.0.1:{pam_host.port} has" in error.what
        assert "change it" in error.remedy


class TestStrictHosts:
    def test_one_session_is_enough(self, pam_host: PAMHost) -> None:
        with pam_host.codes(), pam_host.asking(*KEY_AND_CODE, "MaxSessions 1", auth=(CODE,)):
            cluster = cluster_at(pam_host, key_file=str(pam_host.key_file), totp=pam_host.seed_uri)
            with opened(cluster) as there:
                done = there.agent.request(protocol.command(argv=["whoami"]))
                assert done["stdout"].strip() == pam_host.username

    @pytest.mark.parametrize(
        ("command", "says"),
        [
            ("echo 'Use the portal, not the login nodes.' && exit 3", "Use the portal"),
            ("/usr/sbin/nologin", "This account is currently not available"),
        ],
    )
    def test_a_forced_command_that_refuses_is_quoted(
        self, pam_host: PAMHost, command: str, says: str
    ) -> None:
        cluster = cluster_at(pam_host, key_file=str(pam_host.key_file))
        with pam_host.asking("AuthenticationMethods publickey", f"ForceCommand {command}"):
            error = interrupted(cluster)
        assert says in error.what
        assert "ForceCommand" in error.remedy


def cluster_at(host: PAMHost, **credentials: object) -> SSHCluster:
    return SSHCluster(
        host=host.host,
        port=host.port,
        known_hosts=str(host.known_hosts),
        credentials=SSHCredentials(username=host.username, **credentials),
    )


def interrupted(cluster: SSHCluster) -> LoginInterrupted:
    with pytest.raises(LoginInterrupted) as caught, opened(cluster):
        pass
    return caught.value


def _use_up(host: PAMHost, code: str) -> None:
    """Log in with a code, as somebody else does."""
    transport = paramiko.Transport((host.host, host.port))
    try:
        transport.start_client(timeout=30)
        key = paramiko.Ed25519Key.from_private_key_file(str(host.key_file))
        assert transport.auth_publickey(host.username, key) == ["keyboard-interactive"]
        transport.auth_interactive(host.username, lambda t, i, prompts: [code] * len(prompts))
        assert transport.is_authenticated()
    finally:
        transport.close()
