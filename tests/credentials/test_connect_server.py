"""1Password Connect, spoken to by its own client library over a real socket."""

from __future__ import annotations

import ssl
import sys
import time
import traceback
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

import pytest
import trustme

from clustrix_prefect import OnePasswordConnect
from clustrix_prefect.credentials import resolve
from clustrix_prefect.credentials.cache import SecretCache, remembering
from clustrix_prefect.errors import (
    CredentialError,
    CredentialForbidden,
    CredentialNotFound,
    CredentialStoreUnavailable,
)
from tests.credentials.conftest import TOKEN
from tests.live.daemon import free_port
from tests.live.onepassword_connect import ConnectServer, Vault, identifier

REFERENCE = "op://Clusters/ndoli/password"
VAULT_ID = identifier("vaultClusters")
ITEM_ID = identifier("itemndoli0")


def failure(store: OnePasswordConnect, reference: str = REFERENCE) -> CredentialError:
    """The error of a read; what every one of them has in common is checked here."""
    with pytest.raises(CredentialError) as caught:
        store.read(reference)
    error = caught.value
    assert error.what.startswith(f"{reference}: ")
    assert error.reference == reference
    assert store.host is not None
    assert store.host in error.store
    assert error.remedy
    shown = "".join(traceback.format_exception(error))
    for secret in (TOKEN, "correct horse", "not for you"):
        assert secret not in shown
    return error


class TestFinding:
    @pytest.mark.parametrize(
        ("reference", "value"),
        [
            (REFERENCE, "correct horse"),
            ("op://clusters/NDOLI/Password", "correct horse"),
            ("op://Clusters/ndoli/field1", "correct horse"),
            ("op://Clusters/ndoli/keys/private key", "KEY"),
            ("op://Clusters/ndoli/Section_0/private key", "KEY"),
            ("op://Clusters/ndoli/private key", "KEY"),
        ],
    )
    def test_by_name_id_or_section(
        self, connect: OnePasswordConnect, reference: str, value: str
    ) -> None:
        assert connect.read(reference).get_secret_value() == value
        assert resolve(reference, store=connect) == value

    @pytest.mark.parametrize(
        ("vault", "item", "paths"),
        [
            (VAULT_ID, ITEM_ID, [f"/v1/vaults/{VAULT_ID}/items/{ITEM_ID}"]),
            (
                VAULT_ID,
                "ndoli",
                [
                    f'/v1/vaults/{VAULT_ID}/items?filter=title eq "ndoli"',
                    f"/v1/vaults/{VAULT_ID}/items/{ITEM_ID}",
                ],
            ),
            (
                "Clusters",
                ITEM_ID,
                [
                    '/v1/vaults?filter=name eq "Clusters"',
                    f"/v1/vaults/{VAULT_ID}/items/{ITEM_ID}",
                ],
            ),
            (
                "Clusters",
                "ndoli",
                [
                    '/v1/vaults?filter=name eq "Clusters"',
                    f'/v1/vaults/{VAULT_ID}/items?filter=title eq "ndoli"',
                    f"/v1/vaults/{VAULT_ID}/items/{ITEM_ID}",
                ],
            ),
        ],
    )
    def test_with_as_few_requests_as_the_api_allows(
        self,
        connect: OnePasswordConnect,
        connect_server: ConnectServer,
        vault: str,
        item: str,
        paths: list[str],
    ) -> None:
        connect.read(f"op://{vault}/{item}/password")
        assert [unquote(path) for path in connect_server.requests] == paths

    def test_all_fields_of_an_item_come_at_once_and_a_vault_is_looked_up_once(
        self, connect: OnePasswordConnect, connect_server: ConnectServer
    ) -> None:
        connect_server.vaults[0].add("other", {"password": "another"})
        with remembering(SecretCache()):
            for field in ("password", "username", "keys/private key", "password"):
                connect.read(f"op://Clusters/ndoli/{field}")
            assert len(connect_server.requests) == 3
            assert connect.read("op://Clusters/other/password").get_secret_value() == "another"
            assert len(connect_server.requests) == 5

    @pytest.mark.parametrize(
        "name", ["this & that", 'say "hi"', "100% #1 + 2", "back\\slash", "naïve ☃", "a=b;c", "%41"]
    )
    def test_names_that_the_library_would_corrupt(
        self, connect: OnePasswordConnect, connect_server: ConnectServer, name: str
    ) -> None:
        connect_server.vaults[0].add("this ", {"password": "of another item"})
        connect_server.vaults[0].add("A", {"password": "of another item"})
        connect_server.vaults[0].add(name, {"password": "right"})
        assert connect.read(f"op://Clusters/{name}/password").get_secret_value() == "right"
        odd = connect_server.vault(name, id=identifier("odd"))
        odd.add("x", {"password": "in an odd vault"})
        connect_server.tokens[TOKEN].add(name)
        assert connect.read(f"op://{name}/x/password").get_secret_value() == "in an odd vault"

    def test_a_vault_or_a_field_of_a_kind_that_the_library_does_not_know(
        self, connect: OnePasswordConnect, connect_server: ConnectServer
    ) -> None:
        vault = connect_server.vault("New", type="OF_A_NEW_KIND")
        item = vault.add("ssh", {"private key": "KEY"}, category="SSH_KEY")
        item["fields"][0].update(type="SSHKEY", purpose="A_NEW_PURPOSE")
        connect_server.tokens[TOKEN].add("New")
        assert connect.read("op://New/ssh/private key").get_secret_value() == "KEY"

    def test_names_that_look_like_ids(
        self, connect: OnePasswordConnect, connect_server: ConnectServer
    ) -> None:
        name = "abcdefghijklmnopqrstuvwxyz"
        connect_server.vaults[0].add(name, {"password": "of the item"})
        assert connect.read(f"op://Clusters/{name}/password").get_secret_value() == "of the item"
        connect_server.vault(name, id="0" * 26).add("x", {"password": "of the vault"})
        connect_server.tokens[TOKEN].add(name)
        assert connect.read(f"op://{name}/x/password").get_secret_value() == "of the vault"


