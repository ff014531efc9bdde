"""Files that are not YAML, or that PyYAML stumbles over: one line each, with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from clustrix_prefect import KubernetesCluster
from clustrix_prefect.applying.files import WrongFiles, read_documents
from clustrix_prefect.cli.main import main
from clustrix_prefect.errors import ConfigurationError

_LAUGHS = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
WRONG = {
    "a control character": ('a: 1\nb: "x\x07y"\n', 2, "U+0007"),
    "a NUL": ("a: 1\nb: \0\n", 2, "U+0000"),
    "an impossible day": ("a: 1\nb: 2026-13-45\n", 2, "no timestamp"),
    "the 30th of February in the second document": ("a: 1\n---\nb: 2026-02-30\n", 3, "timestamp"),
    "an impossible time": ("a: 2026-01-01T25:61:61Z\n", 1, "no timestamp"),
    "an impossible time zone": ("a: 2026-01-01T00:00:00+99:99\n", 1, "no timestamp"),
    "a list within itself": ("a: 1\nb: &x\n  - *x\n", 2, "alias"),
    "a mapping within itself": ("a: &x\n  b: *x\n", 1, "alias"),
    "a mapping merged into itself": ("a: &x\n  <<: *x\n", 1, "alias"),
    "aliases of aliases": (_LAUGHS, None, "more than 100,000 parts"),
    "nested too deeply": ("a: 1\nb: " + "[" * 5000, 2, "nested too deeply"),
    "a number of 5,000 digits": (f"a: {'9' * 5000}\n", 1, "no int"),
    "no number": ("a: 1\nb: !!int x\n", 2, "no int"),
    "no truth value": ("a: !!bool perhaps\n", 1, "no bool"),
    "no time": ("a: !!timestamp x\n", 1, "no timestamp"),
    "a character that there is not": ('a: "\\UFFFFFFFF"\n', 1, "not possible"),
    "half of a pair of surrogates": ('a: "\\ud800"\n', 1, "no str"),
    "a list as a name": ("? [a, b]\n: 1\n", 1, "A name is one word"),
    "an object of Python's": ("a: !!python/object:os.system x\n", 1, "constructor"),
    "an alias of nothing": ("a: 1\nb: *y\n", 2, "undefined alias"),
    "base64": ('a: !!binary "abc"\n', 1, "base64"),
    "names twice, in both documents": ("a: 1\na: 2\n---\nb: 1\nb: 2\n", 2, "'a' is here twice"),
}


@pytest.mark.parametrize("what", WRONG)
def test_one_line_with_file_and_line(what: str, tmp_path: Path) -> None:
    text, line, told = WRONG[what]
    file = tmp_path / "wrong.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(WrongFiles) as caught:
        read_documents([file])
    first = caught.value.mistakes[0]
    assert first.file == file
    assert told in first.text
    assert line is None or first.line == line
    assert "\n" not in str(first)


def test_both_documents_are_told_of(tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(WRONG["names twice, in both documents"][0])
    with pytest.raises(WrongFiles) as caught:
        read_documents([file])
    assert [mistake.line for mistake in caught.value.mistakes] == [2, 5]


@pytest.mark.parametrize("what", ["blocks", "automations"])
def test_no_command_ends_in_a_traceback(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, (text, _, _) in enumerate(WRONG.values()):
        (tmp_path / f"{number:02}.yaml").write_text(text, encoding="utf-8")
    assert main([what, "apply", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert "Traceback" not in told
    assert all(f"{number:02}.yaml:" in told for number in range(len(WRONG)))


@pytest.mark.parametrize("text", ["a: 2026-13-45", "a: " + "[" * 5000, "a: \x07", "a: !!int x"])
def test_a_kubeconfig_that_is_none(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is no kubeconfig"):
        KubernetesCluster(image="x", kubeconfig=text).access()
