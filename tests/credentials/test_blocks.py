"""The blocks: what they accept, what Prefect stores and shows of them."""

from __future__ import annotations

import json
import os
import traceback
from typing import Any

import pytest
from prefect.blocks.core import Block
from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
from prefect.testing.standard_test_suites import BlockStandardTestSuite
from pydantic import SecretStr, ValidationError

from clustrix_prefect import OnePasswordCLI, OnePasswordConnect, SSHCluster, SSHCredentials
from clustrix_prefect.credentials import resolve
from clustrix_prefect.errors import (
    CredentialError,
    CredentialNotFound,
    CredentialStoreUnavailable,
)
from tests.credentials.conftest import SERVICE_ACCOUNT, TOKEN
from tests.live.daemon import free_port
from tests.live.onepassword_connect import ConnectServer
from tests.live.op_standin import StandInOp
from tests.live.prefect_server import PrefectServer

REFERENCE = "op://Clusters/ndoli/password"


@pytest.mark.parametrize("block", [OnePasswordConnect, OnePasswordCLI])
class TestStandard(BlockStandardTestSuite):
    @pytest.fixture
    def block(self, block: type[Block]) -> type[Block]:
        return block


class TestWhatIsRefused:
    @pytest.mark.parametrize("field", ["password", "passphrase", "private_key"])
    @pytest.mark.parametrize(
        ("reference", "says"),
        [
            ("op://Clusters/ndoli", "has 2 parts, not 3 or 4"),
            ("env:MY-VAR", "does not name an environment variable"),
            ("prefect:Not_A_Name", "does not name a Prefect block"),
        ],
    )
    def test_malformed_references_when_the_block_is_made(
        self, field: str, reference: str, says: str
    ) -> None:
        with pytest.raises(ValidationError) as caught:
            SSHCredentials(**{field: reference})
        assert says in str(caught.value)
        assert field in str(caught.value)
        with pytest.raises(ValidationError, match=field):
            SSHCluster(host="ndoli", credentials={field: reference})

    @pytest.mark.parametrize("wrong", [b"\xffhunter2", ["hunter2"], {"hunter2": 1}])
    def test_what_is_wrong_is_not_repeated(self, wrong: Any) -> None:
        makers: list[Any] = [
            lambda: SSHCredentials(password=wrong),
            lambda: SSHCluster(host="n", credentials={"password": wrong}),
            lambda: OnePasswordConnect(token=wrong),
            lambda: OnePasswordCLI(service_account_token=wrong),
        ]
        for make in makers:
            with pytest.raises(ValidationError) as caught:
                make()
            assert "hunter2" not in "".join(traceback.format_exception(caught.value))

    @pytest.mark.parametrize(
        ("host", "says"),
        [
            ("connect.example.org", "begins with http:// or https://"),
            ("ftp://connect.example.org", "begins with http:// or https://"),
            ("http://", "begins with http:// or https://"),
            ("http://host:port", "begins with http:// or https://"),
            ("http://ana:hunter2@host", "no user name, password"),
            ("http://host/?token=hunter2", "no user name, password"),
        ],
    )
    def test_addresses(self, host: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(ValidationError, match=says) as refused:
            OnePasswordConnect(host=host)
        monkeypatch.setenv("OP_CONNECT_HOST", host)
        with pytest.raises(CredentialStoreUnavailable, match=says) as caught:
            OnePasswordConnect(token=TOKEN).read(REFERENCE)
        assert "hunter2" not in f"{refused.value}{caught.value}"

    def test_a_token_that_is_kept_behind_itself(self) -> None:
        with pytest.raises(ValidationError, match="from 1Password itself"):
            OnePasswordConnect(token=REFERENCE)
        with pytest.raises(ValidationError, match="from 1Password itself"):
            OnePasswordCLI(service_account_token=REFERENCE)

    @pytest.mark.parametrize("token", ["two\nlines", "two words", "naïve", "x\0y"])
    def test_a_token_that_http_would_show_in_its_error(
        self, connect_server: ConnectServer, token: str
    ) -> None:
        with pytest.raises(CredentialStoreUnavailable, match="that no token has") as caught:
            OnePasswordConnect(host=connect_server.url, token=token).read(REFERENCE)
        assert token not in "".join(traceback.format_exception(caught.value))
        assert connect_server.requests == []

    @pytest.mark.parametrize("name", ["team", "secret/x", "onepassword-connect/", "ssh-cluster/x"])
    def test_a_store_that_is_none(self, name: str) -> None:
        with pytest.raises(ValidationError, match="does not name a 1Password block"):
            SSHCredentials(secret_store=name)
        with pytest.raises(CredentialError, match="does not name a 1Password block"):
            resolve(REFERENCE, store=name)

    def test_read_wants_a_reference(self, connect: OnePasswordConnect) -> None:
        with pytest.raises(CredentialError, match="not a reference to 1Password") as caught:
            connect.read("hunter2")
        assert "hunter2" not in str(caught.value)


class TestDocuments:
    """What Prefect stores is the reference; what its API shows is neither that nor the secret."""

    def test_secrets_and_references_are_masked(self, saved: Any) -> None:
        saved(SSHCredentials(password=REFERENCE, private_key="hunter2"), "masked")
        saved(OnePasswordConnect(host="http://localhost", token="env:TOKEN_OF_OURS"), "masked")
        saved(OnePasswordCLI(service_account_token="hunter2"), "masked")
        with get_client(sync_client=True) as client:
            for slug in ("ssh-credentials", "onepassword-connect", "onepassword-cli"):
                document = client.read_block_document_by_name("masked", slug, include_secrets=False)
                shown = json.dumps(document.data)
                for hidden in ("hunter2", "op://", "env:", "TOKEN_OF_OURS"):
                    assert hidden not in shown

    def test_what_is_stored_is_the_reference(self, saved: Any, connect: OnePasswordConnect) -> None:
        credentials = SSHCredentials(password=REFERENCE)
        assert resolve(credentials.password, store=connect) == "correct horse"
        saved(credentials, "stored")
        with get_client(sync_client=True) as client:
            document = client.read_block_document_by_name(
                "stored", "ssh-credentials", include_secrets=True
            )
        assert document.data["password"] == REFERENCE
        assert "correct horse" not in document.model_dump_json()

    def test_a_loaded_block_resolves(self, saved: Any, connect: OnePasswordConnect) -> None:
        saved(connect, "team")
        saved(SSHCredentials(password=REFERENCE, secret_store="onepassword-connect/team"), "loaded")
        loaded = SSHCredentials.load("loaded", _sync=True)  # type: ignore[call-arg]
        assert isinstance(loaded, SSHCredentials)
        assert loaded.login.password == "correct horse"

    def test_nested_credentials_keep_their_references(
        self, saved: Any, connect: OnePasswordConnect
    ) -> None:
        saved(connect, "nested")
        credentials = SSHCredentials(password=REFERENCE, secret_store="onepassword-connect/nested")
        saved(SSHCluster(host="ndoli", credentials=credentials), "nested")
        loaded = SSHCluster.load("nested", _sync=True)  # type: ignore[call-arg]
        assert isinstance(loaded, SSHCluster)
        assert loaded.destination.login.password == "correct horse"

    def test_no_text_of_a_block_has_the_secret(self, connect: OnePasswordConnect) -> None:
        credentials = SSHCredentials(password="env:HUNTER", private_key="hunter2")
        for block in (connect, credentials, OnePasswordCLI(service_account_token="hunter2")):
            for shown in (repr(block), str(block), block.model_dump_json(), json.dumps(str(block))):
                assert "hunter2" not in shown
                assert TOKEN not in shown


class TestWhichStore:
    def test_connect_of_the_environment(
        self, connect_server: ConnectServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OP_CONNECT_HOST", f"{connect_server.url}/")
        monkeypatch.setenv("OP_CONNECT_TOKEN", f"{TOKEN}\n")
        assert resolve(REFERENCE) == "correct horse"
        assert resolve(SecretStr(REFERENCE)) == "correct horse"

    def test_op_of_the_environment(
        self, standin_op: StandInOp, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        directory = os.path.dirname(standin_op.executable)
        monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
        monkeypatch.setenv("OP_SERVICE_ACCOUNT_TOKEN", SERVICE_ACCOUNT)
        assert resolve(REFERENCE) == "correct horse"

    def test_the_only_one_saved(self, saved: Any, cli: OnePasswordCLI) -> None:
        saved(cli, "only")
        assert resolve(REFERENCE) == "correct horse"

    def test_several_saved(
        self, saved: Any, cli: OnePasswordCLI, connect: OnePasswordConnect
    ) -> None:
        saved(cli, "one")
        saved(connect, "two")
        with pytest.raises(CredentialStoreUnavailable) as caught:
            resolve(REFERENCE)
        assert "onepassword-connect/two, onepassword-cli/one" in str(caught.value)
        assert "secret_store" in caught.value.remedy
        assert resolve(REFERENCE, store="onepassword-cli/one") == "correct horse"

    def test_none(self, prefect_server: PrefectServer) -> None:
        with pytest.raises(CredentialStoreUnavailable) as caught:
            resolve(REFERENCE)
        assert "nothing says how 1Password is to be asked" in str(caught.value)
        assert "OP_CONNECT_HOST" in caught.value.remedy

    def test_one_that_is_not_saved(self, prefect_server: PrefectServer) -> None:
        with pytest.raises(CredentialStoreUnavailable, match="no block 'onepassword-cli/gone'"):
            resolve(REFERENCE, store="onepassword-cli/gone")

    def test_half_of_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(CredentialStoreUnavailable, match="OP_CONNECT_HOST"):
            OnePasswordConnect().read(REFERENCE)
        monkeypatch.setenv("OP_CONNECT_HOST", "http://localhost:1")
        with pytest.raises(CredentialStoreUnavailable, match="OP_CONNECT_TOKEN"):
            OnePasswordConnect().read(REFERENCE)

    def test_a_token_by_reference(
        self, connect_server: ConnectServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TOKEN_OF_OURS", TOKEN)
        connect = OnePasswordConnect(host=connect_server.url, token="env:TOKEN_OF_OURS")
        assert resolve(REFERENCE, store=connect) == "correct horse"
        monkeypatch.delenv("TOKEN_OF_OURS")
        with pytest.raises(CredentialNotFound, match="TOKEN_OF_OURS is not set"):
            resolve(REFERENCE, store=connect)


class TestEnvironment:
    def test_a_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SECRET_OF_OURS", "hunter2")
        assert resolve("env:SECRET_OF_OURS") == "hunter2"

    def test_what_it_holds_is_no_reference_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SECRET_OF_OURS", "env:PATH")
        assert resolve("env:SECRET_OF_OURS") == "env:PATH"

    def test_not_set_or_empty(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(CredentialNotFound, match="SECRET_OF_OURS is not set"):
            resolve("env:SECRET_OF_OURS")
        monkeypatch.setenv("SECRET_OF_OURS", "")
        with pytest.raises(CredentialNotFound, match="SECRET_OF_OURS is empty"):
            resolve("env:SECRET_OF_OURS")


class TestPrefectBlocks:
    @pytest.fixture(autouse=True)
    def blocks(self, saved: Any) -> None:
        saved(Secret(value="hunter2"), "text")
        saved(Secret(value={"user": "ana", "keys": {"pin": 1234}}), "mapping")
        saved(Secret(value="op://a/b/c"), "reference")
        saved(SSHCredentials(username="ana", password="hunter3"), "one-secret")
        saved(SSHCredentials(password="hunter4", passphrase="hunter5"), "two-secrets")

    @pytest.mark.parametrize(
        ("reference", "value"),
        [
            ("prefect:text", "hunter2"),
            ("prefect:secret/text", "hunter2"),
            ("prefect:secret/text/value", "hunter2"),
            ("prefect:secret/mapping/value/user", "ana"),
            ("prefect:secret/mapping/value/keys/pin", "1234"),
            ("prefect:ssh-credentials/one-secret", "hunter3"),
            ("prefect:ssh-credentials/two-secrets/passphrase", "hunter5"),
            ("prefect:reference", "op://a/b/c"),
        ],
    )
    def test_a_field(self, reference: str, value: str) -> None:
        assert resolve(reference) == value

    def test_a_mapping_is_json(self) -> None:
        assert json.loads(resolve("prefect:mapping") or "") == {
            "user": "ana",
            "keys": {"pin": 1234},
        }

    @pytest.mark.parametrize(
        ("reference", "says"),
        [
            ("prefect:gone", "has no block secret/gone"),
            ("prefect:no-such-type/x", "has no block no-such-type/x"),
            ("prefect:secret/text/other", "no value in 'other'; it has value"),
            ("prefect:ssh-credentials/two-secrets", "holds 2 secrets: "),
            ("prefect:ssh-credentials/two-secrets/private_key", "has no value in 'private_key'"),
        ],
    )
    def test_what_is_not_there(self, reference: str, says: str) -> None:
        with pytest.raises(CredentialNotFound) as caught:
            resolve(reference)
        assert says in str(caught.value)
        assert str(caught.value).startswith(reference)
        assert "hunter" not in "".join(traceback.format_exception(caught.value))


def test_prefect_that_cannot_be_reached() -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with (
        temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}),
        pytest.raises(CredentialStoreUnavailable, match="cannot be asked"),
    ):
        resolve("prefect:text")
