"""The same code and data have the same identity in any process, and only they have."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from clustrix_prefect.packaging.identity import digest

HELPER = "SCALE = 2\ndef scaled(x):\n    return x * SCALE\n"
PROGRAM = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from clustrix_prefect.packaging.arguments import pack_arguments
    from clustrix_prefect.packaging.function_bundles import FunctionBundles
    from clustrix_prefect.packaging.identity import sha256
    from helper import scaled
    OFFSET = {offset}
    KNOWN = {{"a": frozenset({{"red", "green", "blue"}})}}

    class Point:
        def __init__(self, x):
            self.x = x

    def add(x):{comment}
        return scaled(x) + OFFSET

    def call(x, *, colours=frozenset({{"red", "green", "blue"}})):
        inner = [add(y) for y in x if y in {{1, 2, 3, "a", "b"}}]
        return inner, KNOWN

    here = sys.version_info[:2]
    class Names(set):
        pass

    large = {{f"name {{number}}" for number in range(10_000)}}
    shared = {{(word, frozenset({{word, None}})) for word in ("red", "green", "blue")}}
    arguments = pack_arguments(
        (
            {{"a", "b", "c", "d"}}, 1.5, {{"k": frozenset({{("x", 1), ("y", 2)}})}}, Point(1),
            large, [shared, Point(shared), Names(["a", "b", "c"]), {{Path("x"), "x", 1, b"y"}}],
        ),
        {{}}, here, "call",
    )
    bundle = FunctionBundles(call, here, "call").for_arguments(arguments.met)
    print(bundle.identity, arguments.identity)
    """
)


def identities(
    tmp_path, seed: str, directory: str, offset: int = 3, blank_lines: int = 0, comment: str = ""
):
    path = tmp_path / directory / "program.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n" * blank_lines + PROGRAM.format(offset=offset, comment=comment))
    helper = path.with_name("helper.py")
    helper.write_text(HELPER)
    os.utime(helper, (len(seed), blank_lines))
    done = subprocess.run(
        [sys.executable, str(path)],
        env={"PYTHONHASHSEED": seed, "PATH": "", "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
    )
    assert not done.returncode, done.stderr
    return done.stdout.split()


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """The identities that others are compared with."""
    return identities(tmp_path_factory.mktemp("first"), "1", "here")


def test_identities_do_not_depend_on_hash_seed_path_or_position(first, tmp_path):
    assert identities(tmp_path, "22", "there") == first
    assert identities(tmp_path, "2", "there", blank_lines=7, comment="  # moved") == first
    assert [len(digest) for digest in first] == [64] * 2


def test_a_changed_constant_of_a_helper_changes_the_function(first, tmp_path):
    other = identities(tmp_path, "1", "here", offset=4)
    assert first[0] != other[0]
    assert first[1] == other[1]


@pytest.mark.parametrize(
    ("one", "other"), [(("a", "bc"), ("ab", "c")), (("a\n1:b",), ("a", "b")), ((), ("",))]
)
def test_a_digest_tells_where_each_part_ends(one, other):
    assert digest(*one) != digest(*other)
