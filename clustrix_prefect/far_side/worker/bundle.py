"""The user's code, made from what a bundle holds.

To the same minor version of Python it comes by value: see `by_value`. To another one it comes
as source: such a bundle has whole modules, imported when the code imports them, and *slices*:
the definitions of a module that the call needs, without the rest of the file. Variables of a
slice, and what inner functions had around them, come as pickles. Whole modules stay loaded as
long as calls of the same bundle come, as they would at home; slices are made afresh for each
call, so that none sees what another did to them. The modules of two bundles never mix.
"""

import builtins
import importlib
import io
import sys
import types
from importlib.machinery import ModuleSpec

from ..standins import importer as importers
from ..standins import tasks
from ..standins.by_value import REFERENCES, ValueBundle, make_cached, make_exception, parents_of
from ..wire.fast_stdlib import from_json
from ..wire.kept import Contents, describe, empty_cell, fill_cell, follow, put
from ..wire.pickles import ForeignBytecode, PortableUnpickler
from ..wire.sources import MAKER, compile_source, describe_syntax_error, function_code
from .capture import WhenImported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, Set, Tuple

    from ..wire.pickles import Names

# Bundles that stay loaded; a flow's tasks take turns in a worker.
_MOST_LOADED = 16


class CannotRun(Exception):
    """The code of a call, or its arguments, cannot be had here.

    Args:
        kind: The type of what stands in the way.
        text: What that is.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(kind, text)
        self.kind = kind
        self.text = text


class SourceBundle:
    """One bundle's code in this process.

    Args:
        document: What the client made of the code.
        captured: Pickles of the values around it, if there are any.
        importer: Finds its modules.
    """

    def __init__(
        self, document: "Dict[str, Any]", captured: "Optional[bytes]", importer: "Any"
    ) -> None:
        self.foreign = document["python"] != list(sys.version_info[:2])
        self.wants_prefect = False
        self._modules = {module["name"]: module for module in document["modules"]}
        self._slices = document["slices"]
        self._inner = {function["key"]: function for function in document["inner"]}
        self._entry = document["entry"]
        self._captured = captured
        self._classes = {}  # type: Dict[str, Any]
        self._names = set(self._modules) | {part["name"] for part in self._slices}
        self._packages = {parent for name in self._names for parent in parents_of(name)}
        self._packages -= self._names
        self._names |= self._packages
        self._loaded = {}  # type: Dict[str, Any]  # its modules, while another bundle's are in place
        self._hidden = {}  # type: Dict[str, Any]  # other modules of the same names, while its are
        self._document = document
        self._importer = importer

    # --- taking its place in `sys.modules` ------------------------------------------------

    def put_up(self) -> None:
        """Have `import` find this bundle's modules."""
        self._hidden = _pop_modules(self._names)
        sys.modules.update(self._loaded)

    def put_away(self) -> None:
        """Make room for another bundle's modules."""
        self._loaded = _pop_modules(self._names)
        sys.modules.update(self._hidden)

    def lines(self) -> "Dict[str, List[str]]":
        """Return the known lines of each file, where they are in it."""
        document = self._document
        files = {}  # type: Dict[str, List[str]]
        # What was put around an inner function must not hide a line of the file.
        pieces = [
            (each["path"], each["line"], each.get("shown", each["source"]))
            for each in document["inner"]
        ]
        pieces += [
            (piece["path"], piece["line"], piece.get("shown", piece["source"]))
            for part in document["slices"]
            for piece in part["pieces"]
            if "source" in piece
        ]
        pieces += [
            (module["path"], 1, module.get("shown", module["source"]))
            for module in document["modules"]
        ]
        for path, first, source in pieces:
            lines = files.setdefault(path, [])
            new = list(io.StringIO(source))
            lines.extend(["\n"] * (first - 1 + len(new) - len(lines)))
            lines[first - 1 : first - 1 + len(new)] = new
        return files

    def source(self, name: str) -> "Optional[str]":
        """Return the known source of one of its modules."""
        for module in self._document["modules"] + self._document["slices"]:
            if module["name"] == name:
                return "".join(self.lines().get(module["path"], ()))
        return None

    def find_spec(self, name: str, path: "Any" = None) -> "Any":
        """Return the spec of one of its modules."""
        if name not in self._names:
            return None
        module = self._modules.get(name)
        is_package = name in self._packages or bool(module and module["package"])
        spec = ModuleSpec(name, self._importer, is_package=is_package)
        if module is not None:
            spec.origin = module["path"]
            spec.has_location = True
        return spec

    def execute(self, module: "Any") -> None:
        """Run a whole module's source."""
        source = self._modules.get(module.__name__)
        if source is not None:
            code = compile_source(source["source"], source["path"])
            exec(code, module.__dict__)  # noqa: S102

    def all_names(self, names: "Names") -> "Names":
        """Return the names that its pickles know."""
        return dict(names)

    # --- its slices -----------------------------------------------------------------------

    def function(self, names: "Names") -> "Any":
        """Return the function to call, in slices made for this call."""
        self._classes = {}
        pickles = PortableUnpickler(self._captured or b"", self.foreign, names)
        for part in self._slices:
            module = types.ModuleType(part["name"])  # type: Any
            module.__loader__ = self._importer
            module.__package__ = part["package"]
            module.__file__ = part["path"]
            sys.modules[part["name"]] = module
        again = []  # type: List[Tuple[Any, str, Any, Contents]]
        for part in self._slices:
            module = sys.modules[part["name"]]
            for piece in part["pieces"]:
                if "variable" not in piece:
                    self._execute(module, piece)
                    continue
                for path, described in piece["layers"].items():
                    _expect(module, path, described)
                value = pickles.load()
                if piece["again"]:
                    again.append((module, piece["variable"], value, Contents(value)))
                _set_variable(module, piece["variable"], value)
        for module, name, value, contents in again:
            _set_variable(module, name, value)
            contents.put_back()
        if self._entry is None:
            return pickles.load()
        return named_function(self._entry["module"], self._entry["name"])

    def _execute(self, module: "Any", piece: "Dict[str, Any]") -> None:
        code = piece.get("code")
        if code is None:
            code = compile_source(piece["source"], piece["path"], piece["line"])
            piece["code"] = code
        exec(code, module.__dict__)  # noqa: S102
        for name, kind in piece["wrapped"].items():
            wrapped = getattr(tasks, kind)(getattr(module, name))
            setattr(module, name, wrapped)

    def inner_function(
        self, key: str, closure: "Tuple[Any, ...]", name: str, qualname: str
    ) -> "Any":
        """Return a function that was defined inside another one, its surroundings still empty."""
        source = self._inner[key]
        code = source.get("code")
        if code is None:
            code = source["code"] = function_code(
                source["source"], source["path"], source["line"], source["name"]
            )
        # The compiler sorts the free variables, and so did the client's.
        cells = dict(zip(source["free"], closure))  # noqa: B905 (3.10)
        namespace = vars(importlib.import_module(source["module"]))
        # Before Python 3.10 a function has none but those of its namespace.
        namespace.setdefault("__builtins__", builtins)
        function = types.FunctionType(
            code, namespace, name, None, tuple(cells[free] for free in code.co_freevars)
        )
        function.__qualname__, function.__module__ = qualname, source["module"]
        return function

    def inner_class(
        self,
        key: str,
        tracker_id: str,
        cells: "Tuple[Any, ...]",
        qualname: str,
        early: "List[Tuple[Any, Any]]",
    ) -> "Any":
        """A class that was made inside a function: one and the same in all pickles of a call."""
        if tracker_id in self._classes:
            return self._classes[tracker_id]
        for cell, value in early:
            fill_cell(cell, value)
        made = self.inner_function(key, cells, MAKER, MAKER)()
        _rename(made, made.__qualname__, qualname)
        self._classes[tracker_id] = made
        return made

    def home_of(self, value: "Any") -> "Optional[str]":
        """Return the id by which the flow knows a class that was made inside a function."""
        return next((name for name, each in self._classes.items() if each is value), None)

    def local_class(self, tracker_id: str) -> "Any":
        """That class."""
        return self._classes[tracker_id]


