"""What comes back from a call: verified, then opened.

The far side writes a JSON header and a body (`far_side/worker/call.py`). The header's signature
covers protocol, call, attempt, kind, status and the digest of the body; nothing of the body
is read before it fits, and nothing else of the header is used before.
"""

from __future__ import annotations

import builtins
import contextlib
import json
from collections.abc import Callable
from typing import Any, Protocol

from clustrix_prefect.errors import (
    CallNotPortable,
    NodeMismatch,
    RemoteTaskError,
    RemoteTraceback,
    ResultNotPortable,
    TamperedResult,
)
from clustrix_prefect.far_side.wire.plain import from_plain
from clustrix_prefect.far_side.wire.signing import parts_of_result
from clustrix_prefect.packaging import signing
from clustrix_prefect.packaging.identity import sha256
from clustrix_prefect.packaging.pickling import HERE, restore


def checked_header(key: bytes, call_id: str, attempt: int, header: Any) -> dict[str, Any]:
    """Return the header of a result, of which whatever is not what it should be is left out.

    Its signature covers the digest that it names: that the body has it, `open_result` finds out.
    The facts beside, such as the node, are not signed.

    Args:
        key: The call's.
        call_id: Its id.
        attempt: Which attempt of it.
        header: As the far side gave it.

    Raises:
        TamperedResult: It is no header of this call's result.
    """
    if not isinstance(header, dict):
        raise _tampered("What came back from a call is no result")
    if header.get("status") == "unreadable":
        raise _tampered(f"The result of a call cannot be read ({str(header.get('text'))[:300]})")
    signed = parts_of_result(call_id, attempt, str(header.get("status")), str(header.get("sha256")))
    if not signing.verify(key, str(header.get("mac", "")), *signed):
        raise _tampered("The signature of a result does not fit")
    return {name: header[name] for name, is_one in _FACTS.items() if is_one(header.get(name))}


def _tampered(what: str) -> TamperedResult:
    return TamperedResult(
        f"{what}, so it was not opened.",
        "Find out who else can write to the cluster's work directory, then run again.",
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) < 1000


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _is_time(value: Any) -> bool:
    """Return whether it is one that a calendar has, in seconds since 1970."""
    return isinstance(value, int | float) and 0 <= value < 10**11


_FACTS: dict[str, Callable[[Any], bool]] = {
    "status": _is_text,
    "sha256": _is_text,
    "mac": _is_text,
    "host": _is_text,
    "job": _is_text,
    "pid": _is_count,
    "peak_memory": _is_count,
    "exit_code": _is_count,
    "started": _is_time,
    "ended": _is_time,
    "python": lambda value: (
        isinstance(value, list) and len(value) >= 2 and all(map(_is_count, value))
    ),
    "output_end": lambda value: isinstance(value, list) and all(map(_is_count, value)),
}


def content_is_gone(header: dict[str, Any], body: Any) -> str:
    """Return what of a call's code or data was not there any more when it began; "" if it was.

    Args:
        header: As `checked_header` gave it.
        body: What came with it, which has to have the digest that was signed.
    """
    if header.get("status") != "refused" or sha256(body) != header.get("sha256"):
        return ""
    fault = json.loads(body)
    return str(fault["text"]) if fault["type_name"] == "NotInStore" else ""


class Reading(Protocol):
    """How what a call came to is read: by `pickled`, or by `plain`."""

    def value(self, body: bytes, python: tuple[int, ...]) -> Any:
        """Return what it returned."""
        ...

    def exception(self, body: bytes, python: tuple[int, ...]) -> BaseException:
        """Return what it raised."""
        ...


class _Pickled:
    def value(self, body: bytes, python: tuple[int, ...]) -> Any:
        return restore(body, python)

    def exception(self, body: bytes, python: tuple[int, ...]) -> BaseException:
        return _rebuild_exception(restore(body, python), python)


class _Plain:
    def value(self, body: bytes, python: tuple[int, ...]) -> Any:
        return from_plain(json.loads(bytes(body)))

    def exception(self, body: bytes, python: tuple[int, ...]) -> BaseException:
        return _described_exception(json.loads(bytes(body)))


pickled, plain = _Pickled(), _Plain()


def open_result(
    key: bytes,
    call_id: str,
    attempt: int,
    header: dict[str, Any],
    body: bytes,
    reading: Reading = pickled,
) -> Any:
    """Return the value that a call returned.

    Args:
        key: The call's.
        call_id: Its id.
        attempt: Which attempt of it.
        header: As `checked_header` gave it.
        body: What came with it.
        reading: How it was written.

    Raises:
        TamperedResult: The signature does not fit this call.
        CallNotPortable: The function or its arguments cannot be opened there.
        ResultNotPortable: The task ran, but its value cannot be pickled or unpickled.
        BaseException: What the task raised, as what it was.
    """
    signed = parts_of_result(call_id, attempt, str(header.get("status")), sha256(body))
    if not signing.verify(key, str(header.get("mac", "")), *signed):
        raise _tampered("The signature of a result does not fit")
    if header["status"] == "not_portable":
        fault = json.loads(body)
        raise ResultNotPortable(
            f"The task ran, but its {fault['type_name']} cannot be sent back: {fault['text']}.",
            "Return plain data, or write the rest to a file.",
        )
    if header["status"] == "refused":
        fault = json.loads(body)
        if fault["type_name"] == NodeMismatch.__name__:
            raise NodeMismatch(
                f"The node {header.get('host')} is not set up as the login node is, so it did not"
                f" run the call: {fault['text']}.",
                "Install there what the login node has; or name what all nodes have (`python`,"
                " `modules`, `conda_environment`, `virtual_environment`), or let the block's"
                " `managed_environment=ManagedEnvironment()` bring it.",
            )
        raise CallNotPortable(
            f"The far side would not run the call: {fault['type_name']}:"
            f" {fault['text'].rstrip('.')}.",
            "Install there what is missing, or do without it.",
        )
    # Not signed: a wrong one makes what is signed impossible to open, and no more.
    python = tuple(header.get("python", HERE)[:2])
    if header["status"] == "raised":
        raise reading.exception(body, python)
    try:
        return reading.value(body, python)
    except Exception as error:
        raise ResultNotPortable(
            f"The task ran, but what it returned cannot be opened here: {error}.",
            "Install the packages that it needs here too, or return plain data.",
        ) from error


