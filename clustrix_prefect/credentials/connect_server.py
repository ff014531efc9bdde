"""Asking a 1Password Connect server, through its own client library.

The library (onepasswordconnectsdk 2.1) answers several failures with errors that explain
nothing: an HTML page of a proxy with JSONDecodeError, a refused connection with httpx's own
error, a name with `&` in it with another item or none, a vault of a kind it does not know with
ValueError. Here every answer is looked at before the library sees it, and names are encoded.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx

from clustrix_prefect.credentials import http_bodies
from clustrix_prefect.credentials.cache import SecretCache
from clustrix_prefect.credentials.references import OnePasswordReference, same_name, spellings
from clustrix_prefect.credentials.stores import FoundSecret, field_of
from clustrix_prefect.errors import (
    CredentialError,
    CredentialForbidden,
    CredentialNotFound,
    CredentialStoreUnavailable,
)

if TYPE_CHECKING:
    from onepasswordconnectsdk.client import Client

_ID = re.compile(r"[a-z0-9]{26}\Z")
_LARGEST_ANSWER = 16 * 2**20
# Worth one more try: the server, or the proxy before it, is being restarted.
_PASSING = (429, 502, 503, 504)
_PAUSE_SECONDS = 0.5
_NOT_IN_USE = ("ARCHIVED", "DELETED")  # states of an item


class ConnectServer:
    """A 1Password Connect server.

    Args:
        host: Its address, such as "http://connect.example.org:8080".
        token: An access token of it.
        seconds: How long one request may take.
    """

    def __init__(self, host: str, token: str, seconds: float) -> None:
        self.description = f"1Password Connect at {host}"
        self._host = host.rstrip("/")
        self.token = token
        self._seconds = seconds
        digest = hashlib.sha256(token.encode()).hexdigest()
        self._key = ("connect", self._host, digest)

    def find(self, reference: OnePasswordReference, memory: SecretCache) -> FoundSecret:
        """Read one field; the item is asked for once."""
        asking = _Asking(self, str(reference), memory.once((*self._key, "client"), self._client))
        vault = reference.vault
        if not _ID.match(vault):
            vault = self._vault_id(asking, vault, memory)
        if reference.attribute is not None:  # a code holds for seconds
            item = self._item(asking, vault, reference, memory)
        else:
            item = memory.once(
                (*self._key, vault, reference.item),
                lambda: self._item(asking, vault, reference, memory),
            )
        return field_of(item, reference, self.description)

    def vaults(self) -> list[str]:
        """Return the names of the vaults that the token may see."""
        asking = _Asking(self, "the list of vaults", self._client())
        return [str(vault.get("name")) for vault in asking.list("/v1/vaults")]

    # --- names to ids -------------------------------------------------------------------------

    def _vault_id(self, asking: _Asking, name: str, memory: SecretCache) -> str:
        return memory.once(
            (*self._key, "vault", name),
            lambda: asking.only("/v1/vaults", "vault", name),
        )

    def _item(
        self, asking: _Asking, vault: str, reference: OnePasswordReference, memory: SecretCache
    ) -> Any:
        try:
            return _item_in(asking, vault, reference.item)
        except CredentialNotFound as error:
            if vault != reference.vault:
                raise
            # A name may look like an id.
            try:
                vault = self._vault_id(asking, vault, memory)
            except CredentialNotFound:
                raise error from None
            return _item_in(asking, vault, reference.item)

    # --- the library --------------------------------------------------------------------------

    def _client(self) -> Client:
        try:
            from onepasswordconnectsdk.client import new_client
        except ImportError as error:
            raise CredentialStoreUnavailable(
                "1Password's client library is not installed.",
                "Install it: pip install 'clustrix-prefect[onepassword]'.",
                store=self.description,
            ) from error
        client: Client = new_client(self._host, self.token)
        headers = dict(client.session.headers)
        client.session.close()
        client.session = _CheckedSession(self._host, headers, self._seconds)
        return client


def _item_in(asking: _Asking, vault: str, item: str) -> Any:
    """Return one request for an id, two for a name, which only a list can tell the id of."""
    path = f"/v1/vaults/{vault}/items"
    if _ID.match(item):
        with contextlib.suppress(CredentialNotFound):  # a name may look like an id
            return asking.get(f"{path}/{item}")
    identifier = asking.only(path, "item", item)
    return asking.get(f"{path}/{identifier}")


class _Asking:
    """Requests for the sake of one reference, which every error names."""

    def __init__(self, server: ConnectServer, reference: str, client: Client) -> None:
        self._server = server
        self._reference = reference
        self._client = client

    def get(self, path: str) -> Any:
        """What the server has at this path.

        Raises:
            CredentialError: It has nothing there, refuses us, or does not answer.
        """
        try:
            try:
                return self._client.build_request("GET", path).json()
            except _Unanswered as failure:
                if not failure.passing:
                    raise
                time.sleep(_PAUSE_SECONDS)
                return self._client.build_request("GET", path).json()
        except _Unanswered as failure:
            raise self.error(failure.kind, failure.what, failure.remedy) from failure.__cause__

    def list(self, path: str) -> list[dict[str, Any]]:
        """Return the objects that the server lists at this path."""
        found = self.get(path)
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise self.error(CredentialStoreUnavailable, "answered with no list", _NOT_CONNECT)
        return found

    def only(self, path: str, kind: str, name: str) -> str:
        """The id of the only one with a name in the list at this path; archived ones are none."""
        # A gateway may ignore the filter; 1Password itself does not tell upper from lower case.
        key = "name" if kind == "vault" else "title"
        found, archived = self._named(f"{path}?filter={_equals(key, name)}", key, name)
        if not found and not name.isascii():
            # Letters with marks have two spellings, which a filter tells from each other.
            found, archived = self._named(path, key, name)
        exact = [one for one in found if one.get(key) in spellings(name)]
        found = exact if len(exact) == 1 else found
        if not found and archived:
            raise self.error(
                CredentialNotFound,
                f"has {kind} {name!r} only in its archive",
                "Restore it, or write its id into the reference instead of its name.",
            )
        if not found:
            raise self.error(
                CredentialNotFound,
                f"has no {kind} {name!r} that this token may see",
                "Correct the reference, or give the token access to the vault.",
            )
        if len(found) > 1:
            raise self.error(
                CredentialNotFound,
                f"has {len(found)} {kind}s {name!r}",
                f"Write the {kind}'s id into the reference instead of its name.",
            )
        identifier = found[0].get("id")
        if not isinstance(identifier, str) or not identifier.isalnum():
            raise self.error(
                CredentialStoreUnavailable, f"gives a {kind} without an id", _NOT_CONNECT
            )
        return identifier

    def _named(
        self, path: str, key: str, name: str
    ) -> tuple[Sequence[dict[str, Any]], Sequence[dict[str, Any]]]:
        """Return those with a name in the list at a path: in use, and in the archive."""
        listed = [one for one in self.list(path) if same_name(str(one.get(key)), name)]
        archived = [one for one in listed if one.get("state") in _NOT_IN_USE]
        return [one for one in listed if one not in archived], archived

    def error(self, kind: type[CredentialError], what: str, remedy: str) -> CredentialError:
        """Return an error with the reference and the store in it."""
        store = self._server.description
        what = f"{self._reference}: {store} {what}."
        what = what.replace(self._server.token, "(the token)")  # a gateway may repeat headers
        return kind(what, remedy, reference=self._reference, store=store)


_NOT_CONNECT = "Check that the address is that of a 1Password Connect server."
_UNREACHABLE = "Check the address, and that the server runs and can be reached from here."


class _Unanswered(Exception):
    """A request without a usable answer. No part of the answer's body is in it."""

    def __init__(
        self, kind: type[CredentialError], what: str, remedy: str, *, passing: bool = False
    ) -> None:
        super().__init__(what)
        self.kind, self.what, self.remedy, self.passing = kind, what, remedy, passing