class TestWhatIsNotThere:
    @pytest.mark.parametrize(
        ("reference", "says"),
        [
            ("op://Nowhere/ndoli/password", "has no vault 'Nowhere' that this token may see"),
            ("op://Closed/safe/password", "has no vault 'Closed' that this token may see"),
            ("op://Clusters/nothing/password", "has no item 'nothing' that this token may see"),
            ("op://Clusters/ndoli/pin", "the item has no such field; it has username, password, "),
            ("op://Clusters/ndoli/other/password", "the item has no such field"),
            ("op://Clusters/ndoli/empty", "the field is empty"),
            (f"op://{VAULT_ID}/{'z' * 26}/password", f"has no item '{'z' * 26}'"),
            (f"op://{'z' * 26}/{ITEM_ID}/password", "status 404 (Vault not found)"),
        ],
    )
    def test_is_named(self, connect: OnePasswordConnect, reference: str, says: str) -> None:
        error = failure(connect, reference)
        assert isinstance(error, CredentialNotFound)
        assert says in str(error)

    def test_two_items_of_one_name(
        self, connect: OnePasswordConnect, connect_server: ConnectServer
    ) -> None:
        connect_server.vaults[0].add("ndoli", {"password": "another"})
        error = failure(connect)
        assert isinstance(error, CredentialNotFound)
        assert "has 2 items 'ndoli'" in str(error)
        assert "id" in error.remedy

    def test_two_fields_of_one_name(
        self, connect: OnePasswordConnect, connect_server: ConnectServer
    ) -> None:
        vault = connect_server.vaults[0]
        vault.add("twice", {"a/pin": "1", "b/pin": "2"})
        vault.add("once outside", {"a/pin": "1", "pin": "3"})
        assert "2 fields of the item have this name" in str(
            failure(connect, "op://Clusters/twice/pin")
        )
        assert connect.read("op://Clusters/twice/b/pin").get_secret_value() == "2"
        assert connect.read("op://Clusters/once outside/pin").get_secret_value() == "3"

    def test_an_attached_file(
        self, connect: OnePasswordConnect, connect_server: ConnectServer
    ) -> None:
        connect_server.vaults[0].add("papers", {"note": "x"}, files=["key.pem"])
        assert "is an attached file" in str(failure(connect, "op://Clusters/papers/key.pem"))

    def test_a_gateway_that_ignores_filters(
        self, connect: OnePasswordConnect, connect_server: ConnectServer
    ) -> None:
        vault = Vault("Clusters2", id=VAULT_ID)
        connect_server.vaults.append(vault)
        connect_server.tokens[TOKEN].add("Clusters2")
        answer = connect_server.answer
        connect_server.answer = (  # type: ignore[method-assign]
            lambda target, authorization: answer(target.partition("?")[0], authorization)
        )
        assert connect.read(REFERENCE).get_secret_value() == "correct horse"


