"""Images for a node that reaches no registry: Debian, and a Python of this machine above it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from tests.live.kubernetes import build

PAUSE = "docker.io/clustrix/pause:1"
_LEFT_OUT = {"test", "tests", "idlelib", "tkinter", "turtledemo", "__pycache__", "lib2to3"}


def python_image(minor: str) -> str:
    """The name of the official image of a Python."""
    return f"docker.io/library/python:{minor}-slim"


def write_pause(target: IO[bytes]) -> None:
    """Write the image of the process that holds a pod's namespaces."""
    with tempfile.TemporaryDirectory() as directory:
        layer = Path(directory) / "layer.tar"
        with tarfile.open(layer, "w") as files:
            files.add(build.PROGRAMS / "pause", "pause")
        _write_image(target, PAUSE, [layer], ["/pause"])


def write_python(target: IO[bytes], minor: str, interpreter: str) -> None:
    """Write an image like the official `python:X.Y-slim`.

    Args:
        target: Takes the image, as `docker save` writes it.
        minor: The Python's minor version.
        interpreter: Such a Python on this machine.
    """
    layers = [build.LAYERS / "debian.tar", _python_layer(minor, interpreter)]
    _write_image(target, python_image(minor), layers, ["python3"])


def _python_layer(minor: str, interpreter: str) -> Path:
    """The files of a Python below /usr/local; made once."""
    program = Path(interpreter).resolve()
    identity = hashlib.sha256(f"{program} {program.stat().st_mtime_ns}".encode()).hexdigest()[:8]
    layer = build.LAYERS / f"python-{minor}-{identity}.tar"
    if layer.exists():
        return layer
    ask = "import sys, sysconfig; print(sysconfig.get_path('stdlib')); print(sys.base_prefix)"
    answer = subprocess.run([interpreter, "-c", ask], capture_output=True, text=True, check=True)
    modules, prefix = map(Path, answer.stdout.split())
    unfinished = layer.with_suffix(f".{os.getpid()}")
    with tarfile.open(unfinished, "w") as files:
        local = Path("usr/local")
        files.add(program, str(local / "bin" / f"python{minor}"))
        for name in ("python", "python3"):
            link = tarfile.TarInfo(str(local / "bin" / name))
            link.type, link.linkname = tarfile.SYMTYPE, f"python{minor}"
            files.addfile(link)
        for library in sorted((prefix / "lib").glob(f"libpython{minor}*.so.1.0")):
            # Found there without the loader's cache, wherever Python was built to look.
            files.add(library, f"usr/lib/{library.name}")
        files.add(modules, str(local / "lib" / f"python{minor}"), filter=_as_in_the_official_image)
    unfinished.rename(layer)
    return layer


def _as_in_the_official_image(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Leave out tests, and of the packages all but pip."""
    parts = info.name.split("/")
    if _LEFT_OUT & set(parts) or parts[-1].startswith(("libpython", "config-3")):
        return None
    for packages in ("site-packages", "dist-packages"):
        if packages in parts:
            package = "".join(parts[parts.index(packages) + 1 :][:1])
            if package and not package.startswith("pip"):
                return None
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    return info


def _write_image(
    target: IO[bytes], name: str, layers: Sequence[Path], command: Sequence[str]
) -> None:
    """Write an archive like that of `docker save`."""
    digests = [_digest(layer) for layer in layers]
    variables = ["PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"]
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
        "os": "linux",
        "config": {"Cmd": list(command), "Env": [*variables, "LANG=C.UTF-8"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
    }
    described = json.dumps(config).encode()
    config_name = f"{hashlib.sha256(described).hexdigest()}.json"
    paths = [f"{digest}/layer.tar" for digest in digests]
    manifest = [{"Config": config_name, "RepoTags": [name], "Layers": paths}]
    with tarfile.open(fileobj=target, mode="w|") as archive:
        for path, layer in zip(paths, layers, strict=True):
            archive.add(layer, path)
        for path, content in (
            (config_name, described),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            info = tarfile.TarInfo(path)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def main() -> int:
    """Write one image to standard output: `python -m tests.live.kubernetes.images 3.11 PATH`."""
    if sys.argv[1:]:
        write_python(sys.stdout.buffer, sys.argv[1], sys.argv[2])
    else:
        write_pause(sys.stdout.buffer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
