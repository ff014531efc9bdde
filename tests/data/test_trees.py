"""Folders as they are described, and what a description may not do."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from clustrix_prefect.far_side.wire import trees

FILE = ["f", "a", 1, "0" * 64, False]


def described(*entries: object) -> bytes:
    return json.dumps({"format": 1, "entries": entries}).encode()


def made(tmp_path: Path, *entries: object) -> Path:
    target = tmp_path / "made"
    trees.make(
        trees.parse(described(*entries)), str(target), lambda entry, path: Path(path).touch()
    )
    return target


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x", "a/../../x", "a//b", "", ".", "..", "a/./b", "a\0b", "a/"]
)
def test_paths_that_are_not_inside_are_refused(path: str):
    for entry in (["d", path], ["f", path, 1, "0" * 64, False], ["l", path, "x"]):
        with pytest.raises(trees.TreeError):
            trees.parse(described(entry))


@pytest.mark.parametrize(
    "target", ["/etc/passwd", "../x", "../../x", "", "b/../../x", "b/..", "b//c", "x\0y"]
)
def test_links_that_lead_out_are_refused(target: str):
    with pytest.raises(trees.TreeError):
        trees.parse(described(["l", "a", target]))


def test_links_may_not_lead_out_through_other_links():
    # d/up leads to the folder itself; through it, d/out would lead above the folder.
    with pytest.raises(trees.TreeError):
        trees.parse(described(["d", "d"], ["l", "d/up", ".."], ["l", "d/out", "up/.."]))
    trees.parse(described(["d", "d"], ["l", "d/up", ".."], ["l", "d/in", "up/d"]))


def test_nothing_is_made_below_a_link_or_a_file():
    for above in (["l", "a", "b"], FILE):
        with pytest.raises(trees.TreeError, match="no directory"):
            trees.parse(described(above, ["f", "a/x", 1, "0" * 64, False]))
    with pytest.raises(trees.TreeError, match="twice"):
        trees.parse(described(FILE, FILE))


@pytest.mark.parametrize(
    "description",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"format": 2, "entries": []}',
        described(["x", "a"]),
        described(["f", "a", "1", "0" * 64, False]),
        described(["d"]),
        described(7),
    ],
)
def test_anything_else_is_no_description(description: bytes):
    with pytest.raises(trees.TreeError):
        trees.parse(description)


def test_a_folder_is_made_as_described(tmp_path: Path):
    target = made(
        tmp_path, FILE, ["d", "empty"], ["f", "deep/er/b", 1, "0" * 64, True], ["l", "l", "deep/er"]
    )
    found = sorted(str(path.relative_to(target)) for path in target.rglob("*"))
    assert found == ["a", "deep", "deep/er", "deep/er/b", "empty", "l"]
    assert os.readlink(target / "l") == "deep/er"


def test_what_a_folder_consists_of(tmp_path: Path):
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "sub/file").write_text("x")
    (tmp_path / "elsewhere").write_text("y")
    (root / "inside").symlink_to(root / "sub" / "file")
    (root / "sub/chain").symlink_to("../inside")
    (root / "outside").symlink_to(tmp_path / "elsewhere")
    found = {path: (kind, what) for kind, path, what in trees.scan(str(root))}
    assert found == {
        "sub": ("d", ""),
        "sub/file": ("f", str(root / "sub/file")),
        "inside": ("l", "sub/file"),
        "sub/chain": ("l", "file"),
        "outside": ("f", str(tmp_path / "elsewhere")),
    }


def test_what_cannot_be_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = tmp_path / "root"
    root.mkdir()
    (root / "out").symlink_to("/usr")
    with pytest.raises(trees.TreeError, match="outside the folder"):
        list(trees.scan(str(root)))
    (root / "out").unlink()
    (root / "broken").symlink_to("nowhere")
    with pytest.raises(trees.TreeError, match="leads nowhere"):
        list(trees.scan(str(root)))
    (root / "broken").unlink()
    (root / "loop").symlink_to("loop")
    with pytest.raises(trees.TreeError, match="leads nowhere"):
        list(trees.scan(str(root)))
    (root / "loop").unlink()
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(root)
        listening.bind("s")
        with pytest.raises(trees.TreeError, match="neither a file"):
            list(trees.scan(str(root)))
