"""Files that a shared directory shows to another host only after a while."""

from __future__ import annotations

import shlex

import pytest

from tests.far_side.calls import Call, sha256
from tests.far_side.far import Far

DOUBLE = "def f(x):\n    return 2 * x"
LARGE = "y" * 50_000


def run_with_late(far: Far, call: Call, late: str, seconds: float = 2) -> str:
    """The worker's standard error in a job that sees this file only some seconds later."""
    worker = f"{far.python} {far.facts['far_side']}/worker.py --batch $PWD"
    path = shlex.quote(late)
    script = (
        f"#!/bin/sh\nmv {path} hidden\n"
        f"{{ sleep {seconds}; mv hidden {path}; }} > /dev/null 2>&1 &\n{worker}\n"
    )
    answer = far.submit(call, script=script, command=["sh", "{script}"])
    return str(answer["stderr"])


def test_a_manifest_that_comes_late(far: Far) -> None:
    call = Call(DOUBLE, (4,))
    assert run_with_late(far, call, "calls.jsonl") == ""
    assert far.value(call) == 8


@pytest.mark.parametrize("which", ["code", "arguments"])
def test_a_blob_that_comes_late(far: Far, which: str) -> None:
    call = Call(DOUBLE, (LARGE,))
    blob = {"code": call.bundle, "arguments": call.payload}[which]
    assert run_with_late(far, call, str(far.work_dir / "store" / sha256(blob))) == ""
    assert far.value(call) == 2 * LARGE


def test_one_that_never_comes(old_far: Far) -> None:
    call = Call(DOUBLE, (LARGE,))
    late = str(old_far.work_dir / "store" / sha256(call.payload))
    run_with_late(old_far, call, late, seconds=60)
    header, body = old_far.outcome(call)
    assert header["status"] == "refused"
    assert b"NotInStore" in body
