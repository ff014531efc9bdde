"""The flow that checks saved credentials, as users run it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.blocks.system import Secret
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import Artifact

from clustrix_prefect import OnePasswordCLI, OnePasswordConnect, SlurmCluster, SSHCredentials
from flows.validate_credentials import validate_credentials
from tests.contract.api import eventually
from tests.live.onepassword_connect import ConnectServer
from tests.live.op_standin import StandInOp
from tests.live.prefect_server import PrefectServer
from tests.validation.pages import rows_of

pytestmark = pytest.mark.usefixtures("quick_prefect")


@pytest.fixture
def team(saved: Any, connect: OnePasswordConnect, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Blocks with references of every kind, all of which resolve."""
    monkeypatch.setenv("PASSPHRASE_OF_OURS", "hunter2")
    saved(Secret(value="hunter3"), "ndoli-password")
    credentials = SSHCredentials(
        private_key="op://Clusters/ndoli/keys/private key",
        passphrase="env:PASSPHRASE_OF_OURS",
        password="prefect:ndoli-password",
        secret_store="onepassword-connect/team",
    )
    return [
        saved(connect, "team"),
        saved(credentials, "ndoli"),
        saved(SlurmCluster(host="ndoli", credentials=SSHCredentials.load("ndoli")), "ndoli"),
    ]


def page_of(state: Any) -> str:
    """The artifact of the run that ended in this state."""
    flow_run_id: UUID = state.state_details.flow_run_id
    wanted = {"flow_run_id": {"any_": [str(flow_run_id)]}, "key": {"any_": ["credentials"]}}

    def read(client: SyncPrefectClient) -> list[Artifact]:
        answer = client.request("POST", "/artifacts/filter", json={"artifacts": wanted})
        return Artifact.model_validate_list(answer.json())

    (page,) = eventually(read, lambda found: len(found) == 1)
    for secret in ("hunter", "correct horse", "KEY"):
        assert secret not in str(page.data).replace("ndoli/keys", "")
    first = str(page.data).partition("\n")[0]
    assert re.match(r"\*\*(Passed|Failed): .*\*\* \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$", first)
    return str(page.data)


def run(blocks: list[str] | None) -> Any:
    return validate_credentials(blocks, return_state=True)


def test_everything_resolves(team: list[str], connect_server: ConnectServer) -> None:
    state = run(team)
    assert state.is_completed(), state.message
    assert state.message == "Passed: all 8 credentials in 3 blocks can be used."
    rows = rows_of(page_of(state))
    assert {row["result"] for row in rows} == {"found", "plain"}
    by_place = {(row["block"], row["field"]): row for row in rows}
    key = by_place["ssh-credentials/ndoli", "private_key"]
    assert key["reference"] == "op://Clusters/ndoli/keys/private key"
    assert key["read from"] == f"1Password Connect at {connect_server.url}"
    assert key["beside it"] == "username, password, keys/private key, empty"
    assert key["permission"] == "read"
    assert key["unchanged for"].endswith(" days")
    assert re.fullmatch(r"[\d.]+ m?s", key["took"])
    password = by_place["slurm-cluster/ndoli", "credentials.password"]
    assert password["reference"] == "prefect:ndoli-password"
    assert by_place["ssh-credentials/ndoli", "passphrase"]["reference"] == "env:PASSPHRASE_OF_OURS"
    assert by_place["onepassword-connect/team", "token"]["reference"] == "a plain value"
    assert by_place["onepassword-connect/team", ""]["beside it"] == "Clusters"
    # One item, though two blocks refer to it; and the list of vaults.
    assert len(connect_server.requests) == 4