def _rebuild_exception(
    parts: dict[str, Any], python: tuple[int, ...], with_traceback: bool = True
) -> BaseException:
    """Return the exception that was raised far away, as its own `__reduce__` makes it.

    Where that does not bring it back as it was (an `__init__` with other arguments than `args`),
    it is made of its parts, each of which travels by itself: one that cannot be opened loses
    only itself.
    """
    # By identity: an exception may have a length, and so be false.
    ways = (_whole, _assembled, _alike)
    error = next((made for way in ways if (made := way(parts, python)) is not None), None)
    if error is None:
        error = RemoteTaskError(parts["type_name"], parts["text"], parts.get("traceback", ""))
    if parts.get("notes"):
        # As `add_note` does, which is there from 3.11 on.
        vars(error)["__notes__"] = list(parts["notes"])
    if with_traceback and parts.get("traceback"):
        error.__cause__ = RemoteTraceback(parts["traceback"])
    if parts.get("cause"):
        cause = _rebuild_exception(parts["cause"], python, with_traceback=False)
        innermost = error.__cause__
        error.__cause__ = cause
        while cause.__cause__ is not None:
            cause = cause.__cause__
        cause.__cause__ = innermost
    return error


def _described_exception(facts: Any) -> BaseException:
    """Return an exception of which there are only words, and plain arguments.

    One of Python's own is made anew from these; no other class is looked for, as its module would
    have to be imported by a name that the cluster chose.
    """
    kind = getattr(builtins, str(facts["type_name"]), None)
    error: BaseException | None = None
    if isinstance(kind, type) and issubclass(kind, Exception) and facts["args"] is not None:
        with contextlib.suppress(Exception):  # a group, say, of what is not here
            made = kind(*map(from_plain, facts["args"]))
            error = made if str(made) == facts["text"] else None
    if error is None:
        names = (str(facts[name]) for name in ("type_name", "text", "traceback"))
        error = RemoteTaskError(*names)
    if facts["notes"]:
        vars(error)["__notes__"] = list(map(str, facts["notes"]))
    cause = _described_exception(facts["cause"]) if facts["cause"] else None
    error.__cause__ = RemoteTraceback(str(facts["traceback"]))
    error.__cause__.__cause__ = cause
    return error


def _whole(parts: dict[str, Any], python: tuple[int, ...]) -> BaseException | None:
    """Return the exception as its own `__reduce__` makes it, if it is what it was."""
    if parts.get("whole") is None:
        return None
    try:
        error = restore(parts["whole"], python)
        if not isinstance(error, BaseException) or str(error) != parts["text"]:
            return None
        said = tuple(_open_or(pickled, text, python) for pickled, text in parts["said"])
        if repr(said) != repr(error.args):
            error.args = said
        for name, pickled in parts.get("state", {}).items():
            if name not in vars(error):
                vars(error)[name] = restore(pickled, python)
    except Exception:
        return None
    return error


def _alike(parts: dict[str, Any], python: tuple[int, ...]) -> BaseException | None:
    """Return the exception as its own `__reduce__` makes it, though its text is another one here.

    That of a newer or older version of its package, say. What it was there, the cause says.
    """
    try:
        error = restore(parts["whole"], python) if parts.get("whole") is not None else None
    except Exception:
        return None
    return error if isinstance(error, BaseException) else None


def _assembled(parts: dict[str, Any], python: tuple[int, ...]) -> BaseException | None:
    """Return the exception made of its parts, without its own `__init__`."""
    try:
        kind = restore(parts["type"], python)
        args = [_open_or(pickled, fallback, python) for pickled, fallback in parts.get("args", ())]
        if parts.get("members"):
            args[1] = [_rebuild_exception(one, python, False) for one in parts["members"]]
        # The built-in ones put their arguments into fields when they are made.
        builtin = next(base for base in kind.__mro__ if base.__module__ == "builtins")
        error: BaseException = kind(*args) if builtin is kind else kind.__new__(kind, *args)
        if builtin is not kind and not parts.get("members"):
            builtin.__init__(error, *args)
        vars(error).update(
            {name: restore(pickled, python) for name, pickled in parts.get("state", {}).items()}
        )
        str(error)  # one whose text needs what did not travel is of no use
    except Exception:
        return None
    return error


def _open_or(pickled: bytes | None, fallback: Any, python: tuple[int, ...]) -> Any:
    try:
        return restore(pickled, python) if pickled is not None else fallback
    except Exception:
        return fallback
