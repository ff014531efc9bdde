"""What fsspec's suites leave out, held against `LocalFileSystem` on an equal tree."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from clustrix_prefect import ClusterFileSystem, SSHCluster
from tests.filesystem.rooted_host import RootedSSHHost

# What differs between any two copies of a tree.
_OF_THE_COPY = {"ino", "created", "uid", "gid", "mtime"}
_HOSTILE = "a b'c\"d\ne\\f;g$(h)`i`|j&k*l?m[n]o%p~q#r::s"


@dataclass(frozen=True)
class Side:
    """A filesystem, the root of a tree as it knows it, and as this machine does."""

    fs: Any
    root: str
    here: Path


def _plant(top: Path) -> None:
    (top / "sub/deep/deeper").mkdir(parents=True)
    (top / "empty").mkdir()
    (top / ".hidden").mkdir()
    (top / "a.csv").write_bytes(b"0123456789")
    (top / "b.csv").write_bytes(b"")
    (top / ".dot").write_bytes(b"dot")
    (top / ".hidden/inside.csv").write_bytes(b"h")
    (top / "sub/nested.csv").write_bytes(b"nested")
    (top / "sub/deep/x.txt").write_bytes(b"x" * 100)
    (top / "sub/deep/deeper/y.txt").write_bytes(b"y" * 70_000)
    (top / _HOSTILE).write_bytes(b"hostile")
    (top / os.fsdecode(b"latin-\xe9\xff")).write_bytes(b"bytes")
    (top / "to-file").symlink_to("a.csv")
    (top / "to-directory").symlink_to("sub")
    (top / "a.csv").chmod(0o640)
    for path in sorted(top.rglob("*")):
        os.utime(path, (1_600_000_000.25, 1_600_000_000.5))


@pytest.fixture
def sides(
    rooted: SSHCluster, rooted_host: RootedSSHHost, far_directory: str, tmp_path: Path
) -> tuple[Side, Side]:
    far = rooted_host.home / far_directory.rpartition("/")[2]
    local = tmp_path / "tree"
    local.mkdir()
    for top in (far, local):
        _plant(top)
    for path in [far, *far.rglob("*")]:
        os.chown(path, rooted_host.uid, -1, follow_symlinks=False)
    return (
        Side(ClusterFileSystem(rooted, auto_mkdir=False), far_directory, far),
        Side(LocalFileSystem(), str(local), local),
    )


def _plain(value: Any, root: str) -> Any:
    """A value without what differs between the two trees."""
    if isinstance(value, str):
        return value.replace(root, "ROOT")
    if isinstance(value, bytes | int | float | None):
        return value
    if isinstance(value, dict):
        kept = {
            _plain(key, root): _plain(item, root)
            for key, item in value.items()
            if key not in _OF_THE_COPY
        }
        if kept.get("type") == "directory":
            kept.pop("size", None)  # as the file system has it
        return kept
    return [_plain(item, root) for item in value]


def _outcome(side: Side, ask: Callable[[Any, str], Any]) -> Any:
    try:
        value = ask(side.fs, side.root)
        value = list(value) if isinstance(value, Iterator) else value
    except (OSError, ValueError) as error:
        return type(error)
    return _plain(value, side.root)


def _listed(fs: Any, path: str, **options: Any) -> Any:
    """A listing in an order of its own, which directories do not have."""
    found = fs.ls(path, **options)
    return sorted(found, key=lambda one: one["name"] if isinstance(one, dict) else one)


def _walked(fs: Any, path: str, **options: Any) -> Any:
    return sorted(
        (where, sorted(dirs), sorted(files)) for where, dirs, files in fs.walk(path, **options)
    )


def _pruned(fs: Any, path: str) -> Any:
    found = []
    for where, dirs, files in fs.walk(path):
        if "deep" in dirs:
            dirs.remove("deep")
        found.append((where, sorted(dirs), sorted(files)))
    return sorted(found)


QUESTIONS: dict[str, Callable[[Any, str], Any]] = {
    "ls": lambda fs, r: _listed(fs, r, detail=True),
    "ls names": lambda fs, r: _listed(fs, r, detail=False),
    "ls slash": lambda fs, r: _listed(fs, r + "/", detail=False),
    "ls empty": lambda fs, r: fs.ls(f"{r}/empty"),
    "ls file": lambda fs, r: fs.ls(f"{r}/a.csv", detail=True),
    "ls file name": lambda fs, r: fs.ls(f"{r}/a.csv", detail=False),
    "ls link": lambda fs, r: _listed(fs, f"{r}/to-directory", detail=False),
    "ls missing": lambda fs, r: fs.ls(f"{r}/none"),
    "ls below a file": lambda fs, r: fs.ls(f"{r}/a.csv/x"),
    "find": lambda fs, r: fs.find(r),
    "find detail": lambda fs, r: fs.find(r, detail=True),
    "find dirs": lambda fs, r: fs.find(r, withdirs=True),
    "find dirs detail": lambda fs, r: fs.find(r, withdirs=True, detail=True),
    "find depth 1": lambda fs, r: fs.find(r, maxdepth=1),
    "find depth 2": lambda fs, r: fs.find(r, maxdepth=2, withdirs=True),
    "find depth 0": lambda fs, r: fs.find(r, maxdepth=0),
    "find file": lambda fs, r: fs.find(f"{r}/a.csv"),
    "find file detail": lambda fs, r: fs.find(f"{r}/a.csv", detail=True),
    "find missing": lambda fs, r: fs.find(f"{r}/none"),
    "find empty": lambda fs, r: fs.find(f"{r}/empty", withdirs=True),
    "find through link": lambda fs, r: fs.find(f"{r}/to-directory"),
    "glob": lambda fs, r: fs.glob(f"{r}/*.csv"),
    "glob deep": lambda fs, r: fs.glob(f"{r}/**/*.csv"),
    "glob all": lambda fs, r: fs.glob(f"{r}/**"),
    "glob depth": lambda fs, r: fs.glob(f"{r}/**", maxdepth=2),
    "glob one letter": lambda fs, r: fs.glob(f"{r}/?.csv"),
    "glob class": lambda fs, r: fs.glob(f"{r}/[ab].csv"),
    "glob directories": lambda fs, r: fs.glob(f"{r}/*/"),
    "glob none": lambda fs, r: fs.glob(f"{r}/*.nothing"),
    "glob detail": lambda fs, r: fs.glob(f"{r}/*.csv", detail=True),
    "glob literal": lambda fs, r: fs.glob(f"{r}/a.csv"),
    "walk": lambda fs, r: _walked(fs, r),
    "walk depth": lambda fs, r: _walked(fs, r, maxdepth=2),
    "walk bottom up": lambda fs, r: _walked(fs, r, topdown=False),
    "walk pruned": _pruned,
    "walk missing": lambda fs, r: _walked(fs, f"{r}/none"),
    "walk missing, raised": lambda fs, r: _walked(fs, f"{r}/none", on_error="raise"),
    "du": lambda fs, r: fs.du(r),
    "du each": lambda fs, r: fs.du(r, total=False),
    "du depth": lambda fs, r: fs.du(r, total=False, maxdepth=1),
    "du file": lambda fs, r: fs.du(f"{r}/a.csv"),
    "du missing": lambda fs, r: fs.du(f"{r}/none"),
    "info": lambda fs, r: fs.info(f"{r}/a.csv"),
    "info directory": lambda fs, r: fs.info(f"{r}/sub"),
    "info hostile": lambda fs, r: fs.info(f"{r}/{_HOSTILE}"),
    "info link": lambda fs, r: fs.info(f"{r}/to-file"),
    "info link to directory": lambda fs, r: fs.info(f"{r}/to-directory"),
    "info missing": lambda fs, r: fs.info(f"{r}/none"),
    "info null byte": lambda fs, r: fs.info(f"{r}/a\0b"),
    "exists": lambda fs, r: [fs.exists(f"{r}/{name}") for name in ("a.csv", "sub", "x", "to-file")],
    "isdir": lambda fs, r: [fs.isdir(f"{r}/{name}") for name in ("a.csv", "sub", "to-directory")],
    "isfile": lambda fs, r: [fs.isfile(f"{r}/{name}") for name in ("a.csv", "sub", "to-file")],
    "islink": lambda fs, r: [fs.islink(f"{r}/{name}") for name in ("a.csv", "to-file", "none")],
    "lexists": lambda fs, r: [fs.lexists(f"{r}/{name}") for name in ("a.csv", "to-file", "none")],
    "size": lambda fs, r: fs.size(f"{r}/a.csv"),
    "sizes": lambda fs, r: fs.sizes([f"{r}/a.csv", f"{r}/b.csv"]),
    "modified": lambda fs, r: fs.modified(f"{r}/a.csv").timestamp(),
    "cat": lambda fs, r: fs.cat(f"{r}/a.csv"),
    "cat many": lambda fs, r: fs.cat(r + "/*.csv"),
    "cat hostile": lambda fs, r: fs.cat_file(f"{r}/{_HOSTILE}"),
    "cat directory": lambda fs, r: fs.cat_file(f"{r}/sub"),
    "cat missing": lambda fs, r: fs.cat_file(f"{r}/none"),
    "range": lambda fs, r: fs.cat_file(f"{r}/a.csv", 2, 5),
    "range from": lambda fs, r: fs.cat_file(f"{r}/a.csv", 7),
    "range from the end": lambda fs, r: fs.cat_file(f"{r}/a.csv", -3),
    "range up to the end": lambda fs, r: fs.cat_file(f"{r}/a.csv", 1, -2),
    "range beyond": lambda fs, r: fs.cat_file(f"{r}/a.csv", 8, 100),
    "range nowhere": lambda fs, r: fs.cat_file(f"{r}/a.csv", 100, 200),
    "range backwards": lambda fs, r: fs.cat_file(f"{r}/a.csv", 5, 2),
    "ranges": lambda fs, r: fs.cat_ranges([f"{r}/a.csv"] * 3, [0, 3, -2], [2, 6, None]),
    "head": lambda fs, r: fs.head(f"{r}/a.csv", 4),
    "tail": lambda fs, r: fs.tail(f"{r}/a.csv", 4),
    "block": lambda fs, r: fs.read_block(f"{r}/a.csv", 2, 4),
    "text": lambda fs, r: fs.read_text(f"{r}/a.csv"),
    "seek": lambda fs, r: _seek(fs, f"{r}/sub/deep/deeper/y.txt"),
    "expand": lambda fs, r: fs.expand_path(f"{r}/sub", recursive=True),
}


def _seek(fs: Any, path: str) -> Any:
    with fs.open(path, "rb") as file:
        file.seek(69_990)
        end = file.read(100)
        file.seek(-5, 2)
        return [end, file.read(), file.tell()]


@pytest.mark.parametrize("name", QUESTIONS)
def test_looking(sides: tuple[Side, Side], name: str) -> None:
    far, local = (_outcome(side, QUESTIONS[name]) for side in sides)
    assert far == local


def _written(fs: Any, path: str, mode: str, *pieces: bytes, **options: Any) -> None:
    with fs.open(path, mode, **options) as file:
        for piece in pieces:
            file.write(piece)


def _in_transaction(fs: Any, root: str, fail: bool) -> None:
    try:
        with fs.transaction:
            _written(fs, f"{root}/a.csv", "wb", b"new")
            if fail:
                raise ValueError("not this time")
    except ValueError:
        pass


CHANGES: dict[str, Callable[[Any, str], Any]] = {
    "mv file": lambda fs, r: fs.mv(f"{r}/a.csv", f"{r}/moved"),
    "mv into directory": lambda fs, r: fs.mv(f"{r}/a.csv", f"{r}/sub"),
    "mv over file": lambda fs, r: fs.mv(f"{r}/a.csv", f"{r}/b.csv"),
    "mv directory": lambda fs, r: fs.mv(f"{r}/sub", f"{r}/elsewhere", recursive=True),
    "mv missing": lambda fs, r: fs.mv(f"{r}/none", f"{r}/x"),
    "mv to a missing directory": lambda fs, r: fs.mv(f"{r}/a.csv", f"{r}/none/x"),
    "mv to where it is": lambda fs, r: fs.mv(f"{r}/sub/nested.csv", f"{r}/sub"),
    "mv hostile": lambda fs, r: fs.mv(f"{r}/{_HOSTILE}", f"{r}/sub/{_HOSTILE}2"),
    "cp": lambda fs, r: fs.cp_file(f"{r}/a.csv", f"{r}/copy"),
    "cp directory": lambda fs, r: fs.cp_file(f"{r}/sub", f"{r}/copy"),
    "cp missing": lambda fs, r: fs.cp_file(f"{r}/none", f"{r}/copy"),
    "cp onto itself": lambda fs, r: fs.cp_file(f"{r}/a.csv", f"{r}/a.csv"),
    "cp recursive": lambda fs, r: fs.cp(f"{r}/sub/", f"{r}/copy/", recursive=True),
    "rm": lambda fs, r: fs.rm(f"{r}/a.csv"),
    "rm link": lambda fs, r: fs.rm(f"{r}/to-directory", recursive=True),
    "rm directory": lambda fs, r: fs.rm(f"{r}/sub"),
    "rm recursive": lambda fs, r: fs.rm(f"{r}/sub", recursive=True),
    "rm several": lambda fs, r: fs.rm([f"{r}/a.csv", f"{r}/b.csv"]),
    "rm star": lambda fs, r: fs.rm(f"{r}/*.csv"),
    "rm missing": lambda fs, r: fs.rm(f"{r}/none"),
    "rm_file": lambda fs, r: fs.rm_file(f"{r}/{_HOSTILE}"),
    "mkdir": lambda fs, r: fs.mkdir(f"{r}/new/er/est"),
    "mkdir alone": lambda fs, r: fs.mkdir(f"{r}/new/er", create_parents=False),
    "mkdir there": lambda fs, r: fs.mkdir(f"{r}/sub"),
    "mkdir over file": lambda fs, r: fs.mkdir(f"{r}/a.csv"),
    "makedirs there": lambda fs, r: fs.makedirs(f"{r}/sub"),
    "makedirs, be it there": lambda fs, r: fs.makedirs(f"{r}/sub", exist_ok=True),
    "rmdir": lambda fs, r: fs.rmdir(f"{r}/empty"),
    "rmdir not empty": lambda fs, r: fs.rmdir(f"{r}/sub"),
    "touch": lambda fs, r: fs.touch(f"{r}/a.csv"),
    "touch gently": lambda fs, r: fs.touch(f"{r}/a.csv", truncate=False),
    "touch new": lambda fs, r: fs.touch(f"{r}/new"),
    "pipe": lambda fs, r: fs.pipe_file(f"{r}/a.csv", b"other"),
    "pipe much": lambda fs, r: fs.pipe_file(f"{r}/much", bytes(range(256)) * 20_000),
    "pipe to a missing directory": lambda fs, r: fs.pipe_file(f"{r}/none/x", b""),
    "pipe through link": lambda fs, r: fs.pipe_file(f"{r}/to-file", b"through"),
    "open w": lambda fs, r: _written(fs, f"{r}/a.csv", "wb", b"ab", b"cd"),
    "open a": lambda fs, r: _written(fs, f"{r}/a.csv", "ab", b"ab", b"cd"),
    "open a new": lambda fs, r: _written(fs, f"{r}/log", "ab", b"line"),
    "open x": lambda fs, r: _written(fs, f"{r}/fresh", "xb", b"line"),
    "open x there": lambda fs, r: _written(fs, f"{r}/a.csv", "xb", b"line"),
    "open w, blocks": lambda fs, r: _written(
        fs, f"{r}/blocks", "wb", b"x" * 1000, b"y" * 3000, b"z", block_size=512
    ),
    "open w, nothing": lambda fs, r: _written(fs, f"{r}/a.csv", "wb"),
    "open text": lambda fs, r: fs.write_text(f"{r}/text", "Grüße\n"),
    "transaction": lambda fs, r: _in_transaction(fs, r, fail=False),
    "transaction that failed": lambda fs, r: _in_transaction(fs, r, fail=True),
    "link": lambda fs, r: fs.link(f"{r}/a.csv", f"{r}/hard"),
    "symlink": lambda fs, r: (
        fs.symlink("a.csv", f"{r}/soft")
        if fs.protocol == "cluster"
        else os.symlink("a.csv", f"{r}/soft")
    ),
    "chmod": lambda fs, r: fs.chmod(f"{r}/a.csv", 0o600),
}


def _on_disk(top: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted(top.rglob("*")):
        name, mode = str(path.relative_to(top)), path.lstat().st_mode
        if path.is_symlink():
            found[name] = ("link", os.readlink(path))
        elif path.is_dir():
            found[name] = ("directory", None)
        else:
            found[name] = (oct(mode), path.read_bytes())
    return found


@pytest.mark.parametrize("name", CHANGES)
def test_changing(sides: tuple[Side, Side], name: str) -> None:
    far, local = (_outcome(side, CHANGES[name]) for side in sides)
    assert far == local
    assert _on_disk(sides[0].here) == _on_disk(sides[1].here)


def test_a_broken_link_is_listed(sides: tuple[Side, Side]) -> None:
    for side in sides:
        (side.here / "broken").symlink_to("nowhere")
    names = {"ls": lambda fs, r: _listed(fs, r, detail=True), "find": lambda fs, r: fs.find(r)}
    for ask in [*names.values(), lambda fs, r: fs.info(f"{r}/broken")]:
        far, local = (_outcome(side, ask) for side in sides)
        assert far == local
    far = sides[0]
    assert far.fs.lexists(f"{far.root}/broken")
    assert not far.fs.exists(f"{far.root}/broken")


def test_a_directory_that_cannot_be_read_does_not_end_a_walk(sides: tuple[Side, Side]) -> None:
    far = sides[0]
    (far.here / "sub/deep").chmod(0)
    every = sorted(where.removeprefix(far.root) for where, _, _ in far.fs.walk(far.root))
    assert every == ["", "/.hidden", "/empty", "/sub"]
    met: list[OSError] = []
    list(far.fs.walk(far.root, on_error=met.append))
    assert [(type(error), error.filename) for error in met] == [
        (PermissionError, f"{far.root}/sub/deep")
    ]
    with pytest.raises(PermissionError):
        list(far.fs.walk(far.root, on_error="raise"))
    with pytest.raises(PermissionError):
        far.fs.ls(f"{far.root}/sub/deep")
    assert f"{far.root}/sub/nested.csv" in far.fs.find(far.root)
    (far.here / "sub/deep").chmod(0o755)


def test_downloads_and_uploads_tell_how_far_they_are(
    sides: tuple[Side, Side], tmp_path: Path
) -> None:
    from fsspec.callbacks import Callback

    far, content = sides[0], os.urandom(9_000_001)
    (tmp_path / "up").write_bytes(content)
    for act, source, target in (
        (far.fs.put_file, str(tmp_path / "up"), f"{far.root}/up"),
        (far.fs.get_file, f"{far.root}/up", str(tmp_path / "down")),
    ):
        seen: list[int] = []
        callback = Callback(hooks={"note": lambda size, value, seen=seen: seen.append(value)})
        act(source, target, callback=callback)
        assert (callback.size, callback.value) == (9_000_001, 9_000_001)
        assert seen == sorted(seen)
        assert len(seen) > 5
    assert (far.here / "up").read_bytes() == content
    assert (tmp_path / "down").read_bytes() == content