def test_every_failure_is_named_with_what_to_do(
    team: list[str],
    saved: Any,
    standin_op: StandInOp,
    connect_server: ConnectServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PASSPHRASE_OF_OURS")
    op = OnePasswordCLI(service_account_token="ops_wrong", executable=standin_op.executable)
    blocks = [
        "ssh-credentials/ndoli",
        saved(op, "wrong"),
        saved(
            SSHCredentials(
                password="op://Clusters/ndoli/pin",
                passphrase="op://Closed/safe/password",
                secret_store="onepassword-connect/team",
            ),
            "missing",
        ),
        saved(
            SSHCredentials(password="op://a/b/c", secret_store="onepassword-cli/wrong"), "refused"
        ),
        "ssh-credentials/gone",
    ]
    state = run(blocks)
    assert state.type == "FAILED"
    assert state.name == "Failed"
    assert state.message.startswith("Failed: 6 of 9 credentials in 5 blocks cannot be used.")
    for told in (
        "ssh-credentials/ndoli passphrase: env:PASSPHRASE_OF_OURS: the variable",
        "onepassword-cli/wrong : the list of vaults: ",
        "the item has no such field; it has username, password, keys/private key, empty",
        "has no vault 'Closed' that this token may see",
        "ssh-credentials/refused password: op://a/b/c: ",
        "ssh-credentials/gone : There is no such block.",
    ):
        assert told in state.message
    assert "ops_wrong" not in state.message
    page = page_of(state)
    assert "ops_wrong" not in page
    rows = rows_of(page)
    assert [row["result"].isupper() for row in rows] == [True] * 6 + [False] * 3
    results = {(row["block"], row["field"]): row["result"] for row in rows}
    assert results["ssh-credentials/ndoli", "private_key"] == "found"
    assert results["ssh-credentials/ndoli", "passphrase"] == "NOT FOUND"
    assert results["onepassword-cli/wrong", ""] == "REFUSED"
    assert results["ssh-credentials/missing", "password"] == "NOT FOUND"
    assert results["ssh-credentials/refused", "password"] == "REFUSED"
    assert results["ssh-credentials/gone", ""] == "NOT FOUND"


def test_a_store_that_is_down_does_not_hide_the_others(
    team: list[str], connect_server: ConnectServer
) -> None:
    with connect_server.failing("html 502"):
        state = run(team)
    results = {(row["block"], row["field"]): row["result"] for row in rows_of(page_of(state))}
    assert results["ssh-credentials/ndoli", "private_key"] == "UNAVAILABLE"
    assert results["ssh-credentials/ndoli", "passphrase"] == "found"
    assert "nginx" not in state.message


def test_a_block_that_cannot_be_looked_at_does_not_hide_the_others(team: list[str]) -> None:
    state = run(["ssh-credentials/one\ntwo", *team])
    assert state.is_failed()
    rows = rows_of(page_of(state))
    assert (rows[0]["block"], rows[0]["result"]) == ("ssh-credentials/one\\ntwo", "UNKNOWN")
    assert {row["block"] for row in rows if row["result"] == "found"} == set(team)


@pytest.fixture
def nothing_saved(prefect_server: PrefectServer) -> None:
    """Forget what other tests have saved on the server."""
    with get_client(sync_client=True) as client:
        found = client.request("POST", "/block_documents/filter", json={"limit": 200}).json()
        for one in found:
            client.request("DELETE", f"/block_documents/{one['id']}")  # type: ignore[arg-type]


def test_by_default_every_block_with_a_reference(
    nothing_saved: None, team: list[str], saved: Any
) -> None:
    saved(Secret(value="hunter4"), "plain")
    saved(SSHCredentials(password="hunter5"), "plain")
    state = run(None)
    assert state.is_completed(), state.message
    assert {row["block"] for row in rows_of(page_of(state))} == set(team)


def test_a_malformed_reference_of_another_program(saved: Any) -> None:
    state = run([saved(Secret(value="op://only/two"), "malformed")])
    assert state.type == "FAILED"
    assert "has 2 parts, not 3 or 4" in state.message
    assert rows_of(page_of(state))[0]["result"] == "MALFORMED"


def test_no_blocks_at_all(nothing_saved: None) -> None:
    state = run(None)
    assert state.is_completed()
    assert state.message == "Passed: no references in 0 blocks."


def test_names_in_the_table_mean_nothing_to_markdown(
    saved: Any, connect: OnePasswordConnect, connect_server: ConnectServer
) -> None:
    connect_server.vaults[0].add("odd", {"a|b": "x", "<img src=x>": "y", "*bold*": "z"})
    saved(connect, "team")
    block = saved(
        SSHCredentials(password="op://Clusters/odd/a|b", secret_store="onepassword-connect/team"),
        "odd",
    )
    state = run([block])
    assert state.is_completed(), state.message
    with get_client(sync_client=True) as client:
        answer = client.request("GET", "/artifacts/credentials/latest")  # type: ignore[arg-type]
    (line,) = [line for line in answer.json()["data"].splitlines() if "Clusters/odd" in line]
    assert "a\\|b, \\<img src=x\\>, \\*bold\\*" in line


def test_from_the_command_line(team: list[str], prefect_server: PrefectServer) -> None:
    script = Path(__file__).parents[2] / "flows" / "validate_credentials.py"
    done = subprocess.run(
        [sys.executable, str(script), *team], capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stderr
    assert "Passed: all 8 credentials in 3 blocks can be used." in done.stdout
    environment = {k: v for k, v in os.environ.items() if k != "PASSPHRASE_OF_OURS"}
    done = subprocess.run(
        [sys.executable, str(script), *team],
        capture_output=True,
        text=True,
        timeout=90,
        env=environment,
    )
    assert done.returncode == 1
    assert "env:PASSPHRASE_OF_OURS" in done.stdout
    assert "hunter" not in done.stdout + done.stderr


def test_where_the_api_has_gone(prefect_server: PrefectServer) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from clustrix_prefect.credentials.checking import check_block
    from clustrix_prefect.errors import ConfigurationError

    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}),
        pytest.raises(ConfigurationError, match="cannot be asked"),
    ):
        check_block("ssh-credentials/x")