class TestTLS:
    """Certificates are always checked, against the authorities that the environment names."""

    @pytest.fixture
    def authority(self) -> trustme.CA:
        return trustme.CA()

    @pytest.fixture
    def over_tls(self, authority: trustme.CA) -> Iterator[OnePasswordConnect]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        server = ConnectServer(context)
        server.vault("Clusters").add("ndoli", {"password": "correct horse"})
        server.tokens[TOKEN] = {"Clusters"}
        server.start()
        yield OnePasswordConnect(host=server.url, token=TOKEN, timeout_seconds=5)
        server.stop()

    def test_an_authority_of_the_site(
        self,
        over_tls: OnePasswordConnect,
        authority: trustme.CA,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        assert over_tls.read(REFERENCE).get_secret_value() == "correct horse"

    def test_an_unknown_one(self, over_tls: OnePasswordConnect) -> None:
        assert "CERTIFICATE_VERIFY_FAILED" in str(failure(over_tls))


def test_without_the_library(connect: OnePasswordConnect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onepasswordconnectsdk.client", None)
    with pytest.raises(CredentialStoreUnavailable, match=r"clustrix-prefect\[onepassword\]"):
        connect.read(REFERENCE)


class TestRefusals:
    def test_a_wrong_token(self, connect_server: ConnectServer) -> None:
        error = failure(OnePasswordConnect(host=connect_server.url, token="expired"))
        assert isinstance(error, CredentialForbidden)
        assert "status 401 (Invalid token signature)" in str(error)
        assert "token is wrong or has expired" in error.remedy

    def test_a_vault_that_the_token_may_not_read(
        self, connect: OnePasswordConnect, connect_server: ConnectServer
    ) -> None:
        closed = identifier("vaultClosed")
        error = failure(connect, f"op://{closed}/{identifier('itemsafe0')}/password")
        assert isinstance(error, CredentialForbidden)
        assert "status 403 (Authorization: token does not have access to vault)" in str(error)
        assert "Give the token access" in error.remedy


class TestTrouble:
    @pytest.mark.parametrize(
        ("how", "says", "requests"),
        [
            ("html 502", "answered with status 502", 2),
            ("html 404", "answered with status 404", 1),
            ("500", "answered with status 500 (as told)", 1),
            ("503", "answered with status 503 (as told)", 2),
            ("429", "answered with status 429 (as told)", 2),
            ("html 200", "answered with something that is not JSON", 1),
            ("empty 200", "answered with something that is not JSON", 1),
            ("number", "answered with something that is not JSON", 1),
            ("other document", "answered with no list", 1),
            ("redirect", "answered with status 302", 1),
            ("truncated", "cannot be asked", 2),
            ("reset", "cannot be asked", 2),
            ("echo", "rejected: Bearer (the token)", 1),
        ],
    )
    def test_is_told_apart(
        self,
        connect: OnePasswordConnect,
        connect_server: ConnectServer,
        how: str,
        says: str,
        requests: int,
    ) -> None:
        with connect_server.failing(how):
            error = failure(connect)
        assert isinstance(error, CredentialStoreUnavailable)
        assert says in str(error)
        assert "nginx" not in str(error), "no bodies"
        assert len(connect_server.requests) == requests

    @pytest.mark.parametrize("how", ["slow", "trickle"])
    def test_an_answer_has_to_come_in_time(self, connect_server: ConnectServer, how: str) -> None:
        connect = OnePasswordConnect(host=connect_server.url, token=TOKEN, timeout_seconds=0.5)
        began = time.monotonic()
        with connect_server.failing(how):
            error = failure(connect)
        assert time.monotonic() - began < 60
        assert isinstance(error, CredentialStoreUnavailable)
        assert "did not answer within 0.5 seconds" in str(error)

    @pytest.mark.parametrize("how", ["html 502", "reset", "429"])
    def test_what_passes_is_tried_once_more(
        self, connect: OnePasswordConnect, connect_server: ConnectServer, how: str
    ) -> None:
        connect_server.fail_next(how)
        assert connect.read(REFERENCE).get_secret_value() == "correct horse"
        assert len(connect_server.requests) == 4

    def test_a_failure_is_not_remembered(
        self, connect: OnePasswordConnect, connect_server: ConnectServer
    ) -> None:
        with remembering(SecretCache()):
            with connect_server.failing("500"):
                failure(connect)
            assert connect.read(REFERENCE).get_secret_value() == "correct horse"

    def test_an_item_that_is_none(
        self, connect: OnePasswordConnect, connect_server: ConnectServer
    ) -> None:
        connect_server.vaults[0].items[0]["fields"] = 7
        assert "something that is not an item" in str(failure(connect))

    def test_nobody_listens(self) -> None:
        host = f"http://127.0.0.1:{free_port()}"
        error = failure(OnePasswordConnect(host=host, token=TOKEN))
        assert isinstance(error, CredentialStoreUnavailable)
        assert "Connection refused" in str(error)
        assert "server runs" in error.remedy

    def test_a_name_that_does_not_resolve(self) -> None:
        error = failure(OnePasswordConnect(host="http://connect.invalid:8080", token=TOKEN))
        assert isinstance(error, CredentialStoreUnavailable)
        assert "cannot be asked" in str(error)


class TestItems:
    def test_the_code_of_a_one_time_password(
        self, connect: OnePasswordConnect, connect_server: ConnectServer
    ) -> None:
        connect_server.vaults[0].add("two steps", {"login/otp": "SEED", "password": "p"})
        reference = "op://Clusters/two steps/otp"
        with remembering(SecretCache()):
            assert "SEED" in str(resolve(reference, store=connect))
            asked = len(connect_server.requests)
            for _ in range(2):  # a code holds for seconds: it is asked for each time
                assert resolve(f"{reference}?attribute=otp", store=connect) == "134253"
        assert len(connect_server.requests) >= asked + 2
        error = failure(connect, "op://Clusters/two steps/password?attribute=otp")
        assert "is no one-time password" in str(error)

    def test_archived_items_are_no_duplicates(
        self, connect: OnePasswordConnect, connect_server: ConnectServer
    ) -> None:
        old = connect_server.vaults[0].add("ndoli", {"password": "before"})
        old["state"] = "ARCHIVED"
        assert resolve(REFERENCE, store=connect) == "correct horse"
        connect_server.vaults[0].items[0]["state"] = "ARCHIVED"
        error = failure(connect)
        assert type(error) is CredentialNotFound
        assert "only in its archive" in str(error)
        # Who writes the id means it.
        assert resolve(f"op://Clusters/{ITEM_ID}/password", store=connect) == "correct horse"

    @pytest.mark.parametrize("spelt", ["NFC", "NFD"])
    def test_letters_with_marks_have_two_spellings(
        self,
        connect: OnePasswordConnect,
        connect_server: ConnectServer,
        spelt: Literal["NFC", "NFD"],
    ) -> None:
        names = ("Genève", "Zürich", "Schlüssel")
        vault, title, label = (unicodedata.normalize(spelt, text) for text in names)
        connect_server.vault(vault, id=identifier("marks")).add(
            title, {label: "found"}, id=identifier("marked")
        )
        connect_server.tokens[TOKEN] = {"Clusters", vault}
        for form in ("NFC", "NFD"):
            reference = unicodedata.normalize(form, f"op://{'/'.join(names)}")
            assert resolve(reference, store=connect) == "found"
