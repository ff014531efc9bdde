"""Stores of secrets of our own, and an environment that names none."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prefect.blocks.core import Block

from clustrix_prefect import OnePasswordCLI, OnePasswordConnect
from tests.live.onepassword_connect import ConnectServer
from tests.live.op_standin import StandInOp
from tests.live.prefect_server import PrefectServer

TOKEN = "eyJhbGciOiJFUzI1NiJ9.connect-token.of-ours"
SERVICE_ACCOUNT = "ops_eyJzaWduSW5BZGRyZXNzIjoi-service-account"


@pytest.fixture(autouse=True)
def no_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own 1Password is never asked."""
    for name in [name for name in os.environ if name.startswith("OP_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def connect_server() -> Iterator[ConnectServer]:
    """A Connect server with two vaults, one of which the token may not read."""
    server = ConnectServer()
    vault = server.vault("Clusters")
    vault.add(
        "ndoli",
        {"username": "ana", "password": "correct horse", "keys/private key": "KEY", "empty": None},
    )
    server.vault("Closed").add("safe", {"password": "not for you"})
    server.tokens[TOKEN] = {"Clusters"}
    server.start()
    yield server
    server.stop()


@pytest.fixture
def connect(connect_server: ConnectServer) -> OnePasswordConnect:
    """The block for it."""
    return OnePasswordConnect(host=connect_server.url, token=TOKEN, timeout_seconds=5)


@pytest.fixture
def standin_op(tmp_path: Path) -> StandInOp:
    """A stand-in `op` with one item."""
    op = StandInOp(tmp_path / "op-standin")
    op.allow(SERVICE_ACCOUNT, "Clusters")
    op.add(
        "Clusters",
        "ndoli",
        {"username": "ana", "password": "correct horse", "keys/private key": "KEY"},
    )
    return op


@pytest.fixture
def cli(standin_op: StandInOp) -> OnePasswordCLI:
    """The block for it."""
    return OnePasswordCLI(
        service_account_token=SERVICE_ACCOUNT, executable=standin_op.executable, timeout_seconds=5
    )


@pytest.fixture
def saved(prefect_server: PrefectServer) -> Iterator[Callable[[Block, str], str]]:
    """Saves blocks, which are removed again; gives their types and names."""
    made: list[tuple[type[Block], str]] = []

    def save(block: Block, name: str) -> str:
        block.save(name, overwrite=True, _sync=True)  # type: ignore[call-arg]
        made.append((type(block), name))
        return f"{block.get_block_type_slug()}/{name}"

    yield save
    for kind, name in made:
        kind.delete(name, _sync=True)  # type: ignore[call-arg]
