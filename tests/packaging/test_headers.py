"""Nothing of a result's header is used before its signature fits, and then only what is sound."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from clustrix_prefect.errors import TamperedResult
from clustrix_prefect.packaging import signing
from clustrix_prefect.packaging.results import checked_header, content_is_gone, open_result

KEY = b"k" * 32
BODY = b"\x80\x04K\x07."  # a pickle of 7


def header(body: bytes = BODY, status: str = "ok", **changes: Any) -> dict[str, Any]:
    digest = hashlib.sha256(body).hexdigest()
    mac = signing.sign(KEY, "clustrix-result/1", "id", "0", "result", status, digest)
    facts = {"host": "n1", "pid": 5, "job": None, "started": 1.5, "ended": 2.5, "python": [3, 11]}
    return {"status": status, "sha256": digest, "size": len(body), "mac": mac, **facts, **changes}


def test_what_is_sound_is_kept() -> None:
    found = checked_header(KEY, "id", 0, header(exit_code=0, peak_memory=2**40))
    assert found["host"] == "n1"
    assert (found["pid"], found["started"], found["ended"]) == (5, 1.5, 2.5)
    assert open_result(KEY, "id", 0, found, BODY) == 7


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ended", "x"),
        ("ended", float("nan")),
        ("ended", True is None),
        ("started", 1e30),
        ("started", float("-inf")),
        ("started", [1]),
        ("host", {"a": 1}),
        ("host", "x" * 5000),
        ("pid", "5"),
        ("pid", 10**400),
        ("peak_memory", "much"),
        ("exit_code", None),
        ("job", 7),
        ("python", "3.11"),
        ("python", [3]),
        ("python", ["3", "11"]),
    ],
)
def test_a_fact_that_makes_no_sense_is_left_out_and_the_value_taken(name: str, value: Any) -> None:
    found = checked_header(KEY, "id", 0, header(**{name: value}))
    assert name not in found or found[name] is False
    assert open_result(KEY, "id", 0, found, BODY) == 7


@pytest.mark.parametrize(
    "given",
    [
        None,
        [],
        [header()],
        "ok",
        {},
        {"status": "unreadable", "text": "it is not a regular file"},
        header(mac="0" * 64),
        header(mac=None),
        header(mac="\u00fc" * 64),
        header(mac=[1]),
        header(status="\ud800"),
        {**header(), "status": "raised"},
        {**header(), "sha256": "0" * 64},
        {**header(), "sha256": None},
    ],
    ids=str,
)
def test_what_is_no_header_of_this_call_is_tampered_with(given: Any) -> None:
    given = {**given, "mac": "0" * 64} if given == header(status="\ud800") else given
    with pytest.raises(TamperedResult):
        checked_header(KEY, "id", 0, given)


def test_another_attempt_or_call_is_tampered_with() -> None:
    for call_id, attempt, key in (("id", 1, KEY), ("other", 0, KEY), ("id", 0, b"x" * 32)):
        with pytest.raises(TamperedResult):
            checked_header(key, call_id, attempt, header())


def test_another_body_is_tampered_with() -> None:
    found = checked_header(KEY, "id", 0, header())
    with pytest.raises(TamperedResult):
        open_result(KEY, "id", 0, found, b"\x80\x04K\x08.")


def test_content_that_is_gone_is_told_by_what_is_signed_alone() -> None:
    body = json.dumps({"type_name": "NotInStore", "text": "the content abc"}).encode()
    assert content_is_gone(header(body, "refused"), body) == "the content abc"
    assert content_is_gone(header(body, "ok"), body) == ""
    assert content_is_gone(header(b"other", "refused"), body) == ""
    other = json.dumps({"type_name": "ImportError", "text": "x"}).encode()
    assert content_is_gone(header(other, "refused"), other) == ""
