"""What a cluster names stays in the directory that somebody chose."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from clustrix_prefect import RemoteFile, RemoteFolder
from clustrix_prefect.errors import TamperedResult
from clustrix_prefect.far_side.wire import trees
from clustrix_prefect.sessions.remote_files import arrived
from clustrix_prefect.transfer.drafts import (
    name_of_draft,
    open_draft,
    open_draft_directory,
    replacing,
)

DIGEST = "a" * 64


def facts(**changes: Any) -> dict[str, Any]:
    plain = {"kind": "file", "name": "x", "store": "s", "path": None, "size": 1}
    return {**plain, "content": DIGEST, **changes}


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/b", "..", ".", "", "a\0b", None, ["x"]])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_name_that_is_none_is_not_followed(kind: str, name: Any, tmp_path: Path) -> None:
    what = arrived(facts(kind=kind, name=name))
    assert isinstance(what, RemoteFile | RemoteFolder)
    with pytest.raises(TamperedResult, match="which is none"):
        what.download(tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content", ["../../x", "/etc/hostname", "A" * 64, "a" * 63, "a" * 64 + "\n"]
)
def test_a_content_that_is_no_digest_is_none(content: str) -> None:
    with pytest.raises(ValueError, match="does not name a content"):
        arrived(facts(content=content))
    with pytest.raises(trees.TreeError, match="no content"):
        trees.parse(trees.describe([["f", "x", 1, content, False]]))


def test_sizes_of_files_are_sizes() -> None:
    with pytest.raises(trees.TreeError):
        trees.parse(trees.describe([["f", "x", -1, DIGEST, False]]))


# --- drafts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x", "x" * 255, "长" * 85, os.fsdecode(b"\xff" * 255)])
def test_drafts_have_names_that_fit(name: str, tmp_path: Path) -> None:
    ending = f".{'a' * 16}.partial.files"
    found = name_of_draft(name, ending)
    assert len(os.fsencode(found)) <= 255
    assert found == name_of_draft(name, ending)
    assert found != name_of_draft(name[:-1] + "y", ending)
    (tmp_path / found).touch()
    with replacing(tmp_path / name) as file:
        file.write(b"1")
    assert (tmp_path / name).read_bytes() == b"1"


def test_a_draft_is_not_written_through_what_somebody_put_there(tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "link").symlink_to("victim")
    os.link(tmp_path / "victim", tmp_path / "hard")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "directory").mkdir()
    for name in ("link", "hard", "pipe", "directory"):
        path, descriptor = open_draft(tmp_path / name)
        os.write(descriptor, b"new")
        os.close(descriptor)
        assert path.name != name
        assert path.read_bytes() == b"new"
    assert (tmp_path / "victim").read_bytes() == b"precious"


def test_what_an_earlier_attempt_left_is_found_again(tmp_path: Path) -> None:
    (tmp_path / "draft").write_bytes(b"left")
    path, descriptor = open_draft(tmp_path / "draft")
    assert (path.name, os.read(descriptor, 9)) == ("draft", b"left")
    os.close(descriptor)
    assert open_draft_directory(tmp_path / "files") == tmp_path / "files"
    assert open_draft_directory(tmp_path / "files") == tmp_path / "files"


def test_a_directory_of_somebody_elses_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "link").symlink_to("theirs")
    if os.geteuid() == 0:
        os.chown(tmp_path / "theirs", 54321, -1)
        assert open_draft_directory(tmp_path / "theirs") != tmp_path / "theirs"
    found = open_draft_directory(tmp_path / "link")
    assert found != tmp_path / "link"
    assert found.stat().st_mode & 0o777 == 0o700


def test_half_a_file_takes_nobodys_place(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"old")

    def break_off() -> None:
        with replacing(tmp_path / "x") as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        break_off()
    assert (tmp_path / "x").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]
