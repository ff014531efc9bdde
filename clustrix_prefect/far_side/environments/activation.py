"""What activating a conda environment does, without conda."""

import glob
import json
import os
import shlex
from typing import Any, Dict, Iterator, List

from ..wire.login import login_environment
from ..wire.protocol import CondaEnvironment

_ROOTS = (
    "~/miniforge3",
    "~/miniconda3",
    "~/mambaforge",
    "~/anaconda3",
    "~/micromamba",
    "~/.conda",
    "/opt/conda",
    "/opt/miniforge3",
    "/opt/miniconda3",
    "/opt/anaconda3",
)


def find_conda(name: str, prologue: str) -> CondaEnvironment:
    """Return a conda environment, by its name or path.

    conda itself is often not on the path after logging in, so it is not needed: it keeps a list
    of the environments that it made, and they lie in known places.

    Returns:
        `prefix` or None; `prologue`, the lines that activate it; `known`, the environments
        there are.
    """
    environment = login_environment(prologue)
    known = sorted({path for path in _environments(environment) if _has_python(path)})
    if os.sep in name or name.startswith("~"):
        path = os.path.abspath(os.path.expandvars(os.path.expanduser(name)))
        fitting = [path] if _has_python(path) else []
    elif name == "base":
        fitting = [path for path in known if os.path.isdir(os.path.join(path, "condabin"))]
    else:
        fitting = [path for path in known if os.path.basename(path) == name]
    if not fitting:
        return {"prefix": None, "prologue": [], "known": known}
    return {"prefix": fitting[0], "prologue": _lines(fitting[0]), "known": known}


def _environments(environment: Dict[str, str]) -> Iterator[str]:
    roots = [os.path.expanduser(root) for root in _ROOTS]
    for name in ("CONDA_EXE", "MAMBA_EXE"):
        if environment.get(name):
            roots.append(os.path.dirname(os.path.dirname(environment[name])))
    if environment.get("MAMBA_ROOT_PREFIX"):
        roots.append(environment["MAMBA_ROOT_PREFIX"])
    for root in roots:
        yield root
        yield from glob.glob(os.path.join(glob.escape(root), "envs", "*"))
    for directory in environment.get("CONDA_ENVS_PATH", "").split(os.pathsep):
        if directory:
            yield from glob.glob(os.path.join(glob.escape(directory), "*"))
    try:
        with open(os.path.expanduser("~/.conda/environments.txt"), encoding="utf-8") as file:
            yield from file.read().splitlines()
    except OSError:
        pass


def _has_python(prefix: str) -> bool:
    return os.access(os.path.join(prefix, "bin", "python"), os.X_OK)


def _lines(prefix: str) -> List[str]:
    """What `conda activate` does: the path, the environment's variables, the packages' scripts."""
    quoted = shlex.quote(prefix)
    name = shlex.quote(os.path.basename(prefix))
    return [
        "export CONDA_PREFIX={} CONDA_DEFAULT_ENV={} PATH={}/bin:$PATH".format(
            quoted, name, quoted
        ),
        *(
            "export {}={}".format(variable, shlex.quote(value))
            for variable, value in sorted(_variables(prefix).items())
        ),
        "for script in {}/etc/conda/activate.d/*.sh; do "
        'if [ -r "$script" ]; then . "$script"; fi; done'.format(quoted),
    ]


def _variables(prefix: str) -> Dict[str, str]:
    """What packages set (`etc/conda/env_vars.d`), and `conda env config vars set` after them."""
    found: Dict[str, str] = {}
    packages = os.path.join(glob.escape(prefix), "etc", "conda", "env_vars.d", "*.json")
    for path in sorted(glob.glob(packages)):
        found.update(_read_json(path))
    found.update(_read_json(os.path.join(prefix, "conda-meta", "state")).get("env_vars") or {})
    # conda writes this for a variable that was unset again.
    return {
        name: str(value)
        for name, value in found.items()
        if value != "***unset***" and name.isidentifier()
    }


def _read_json(path: str) -> Dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
