"""Small wheels for the tests, written by hand: nothing has to be downloaded to build with."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path


def write_wheel(
    directory: Path, name: str, version: str, *, requires: Sequence[str] = (), python: str = ""
) -> Path:
    """A wheel of one module of that name, which knows its version.

    Args:
        directory: Where to put it.
        name: Of the package and its module.
        version: The package's.
        requires: Other packages that it needs.
        python: What it asks of the interpreter.
    """
    info = f"{name}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    metadata += [f"Requires-Dist: {other}" for other in requires]
    metadata += [f"Requires-Python: {python}"] if python else []
    files = {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": "\n".join(metadata) + "\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [*(f"{file},," for file in files), f"{info}/RECORD,,"]
    files[f"{info}/RECORD"] = "\n".join(record) + "\n"
    path = directory / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in files.items():
            wheel.writestr(file, text)
    return path


def unpacked(
    directory: Path,
    version: str,
    *,
    name: str = "tinypkg",
    requires: Sequence[str] = (),
    python: str = "",
) -> Path:
    """A directory to import the package from, in this version."""
    directory.mkdir(exist_ok=True)
    made = write_wheel(directory, name, version, requires=requires, python=python)
    with zipfile.ZipFile(made) as wheel:
        wheel.extractall(directory)
    return directory