def _rename(made: "Any", before: str, now: str) -> None:
    """Give a class, and the methods and classes in it, the names that they had at home."""
    made.__qualname__ = now + made.__qualname__[len(before) :]
    for each in vars(made).values():
        for inner in (each, getattr(each, "__func__", None), getattr(each, "fget", None)):
            name = getattr(inner, "__qualname__", "")
            if isinstance(inner, type) and name.startswith(before + "."):
                _rename(inner, before, now)
            elif isinstance(inner, types.FunctionType) and name.startswith(before + "."):
                inner.__qualname__ = now + name[len(before) :]


def _set_variable(module: "Any", path: str, value: "Any") -> None:
    """Set a variable of a module, or what a class or function of it holds."""
    *way, last = path.split(".")
    put(follow(module, way, _unwrapped), last, value)


def _expect(owner: "Any", path: str, described: str) -> None:
    """Make sure that a decorator made here what it made at home.

    Raises:
        TypeError: It did not.
    """
    found = describe(follow(owner, path.split("."), _unwrapped))
    if found != described:
        text = "{} is {} here, and was {} where the flow runs"
        raise TypeError(text.format(path, found, described))


def _unwrapped(value: "Any") -> "Any":
    """What a task or a flow is of."""
    return value.fn if isinstance(value, (tasks.Task, tasks.Flow)) else value


