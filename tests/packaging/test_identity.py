"""The same code and data have the same identity in any process, and only they do."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from clustrix_prefect.packaging.identity import digest

PROGRAM = textwrap.dedent(
    """
    import sys
    from clustrix_prefect.packaging.identity import arguments_identity, function_identity
    from clustrix_prefect.packaging.pickling import dumps
    OFFSET = {offset}

    def add(x):
        return x + OFFSET

    def call(x, *, colours=frozenset({{"red", "green", "blue"}})):
        inner = [add(y) for y in x if y in {{1, 2, 3, "a", "b"}}]
        return inner

    arguments = (({{"a", "b", "c", "d"}}, 1.5, {{"k": frozenset({{("x", 1), ("y", 2)}})}}), {{}})
    pickled = dumps(arguments, sys.version_info[:2], "arguments")
    print(function_identity(call), arguments_identity(pickled, arguments))
    """
)


def identities(tmp_path, seed: str, directory: str, offset: int = 3, blank_lines: int = 0):
    path = tmp_path / directory / "program.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n" * blank_lines + PROGRAM.format(offset=offset))
    done = subprocess.run(
        [sys.executable, str(path)],
        env={"PYTHONHASHSEED": seed, "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_identities_do_not_depend_on_hash_seed_path_or_position(tmp_path):
    first = identities(tmp_path, "1", "here")
    again = identities(tmp_path, "2", "there", blank_lines=7)
    assert first == again
    assert len(first[0]) == len(first[1]) == 64


def test_a_changed_constant_of_a_helper_changes_the_function(tmp_path):
    first = identities(tmp_path, "1", "here")
    other = identities(tmp_path, "1", "here", offset=4)
    assert first[0] != other[0]
    assert first[1] == other[1]


@pytest.mark.parametrize(
    ("one", "other"), [(("a", "bc"), ("ab", "c")), (("a\n1:b",), ("a", "b")), ((), ("",))]
)
def test_a_digest_tells_where_each_part_ends(one, other):
    assert digest(*one) != digest(*other)