class _CheckedSession(httpx.Client):
    """The library's HTTP session: answers are whole, in time and JSON, or an exception."""

    def __init__(self, host: str, headers: dict[str, str], seconds: float) -> None:
        packed = {"Accept-Encoding": http_bodies.TAKEN}
        super().__init__(base_url=host, headers={**packed, **headers}, timeout=seconds)
        self._seconds = seconds

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """Send a request and read all of the answer.

        Raises:
            _Unanswered: There is no answer that anybody could use.
        """
        deadline = time.monotonic() + self._seconds
        try:
            response = super().send(request, **{**options, "stream": True})
            try:
                body = self._body(response, request, deadline)
            finally:
                response.close()
        except httpx.TimeoutException as error:
            raise _Unanswered(
                CredentialStoreUnavailable,
                f"did not answer within {self._seconds:g} seconds",
                _UNREACHABLE,
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _Unanswered(
                CredentialStoreUnavailable,
                f"cannot be asked ({error or type(error).__name__})",
                _UNREACHABLE,
                passing=True,
            ) from error
        whole = httpx.Response(response.status_code, content=body, request=request)
        _check(whole)
        return whole

    def _body(self, response: httpx.Response, request: httpx.Request, deadline: float) -> bytes:
        """Return the body: a server that sends a byte now and then is late as well."""
        request.extensions["timeout"]["read"] = max(0.01, deadline - time.monotonic())
        body = bytearray()
        for chunk in http_bodies.pieces(response):
            body += chunk
            if time.monotonic() > deadline:
                raise httpx.ReadTimeout("the answer came too slowly", request=request)
            if len(body) > _LARGEST_ANSWER:
                raise httpx.DecodingError("the answer is too large", request=request)
        return bytes(body)


def _check(response: httpx.Response) -> None:
    """Refuse every answer but JSON with status 200.

    Raises:
        _Unanswered: This is another one.
    """
    status = response.status_code
    try:
        said = response.json()
    except ValueError:  # not chained: it holds the body
        said = None
    message = said.get("message") if isinstance(said, dict) else None
    answered = f"answered with status {status}" + (f" ({message!s:.150})" if message else "")

    def fails(kind: type[CredentialError], remedy: str, *, passing: bool = False) -> _Unanswered:
        return _Unanswered(kind, answered, remedy, passing=passing)

    if status == 401:
        raise fails(CredentialForbidden, "The token is wrong or has expired: make a new one.")
    if status == 403:
        raise fails(CredentialForbidden, "Give the token access to the vault.")
    if status in (400, 404) and isinstance(said, dict):
        raise fails(CredentialNotFound, "Correct the reference: there is no such vault or item.")
    if status == 429:
        raise fails(CredentialStoreUnavailable, "Ask less often.", passing=True)
    if status != 200:
        raise fails(CredentialStoreUnavailable, _UNREACHABLE, passing=status in _PASSING)
    if not isinstance(said, (dict, list)):
        answered = "answered with something that is not JSON"
        raise fails(CredentialStoreUnavailable, _NOT_CONNECT)


def _equals(attribute: str, name: str) -> str:
    """Return a filter, encoded: the library puts it into the URL as it is."""
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return quote(f'{attribute} eq "{escaped}"', safe="")