def _pop_modules(names: "Set[str]") -> "Dict[str, Any]":
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name in names}


class Library:
    """The bundles that are loaded in this process, one of them in place."""

    def __init__(self) -> None:
        self._bundles = {}  # type: Dict[Any, Any]
        self._active = None  # type: Optional[Any]
        self._lines_wanted = None  # type: Optional[WhenImported]
        self._names = {  # type: Names
            (REFERENCES, "named"): named,
            (REFERENCES, "named_function"): named_function,
            (REFERENCES, "module"): importlib.import_module,
            (REFERENCES, "inner_function"): self._inner_function,
            (REFERENCES, "cached"): make_cached,
            (REFERENCES, "inner_class"): self._inner_class,
            (REFERENCES, "fill_inner_class"): fill_inner_class,
            (REFERENCES, "fill_function"): fill_function,
            (REFERENCES, "cell"): empty_cell,
            (REFERENCES, "exception"): make_exception,
            (REFERENCES, "task"): make_task,
            (REFERENCES, "flow"): make_flow,
        }
        importer = self  # type: Any
        sys.meta_path.insert(0, importer)

    def function(self, key: "Any", read: "Any", directory: "Any") -> "Any":
        """Return the function that a bundle is about.

        Args:
            key: Names the bundle and the pickles that go with it.
            read: Reads both, if they are not loaded: bytes each, or None.
            directory: Gives the path of a folder of the store, by its content and size.

        Raises:
            CannotRun: The code does not run here.
        """
        bundle = self._bundles.pop(key, None)
        if bundle is None:
            data, captured = read()
            document = from_json(data.decode("ascii"))
            if "namespaces" in document:
                bundle = ValueBundle(document, captured, directory)
            else:
                bundle = SourceBundle(document, captured, self)
            if len(self._bundles) >= _MOST_LOADED:
                del self._bundles[next(iter(self._bundles))]
        self._bundles[key] = bundle  # the one used last comes last
        self._activate(bundle)
        self._show_sources_to_others()
        importers.want_real(bundle.wants_prefect)
        try:
            return bundle.function(self._names)
        except BaseException as error:  # a module may call sys.exit
            raise _cannot_run(error, "the function") from error

    def arguments(self, payload: bytes, refer: "Optional[Callable[[Any], Any]]" = None) -> "Any":
        """Return the arguments of a call of that function, or a part of them.

        Args:
            payload: Their pickle.
            refer: Gives what the pickle refers to instead of holding it.

        Raises:
            CannotRun: They cannot be opened here.
        """
        assert self._active is not None
        names = self._active.all_names(self._names)
        if refer is not None:
            names[REFERENCES, "blob"] = refer
        try:
            return PortableUnpickler(payload, self._active.foreign, names).load()
        except Exception as error:  # unpickling runs any constructor, and imports any module
            raise _cannot_run(error, "the arguments") from error

    def show_sources(self) -> None:
        """Have tracebacks show the lines of the user's files, which are not there to be read."""
        import linecache

        if self._active is not None:
            for path, lines in self._active.lines().items():
                linecache.cache[path] = (0, None, lines, path)

    def _show_sources_to_others(self) -> None:
        """Have `inspect` and the like find them, once anything asks for lines."""
        if "linecache" in sys.modules:
            self.show_sources()
        elif self._lines_wanted is None:
            self._lines_wanted = WhenImported("linecache", self.show_sources)
            self._lines_wanted.watch()

    def _activate(self, bundle: "Any") -> None:
        if bundle is self._active:
            return
        if self._active is not None:
            self._active.put_away()
        self._active = bundle
        bundle.put_up()

    def home_of(self, value: "Any") -> "Optional[str]":
        """Return the id by which the flow knows a class that came here by value."""
        find = getattr(self._active, "home_of", None)
        return None if find is None else find(value)

    def brings(self, module: str) -> bool:
        """Return whether this module came here by value."""
        brings = getattr(self._active, "brings", None)
        return brings is not None and brings(module)

    def shares(self, namespace: "Dict[str, Any]") -> bool:
        """Return whether these globals are those of a module that came here by value."""
        shares = getattr(self._active, "shares", None)
        return shares is not None and shares(namespace)

    @property
    def active(self) -> "Any":
        """The bundle that is in place."""
        return self._active

    def _inner_function(self, *described: "Any") -> "Any":
        assert self._active is not None
        return self._active.inner_function(*described)

    def _inner_class(self, *described: "Any") -> "Any":
        assert self._active is not None
        return self._active.inner_class(*described)

    # --- an importer, without its abstract parents as the stand-in's ----------------------

    def find_spec(self, name: str, path: "Any" = None, target: "Any" = None) -> "Any":
        find = getattr(self._active, "find_spec", None)
        return None if find is None else find(name, path)

    def get_source(self, name: str) -> "Optional[str]":
        return None if self._active is None else self._active.source(name)

    def create_module(self, spec: "Any") -> None:
        return None  # an ordinary one

    def exec_module(self, module: "Any") -> None:
        if self._active is not None:
            self._active.execute(module)


