"""What a job's worker does without, so that it starts fast, and what it has instead."""

from __future__ import annotations

import hashlib
import hmac
import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from clustrix_prefect.far_side.wire import fast_stdlib as light
from tests.far_side.calls import Call

# Each takes longer to import than all of a worker's own modules.
HEAVY = {"cloudpickle", "hashlib", "inspect", "json", "logging", "re", "subprocess", "typing"}
PACKAGE = Path(light.__file__).parent

VALUES = [
    {"a": [1, -2.5, True, False, None], 'ä\n"\\': "\u2028\U0001f600"},
    [],
    {},
    "",
    0,
    1e300,
    10**40,
    {"nested": {"deeper": [[[]]]}},
]


def under(python: str, program: str) -> Any:
    """What a program that imports `light` prints, as JSON."""
    prelude = (
        f"import sys, json\nsys.path.insert(0, {str(PACKAGE)!r})\nimport fast_stdlib as light\n"
    )
    done = subprocess.run(
        [python, "-c", prelude + dedent(program)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_a_job_imports_little(far):
    call = Call("def f():\n    import sys\n    return sorted(sys.modules)")
    far.submit(call)
    loaded = set(far.value(call))
    done = subprocess.run(
        [far.python, "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True
    )
    at_start = set(done.stdout.split())  # a machine's `site` may import anything
    if sys.version_info[:2] == (3, 11) and "3.11" in far.python:
        assert not HEAVY & (loaded - at_start)
    else:
        assert not {"logging", "subprocess", "cloudpickle"} & (loaded - at_start)


def test_json_is_that_of_the_library(python):
    text = json.dumps(VALUES)
    assert under(python, f"print(light.to_json(json.loads({text!r})))") == VALUES
    assert under(python, f"print(json.dumps(light.from_json({text!r})))") == VALUES


@pytest.mark.parametrize("text", ["", "{", "nothing", '{"a":}'])
def test_what_is_not_json_is_refused(python, text):
    program = f"""
    try:
        light.from_json({text!r})
    except ValueError:
        print(1)
    """
    assert under(python, program) == 1


def test_what_is_beyond_json_is_refused(python):
    program = """
    try:
        light.to_json([object()])
    except TypeError:
        print(1)
    """
    assert under(python, program) == 1


@pytest.mark.parametrize("size", [0, 1, 63, 64, 1000, 3 * 1024 * 1024])
def test_digests_are_those_of_the_library(python, size):
    data = bytes(size)
    assert under(python, f"print(json.dumps(light.sha256(bytes({size}))))") == (
        hashlib.sha256(data).hexdigest()
    )


@pytest.mark.parametrize("key", [b"k" * 32, b"", b"\xff" * 64])
def test_signatures_are_those_of_the_library(python, key):
    message = b"some message"
    found = under(python, f"print(json.dumps(light.hmac_sha256({key!r}, {message!r})))")
    assert found == hmac.new(key, message, "sha256").hexdigest()
