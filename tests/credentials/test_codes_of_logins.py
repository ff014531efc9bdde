"""One-time codes that 1Password makes, or holds the seed of, in logins."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clustrix_prefect import SSHCluster, SSHCredentials
from clustrix_prefect.credentials.cache import SecretCache, remembering
from clustrix_prefect.errors import CredentialNotFound
from tests.credentials.conftest import SERVICE_ACCOUNT, TOKEN
from tests.live.onepassword_connect import ConnectServer
from tests.live.op_standin import StandInOp
from tests.live.pam_host import CODE, KEYBOARD, PAMHost

ASKED = "op://Clusters/{}/otp?attribute=otp"  # an item for each test, which would wait for codes


@pytest.fixture
def of_environment(connect_server: ConnectServer, monkeypatch: pytest.MonkeyPatch) -> ConnectServer:
    monkeypatch.setenv("OP_CONNECT_HOST", connect_server.url)
    monkeypatch.setenv("OP_CONNECT_TOKEN", TOKEN)
    return connect_server


def cluster_at(host: PAMHost, totp: str) -> SSHCluster:
    return SSHCluster(
        host=host.host,
        port=host.port,
        known_hosts=str(host.known_hosts),
        credentials=SSHCredentials(username=host.username, key_file=str(host.key_file), totp=totp),
    )


def test_connect_is_asked_when_the_host_asks(
    of_environment: ConnectServer, pam_host: PAMHost
) -> None:
    item = of_environment.vaults[0].add("two steps", {"otp": "SEED"})
    settings = ("AuthenticationMethods publickey,keyboard-interactive", KEYBOARD)
    with pam_host.codes(), pam_host.asking(*settings, auth=(CODE,)), remembering(SecretCache()):
        cluster = cluster_at(pam_host, ASKED.format("two steps"))
        assert cluster.destination.login.codes is not None
        assert of_environment.requests == []
        item["fields"][0]["totp"] = pam_host.code()
        cluster.connect().close()
    assert of_environment.requests != []


def test_the_seed_may_lie_in_connect(of_environment: ConnectServer, pam_host: PAMHost) -> None:
    item = of_environment.vaults[0].add("the seed", {"otp": "SEED"})
    settings = ("AuthenticationMethods publickey,keyboard-interactive", KEYBOARD)
    with pam_host.codes(period=5), pam_host.asking(*settings, auth=(CODE,)):
        item["fields"][0]["value"] = pam_host.seed_uri
        with remembering(SecretCache()):
            cluster_at(pam_host, "op://Clusters/the seed/otp").connect().close()
            asked = len(of_environment.requests)
            # Waits for the next one, and has not to ask for it.
            cluster_at(pam_host, "op://Clusters/the seed/otp").connect().close()
    assert 0 < asked == len(of_environment.requests)


def test_op_is_asked_each_time(standin_op: StandInOp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OP_SERVICE_ACCOUNT_TOKEN", SERVICE_ACCOUNT)
    directory = Path(standin_op.executable).parent
    monkeypatch.setenv("PATH", f"{directory}{os.pathsep}{os.environ['PATH']}")
    standin_op.add("Clusters", "of op", {"otp": "SEED"})
    codes = SSHCredentials(totp=ASKED.format("of op")).login.codes
    assert codes is not None
    assert standin_op.calls == []
    assert codes.next() == "134253"
    assert len(standin_op.calls) == 1


def test_what_cannot_be_asked_ends_the_login(
    of_environment: ConnectServer, pam_host: PAMHost
) -> None:
    settings = ("AuthenticationMethods publickey,keyboard-interactive", KEYBOARD)
    with (
        pam_host.codes(),
        pam_host.asking(*settings, auth=(CODE,)),
        pytest.raises(CredentialNotFound, match="no item 'nowhere'"),
    ):
        cluster_at(pam_host, ASKED.format("nowhere")).connect()