def _cannot_run(error: BaseException, what: str) -> CannotRun:
    if isinstance(error, SyntaxError):
        return CannotRun("SyntaxError", describe_syntax_error(error))
    if isinstance(error, ForeignBytecode):
        return CannotRun("ForeignBytecode", "{}: {}".format(what, error))
    text = "{} cannot be opened here: {}".format(what, error)
    # Of the store: `Failure`, which is not imported before there is one.
    of_store = type(error).__module__.endswith(".wire.failures")
    return CannotRun(getattr(error, "kind", "") if of_store else type(error).__name__, text)


# --- what the client's pickles name ---------------------------------------------------------


def named(module: str, name: str) -> "Any":
    """Return what a module calls by this name."""
    found = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def named_function(module: str, name: str) -> "Any":
    """Return the function of this name, as it was written: of a task, what it wraps."""
    owner, _, last = name.rpartition(".")
    found = named(module, name)
    if owner:
        # Not bound to the class: Prefect passes the class, or the object, as an argument.
        found = vars(named(module, owner)).get(last, found)
    for _ in range(2):  # a task of a class method, or a class method of a task
        if isinstance(found, (tasks.Task, tasks.Flow)):
            found = found.fn
        elif isinstance(found, (classmethod, staticmethod)):
            found = found.__func__
    return found


def make_task(fn: "Any", options: "Dict[str, Any]") -> "Any":
    """Return a task."""
    return tasks.Task(fn, **options)


def make_flow(fn: "Any", options: "Dict[str, Any]") -> "Any":
    """Return a flow."""
    return tasks.Flow(fn, **options)


def fill_function(function: "Any", state: "Dict[str, Any]") -> None:
    """Give an inner function what it had at home."""
    function.__defaults__ = state["defaults"]
    function.__kwdefaults__ = state["kwdefaults"]
    function.__dict__.update(state["attributes"])
    for cell, value in state["cells"]:
        fill_cell(cell, value)


def fill_inner_class(made: "Any", state: "Any") -> None:
    """Give a class that was made inside a function what it holds, and the variables around it."""
    cells, held, layers = state
    for path, described in layers.items():
        _expect(made, path, described)
    for path, value in held.items():
        *way, last = path.split(".")
        put(follow(made, way, _unwrapped), last, value)
    for cell, value in cells:
        fill_cell(cell, value)
