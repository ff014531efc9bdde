"""Installs the far side's modules from memory, and starts the agent.

The client's first bytes are a packed program; whoever received it, or found it where an earlier
agent left it, runs this file's source with `PACKED` set to it. Nothing is written to disk
until the agent knows where it may write.
"""

import hashlib
import importlib
import json
import linecache
import sys
import zlib
from importlib.machinery import ModuleSpec
from typing import Any, Dict, Optional, cast

PACKAGE = "clustrix_far_side"


class Program:
    """The far side's sources.

    Args:
        packed: Compressed JSON: `{"modules": {name: source}, "vendor": {path: source}}`.
    """

    def __init__(self, packed: bytes) -> None:
        content = json.loads(zlib.decompress(packed).decode("ascii"))
        self.packed = packed
        self.name: str = hashlib.sha256(packed).hexdigest()
        self.modules: Dict[str, str] = content["modules"]
        self.vendor: Dict[str, str] = content["vendor"]


class MemoryImporter:
    """Imports the modules of one package from their sources."""

    def __init__(self, sources: Dict[str, str]) -> None:
        self._sources = {
            ".".join([PACKAGE] + [part for part in name.split(".") if part != "__init__"]): source
            for name, source in sources.items()
        }
        # PACKAGE and those of its modules that hold others.
        self._packages = {name.rpartition(".")[0] for name in self._sources} - {""}

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Optional[Any]:
        if name not in self._sources:
            return None
        origin, loader = self._filename(name), cast(Any, self)
        return ModuleSpec(name, loader, origin=origin, is_package=name in self._packages)

    def create_module(self, spec: Any) -> None:
        return None  # an ordinary one

    def get_source(self, name: str) -> str:
        return self._sources[name]

    def exec_module(self, module: Any) -> None:
        name = module.__name__
        source, filename = self._sources[name], self._filename(name)
        # A traceback of the agent shows its source lines.
        linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
        exec(compile(source, filename, "exec", dont_inherit=True), module.__dict__)  # noqa: S102

    @staticmethod
    def _filename(name: str) -> str:
        return "<{}>".format(name)


def run_agent(program: Program) -> None:
    """Install the program's modules and run its agent until the client goes."""
    importer: Any = MemoryImporter(program.modules)
    sys.meta_path.insert(0, importer)
    agent = importlib.import_module(PACKAGE + ".agent.agent")
    agent.main(program)


if "PACKED" in globals():
    run_agent(Program(globals()["PACKED"]))
