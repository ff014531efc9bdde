"""References in flow runs: each is resolved once, and tasks on clusters see none of it."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import shutil
import subprocess
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task
from prefect.context import FlowRunContext

from clustrix_prefect import (
    ClusterTaskRunner,
    LocalCluster,
    OnePasswordConnect,
    SSHCluster,
    SSHCredentials,
)
from clustrix_prefect.credentials import resolve
from clustrix_prefect.credentials.cache import SecretCache, current_cache
from clustrix_prefect.errors import (
    AuthenticationFailed,
    CredentialForbidden,
    CredentialNotFound,
)
from tests.credentials.conftest import TOKEN
from tests.live import clusters
from tests.live.onepassword_connect import ConnectServer
from tests.live.pythons import FarPythons
from tests.live.ssh_host import SSHHost

pytestmark = pytest.mark.usefixtures("quick_prefect")

PASSWORD = "Hunter2-of-the-account"


@task
def double(x: int) -> int:
    return 2 * x


@task
def variables() -> dict[str, str]:
    return dict(os.environ)


@pytest.fixture
def of_environment(connect_server: ConnectServer, monkeypatch: pytest.MonkeyPatch) -> ConnectServer:
    monkeypatch.setenv("OP_CONNECT_HOST", connect_server.url)
    monkeypatch.setenv("OP_CONNECT_TOKEN", TOKEN)
    return connect_server


class TestOncePerFlowRun:
    def test_in_the_flow_its_tasks_and_threads(self, of_environment: ConnectServer) -> None:
        @task
        def use() -> str | None:
            return resolve("op://Clusters/ndoli/password")

        @flow
        def using() -> list[str | None]:
            futures = [use.submit() for _ in range(5)]
            return [resolve("op://Clusters/ndoli/password"), *(f.result() for f in futures)]

        assert using() == ["correct horse"] * 6
        assert len(of_environment.requests) == 3
        assert using() == ["correct horse"] * 6
        assert len(of_environment.requests) == 6, "each flow run reads anew"

    def test_in_an_async_flow(self, of_environment: ConnectServer) -> None:
        @flow
        async def using() -> list[str | None]:
            return [resolve("op://Clusters/ndoli/password") for _ in range(3)]

        assert asyncio.run(using()) == ["correct horse"] * 3
        assert len(of_environment.requests) == 3

    def test_blocks_are_read_in_an_async_flow_too(
        self, saved: Any, connect: OnePasswordConnect
    ) -> None:
        saved(connect, "async")

        @flow
        async def using() -> list[str | None]:
            return [
                resolve("op://Clusters/ndoli/password", store="onepassword-connect/async"),
                resolve("prefect:onepassword-connect/async"),
            ]

        assert asyncio.run(using()) == ["correct horse", TOKEN]

    def test_fields_of_one_item_outside_of_flow_runs(self, of_environment: ConnectServer) -> None:
        login = SSHCredentials(
            private_key="op://Clusters/ndoli/keys/private key",
            password="op://Clusters/ndoli/password",
        ).login
        assert (login.private_key, login.password) == ("KEY", "correct horse")
        assert len(of_environment.requests) == 3

    def test_who_asks_meanwhile_waits(self, of_environment: ConnectServer) -> None:
        memory = SecretCache()
        asked = []
        together = threading.Barrier(8)

        def ask() -> str:
            together.wait()
            return memory.once("key", lambda: asked.append(1) or "value")

        with ThreadPoolExecutor(8) as pool:
            assert {f.result() for f in [pool.submit(ask) for _ in range(8)]} == {"value"}
        assert asked == [1]

    def test_nothing_is_kept_outside_of_flow_runs(self, of_environment: ConnectServer) -> None:
        resolve("op://Clusters/ndoli/password")
        resolve("op://Clusters/ndoli/password")
        assert len(of_environment.requests) == 6

    def test_a_rotated_secret_is_seen_by_the_next_flow_run(
        self, of_environment: ConnectServer
    ) -> None:
        @flow
        def using() -> str | None:
            return resolve("op://Clusters/ndoli/password")

        assert using() == "correct horse"
        of_environment.vaults[0].items[0]["fields"][1]["value"] = "rotated"
        assert using() == "rotated"

    def test_it_is_forgotten_with_the_flow_run(self, of_environment: ConnectServer) -> None:
        remembered: list[weakref.ref[SecretCache]] = []

        @flow
        def using() -> None:
            resolve("op://Clusters/ndoli/password")
            context = FlowRunContext.get()
            assert context is not None
            remembered.append(weakref.ref(current_cache()))
            assert remembered[0]() is not None

        using()
        gc.collect()
        assert remembered[0]() is None

    def test_it_does_not_travel_or_show_itself(self) -> None:
        memory = SecretCache()
        memory.once("key", lambda: "hunter2")
        assert "hunter2" not in repr(memory)
        with pytest.raises(TypeError, match="do not travel"):
            pickle.dumps(memory)


class TestLoggingIn:
    @pytest.fixture
    def store(
        self, saved: Any, connect: OnePasswordConnect, connect_server: ConnectServer
    ) -> ConnectServer:
        connect_server.vaults[0].add("account", {"password": PASSWORD})
        saved(connect, "login")
        return connect_server

    @pytest.fixture
    def over_ssh(
        self,
        store: ConnectServer,
        ssh_host: SSHHost,
        far_pythons: FarPythons,
        remote_work_dir: Path,
    ) -> SSHCluster:
        """A cluster that is logged in to with a password from 1Password."""
        return clusters.ssh_cluster(
            ssh_host,
            far_pythons,
            remote_work_dir,
            max_parallel_calls=2,
            credentials=SSHCredentials(
                username=ssh_host.username,
                password="op://Clusters/account/password",
                secret_store="onepassword-connect/login",
            ),
        )

    def test_the_runner_and_the_flow_ask_once(
        self, over_ssh: SSHCluster, ssh_host: SSHHost, store: ConnectServer
    ) -> None:
        @flow(task_runner=ClusterTaskRunner(over_ssh))
        def doubling() -> list[int]:
            assert (
                resolve("op://Clusters/account/password", store="onepassword-connect/login")
                == PASSWORD
            )
            ssh_host.drop_connections()  # a new connection logs in with what is known
            with store.failing("500"):
                return [future.result() for future in double.map([1, 2, 3])]

        with ssh_host.password(PASSWORD):
            assert doubling() == [2, 4, 6]
        assert len(store.requests) == 3

    def test_a_store_that_refuses_fails_the_flow_with_the_reason(
        self, over_ssh: SSHCluster, store: ConnectServer
    ) -> None:
        @flow(task_runner=ClusterTaskRunner(over_ssh))
        def doubling() -> int:
            return double.submit(1).result()

        store.tokens.clear()
        with pytest.raises(CredentialForbidden) as caught:
            doubling()
        assert "op://Clusters/account/password" in str(caught.value)
        assert "status 401" in str(caught.value)

    def test_a_password_that_the_host_refuses(
        self, over_ssh: SSHCluster, store: ConnectServer, ssh_host: SSHHost
    ) -> None:
        with (
            ssh_host.password("another-Password1"),
            pytest.raises(AuthenticationFailed) as caught,
        ):
            over_ssh.connect()
        assert PASSWORD not in str(caught.value)

    def test_a_private_key_and_its_passphrase(
        self,
        connect_server: ConnectServer,
        of_environment: ConnectServer,
        ssh_host: SSHHost,
        far_pythons: FarPythons,
        remote_work_dir: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        key = tmp_path / "key"
        shutil.copy(ssh_host.key_file, key)
        key.chmod(0o600)
        subprocess.run(["ssh-keygen", "-q", "-p", "-N", "pass phrase", "-f", key], check=True)
        connect_server.vaults[0].add("key", {"private key": key.read_text()}, category="SSH_KEY")
        monkeypatch.setenv("PASSPHRASE_OF_OURS", "pass phrase")
        cluster = clusters.ssh_cluster(
            ssh_host,
            far_pythons,
            remote_work_dir,
            credentials=SSHCredentials(
                username=ssh_host.username,
                private_key="op://Clusters/key/private key",
                passphrase="env:PASSPHRASE_OF_OURS",
            ),
        )
        cluster.connect().close()

    def test_a_variable_that_is_not_set(self) -> None:
        with pytest.raises(CredentialNotFound, match="NEVER_SET_HERE is not set"):
            SSHCluster(
                host="n", credentials=SSHCredentials(password="env:NEVER_SET_HERE")
            ).connect()


def test_tasks_on_this_machine_do_not_inherit_what_references_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_OURS", "hunter2")
    monkeypatch.setenv("OP_CONNECT_TOKEN", "hunter3")
    monkeypatch.setenv("OP_SERVICE_ACCOUNT_TOKEN", "hunter4")
    monkeypatch.setenv("OP_SESSION_abcdef", "hunter5")
    monkeypatch.setenv("NOT_A_SECRET", "seen")
    SSHCredentials(password="env:SECRET_OF_OURS")
    cluster: LocalCluster = clusters.local_cluster(tmp_path / "work", max_parallel_calls=1)

    @flow(task_runner=ClusterTaskRunner(cluster))
    def looking() -> dict[str, str]:
        return variables.submit().result()

    seen = looking()
    assert seen["NOT_A_SECRET"] == "seen"
    assert not [name for name, value in seen.items() if "hunter" in value]
    assert os.environ["SECRET_OF_OURS"] == "hunter2", "the flow itself has them"


def test_a_variable_that_is_named_too_late_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NAMED_TOO_LATE", "hunter2")

    @flow(task_runner=ClusterTaskRunner(clusters.local_cluster(tmp_path, max_parallel_calls=1)))
    def naming() -> str | None:
        return resolve("env:NAMED_TOO_LATE")

    assert naming() == "hunter2"
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert any("env:NAMED_TOO_LATE was named after workers" in text for text in warnings)
    assert "hunter2" not in caplog.text
