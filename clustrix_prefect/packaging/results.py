"""What comes back from a call: verified, then opened.

The far side writes a JSON header and a body (`far_side/call.py`). The header's signature
covers protocol, call, attempt, kind, status and the digest of the body; nothing of the body
is read before it fits.
"""

from __future__ import annotations

import json
from typing import Any

from clustrix_prefect.errors import (
    CallNotPortable,
    NodeMismatch,
    RemoteTaskError,
    ResultNotPortable,
    TamperedResult,
)
from clustrix_prefect.packaging import signing
from clustrix_prefect.packaging.identity import sha256
from clustrix_prefect.packaging.pickling import restore


class RemoteTraceback(Exception):
    """The far side's traceback: the cause of an exception that a task raised there."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text.rstrip()}\n"""'


def open_result(key: bytes, call_id: str, attempt: int, header: dict[str, Any], body: bytes) -> Any:
    """The value that a call returned.

    Raises:
        TamperedResult: The signature does not fit this call.
        CallNotPortable: The function or its arguments cannot be opened there.
        ResultNotPortable: The task ran, but its value cannot be pickled or unpickled.
        BaseException: What the task raised, as what it was.
    """
    signed = (
        "clustrix-result/1",
        call_id,
        str(attempt),
        "result",
        str(header.get("status")),
        sha256(body),
    )
    if not signing.verify(key, str(header.get("mac", "")), *signed):
        raise TamperedResult(
            "The signature of a result does not fit, so it was not opened.",
            "Find out who else can write to the cluster's work directory, then run again.",
        )
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
                f"The node {header['host']} is not set up as the login node is, so it did not run"
                f" the call: {fault['text']}.",
                "Install there what the login node has; or name what all nodes have (`python`,"
                " `modules`, `conda_environment`, `virtual_environment`), or let the block's"
                " `managed_environment=ManagedEnvironment()` bring it.",
            )
        raise CallNotPortable(
            f"The far side would not run the call: {fault['type_name']}:"
            f" {fault['text'].rstrip('.')}.",
            "Install there what is missing, or do without it.",
        )
    python = tuple(header["python"][:2])
    if header["status"] == "raised":
        raise _rebuild_exception(restore(body, python), python)
    try:
        return restore(body, python)
    except Exception as error:
        raise ResultNotPortable(
            f"The task ran, but what it returned cannot be opened here: {error}.",
            "Install the packages that it needs here too, or return plain data.",
        ) from error


def _rebuild_exception(
    parts: dict[str, Any], python: tuple[int, ...], with_traceback: bool = True
) -> BaseException:
    """The exception that was raised far away, as its own `__reduce__` makes it.

    Where that does not bring it back as it was (an `__init__` with other arguments than `args`),
    it is made of its parts, each of which travels by itself: one that cannot be opened loses
    only itself.
    """
    error = _whole(parts, python)
    if error is None:
        error = _assembled(parts, python)
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


def _whole(parts: dict[str, Any], python: tuple[int, ...]) -> BaseException | None:
    """The exception as its own `__reduce__` makes it, if it is what it was."""
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


def _assembled(parts: dict[str, Any], python: tuple[int, ...]) -> BaseException:
    """The exception made of its parts, without its own `__init__`."""
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
        return RemoteTaskError(parts["type_name"], parts["text"], parts.get("traceback", ""))
    return error


def _open_or(pickled: bytes | None, fallback: Any, python: tuple[int, ...]) -> Any:
    try:
        return restore(pickled, python) if pickled is not None else fallback
    except Exception:
        return fallback
