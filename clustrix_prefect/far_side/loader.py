"""Installs the far side's modules from memory, and starts the agent.

The client's first bytes are a program, `{"modules": {name: source}, "vendor": {path: source}}`;
whoever received it runs this file's source with `PROGRAM` set to it. Nothing is written to
disk until the agent knows where it may write.
"""

import importlib
import linecache
import sys
from importlib.machinery import ModuleSpec
from typing import Any, Dict, Optional

PACKAGE = "clustrix_far_side"


class MemoryImporter:
    """Imports the modules of one package from their sources."""

    def __init__(self, sources: Dict[str, str]) -> None:
        self._sources = {
            PACKAGE if name == "__init__" else PACKAGE + "." + name: source
            for name, source in sources.items()
        }

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Optional[Any]:
        if name not in self._sources:
            return None
        origin = self._filename(name)
        return ModuleSpec(name, self, origin=origin, is_package=name == PACKAGE)  # type: ignore[arg-type]

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


def run_agent(program: Dict[str, Dict[str, str]]) -> None:
    """Install the program's modules and run its agent until the client goes."""
    importer: Any = MemoryImporter(program["modules"])
    sys.meta_path.insert(0, importer)
    agent = importlib.import_module(PACKAGE + ".agent")
    agent.main(program)


if "PROGRAM" in globals():
    run_agent(globals()["PROGRAM"])
