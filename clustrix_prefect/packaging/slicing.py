"""Cuts out of a module what a function needs of it.

A slice has the definitions and imports that the function names, and what those name in turn,
each as the lines that are in the file; and the values of the variables that they name, as
they are now: nothing is computed again far away.
"""

from __future__ import annotations

import ast
import builtins
import copy
import functools
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from prefect.flows import Flow
from prefect.tasks import Task

from clustrix_prefect.errors import NotPortable
from clustrix_prefect.far_side.wire.kept import follow, inside
from clustrix_prefect.packaging.annotation_text import without_defaults
from clustrix_prefect.packaging.kept import Kept
from clustrix_prefect.packaging.local_modules import imported_names
from clustrix_prefect.packaging.names import (
    global_names,
    names_when_defined,
    without_annotations,
)
from clustrix_prefect.packaging.ownership import plain_function
from clustrix_prefect.packaging.runtime_values import may_be_changed, removed_from
from clustrix_prefect.packaging.source_files import Definition, SourceFile, first_line
from clustrix_prefect.packaging.sources import InnerFunction, ModuleSources

# What the far side gives every module by itself.
_EVERY_MODULE_HAS = frozenset(
    f"__{name}__"
    for name in (
        *("builtins", "cached", "doc", "file", "loader", "name", "package", "path", "spec"),
        "annotations",
    )
)
_MISSING = object()


@dataclass(frozen=True)
class Piece:
    """Some lines of a module.

    Attributes:
        position: Which file, and which line of it: pieces run in this order.
        path: The file, as shown far away.
        line: Where the text begins.
        source: The text.
        essence: The same text, however it is laid out and commented.
        node: The text, parsed.
        gives: The names that it gives the module.
        keeps_text: Whether its file says `from __future__ import annotations`.
        wrapped: Names that are tasks or flows, and which of the two.
    """

    position: tuple[int, int]
    path: str
    line: int
    source: str
    essence: str
    node: ast.AST = field(repr=False)
    gives: tuple[str, ...] = ()
    keeps_text: bool = False
    wrapped: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Variable:
    """A variable of a module, which travels as a value.

    Attributes:
        position: After which line it is set.
        name: The variable; "Config.rate" is what a class holds, "area.(calls)" what is in a
            function's closure.
        kept_by: Where the definition is that keeps it, for errors; empty for what has a name.
        layers: What there has to be far away on the way to it.
        again: Whether decorators that run later may change it: it is set once more at the end.
    """

    position: tuple[int, int]
    name: str
    kept_by: str = ""
    layers: tuple[tuple[str, str], ...] = ()
    again: bool = False

    def describe(self, module: str) -> str:
        """Return what it is, for errors."""
        if not self.kept_by:
            return f"the variable {self.name!r} of {module}"
        name, *_, last = self.name.split(".")
        return f"{last.strip('()')!r}, which {name} keeps ({self.kept_by})"


@dataclass
class Slice:
    """What a bundle needs of one module; grows as more is needed.

    Attributes:
        sources: The module.
        pieces: Lines of it, by what they define.
        variables: Its variables, by name.
        classes: Its classes, and what there was in each.
        made: The ids of what decorators made, and its names.
        kept_cells: The ids of the cells whose content is given to what decorators make again.
    """

    sources: ModuleSources
    pieces: dict[tuple[Any, ...], Piece] = field(default_factory=dict)
    variables: dict[str, Variable] = field(default_factory=dict)
    classes: list[tuple[type, dict[str, Any]]] = field(default_factory=list)
    made: dict[int, str] = field(default_factory=dict)
    kept_cells: set[int] = field(default_factory=set)
    _seen: set[str] = field(default_factory=set)

    @property
    def in_order(self) -> list[Piece | Variable]:
        """All of it, in the order in which the module had it."""
        return sorted(
            [*self.pieces.values(), *self.variables.values()],
            key=lambda part: (part.position, isinstance(part, Variable)),
        )

    def value(self, variable: Variable) -> Any:
        """Return the variable's value, now."""
        name, *way = variable.name.split(".")
        found = self.sources.namespace[name]
        if not way:
            return found
        return inside(follow(plain_function(found), way[:-1], plain_function), way[-1])

    def need(self, names: Iterable[str]) -> None:
        """Take in what these names stand for, and what that needs."""
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name not in self._seen:
                self._seen.add(name)
                waiting.extend(self._take(name))

    def need_inner(self, function: InnerFunction) -> None:
        """Take in what a function without a name of its own needs."""
        bare = without_annotations(function.node)
        if isinstance(bare, (ast.FunctionDef, ast.AsyncFunctionDef)):
            bare.decorator_list = []
        self.need(name for name in global_names(bare, function.free) if name not in function.free)

    def load_after(self, variable: Variable, named: Iterable[str]) -> bool:
        """Set a variable only once there are the definitions that its value names.

        Args:
            variable: One of this slice.
            named: What its value names of this module.

        Returns:
            Whether that changed anything.
        """
        given = {name: piece.position for piece in self.pieces.values() for name in piece.gives}
        last = max((given[name] for name in named if name in given), default=(0, 0))
        if last <= variable.position:
            return False
        self.variables[variable.name] = replace(variable, position=last)
        between = [
            piece for piece in self.pieces.values() if variable.position < piece.position <= last
        ]
        if any(variable.name in self._looked_up_by(piece) for piece in between):
            # A registry, say: what the definitions do to it needs something to be done to.
            for file, node in self.sources.bindings_of(variable.name):
                self.need(self._add_statement(file, file.top_statement_of(node)))
        return True

    def _looked_up_by(self, piece: Piece) -> set[str]:
        """Return the names that may be looked up while a piece is executed."""
        return self._reached(names_when_defined(piece.node))

    def _reached(self, names: Iterable[str]) -> set[str]:
        """These names, and those that code of such names may look up."""
        found: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                for each in self.pieces.values():
                    if name in each.gives:
                        waiting.extend(global_names(each.node))
        return found

    def set_again(self) -> None:
        """Note which variables may be changed by code that runs after they are set."""
        changed = [(piece.position, self.changed_by(piece)) for piece in self.pieces.values()]
        for name, variable in self.variables.items():
            again = "." not in name and any(
                position > variable.position and name in names for position, names in changed
            )
            if again and may_be_changed(self.value(variable)):
                self.variables[name] = replace(variable, again=True)

    def refuse_shared(self, cells: Collection[int], name: str) -> None:
        """Refuse variables that what decorators make has in common with what travels as a value.

        Args:
            cells: The ids of the cells that travel.
            name: The task, for errors.

        Raises:
            NotPortable: There is one: far away it would be two.
        """
        if not self.kept_cells.isdisjoint(cells):
            raise NotPortable(
                f"{name[0].upper()}{name[1:]} uses functions of {self.sources.name} that share a "
                "variable, of which a decorator makes one and another was taken from it; to "
                "another version of Python they would travel apart.",
                "Reach the one through the other, or use the same version of Python on both sides.",
            )

    def changed_by(self, piece: Piece) -> set[str]:
        """The names that may be looked up by decorators, and the like, as a piece is executed."""
        if isinstance(piece.node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            first = [
                name
                for each in ast.walk(piece.node)
                for expression in (
                    *getattr(each, "decorator_list", ()),
                    *getattr(each, "bases", ()),
                    *(one.value for one in getattr(each, "keywords", ())),
                )
                for name in names_when_defined(expression)
            ]
        else:
            first = list(names_when_defined(piece.node))
        return self._reached(first)

    @property
    def taken(self) -> list[str]:
        """The names that were taken in so far."""
        return sorted(self._seen)

    def imported_by(self, node: ast.AST) -> set[str]:
        """What an import may import, each by its whole name; nothing for any other code."""
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            return set()
        return set(imported_names(node, self.sources.namespace.get("__package__") or ""))

    def _take(self, name: str) -> Iterable[str]:
        namespace = self.sources.namespace
        if name not in namespace:
            return ()  # a builtin; or nothing, as at home
        value = namespace[name]
        if name in _EVERY_MODULE_HAS or value is getattr(builtins, name, _MISSING):
            return ()
        defined = self.sources.definition_of(plain_function(value))
        if defined is not None and defined[1].name == name:
            return [*self._take_definition(name, *defined), *self._bound_again(name, *defined)]
        bindings = self.sources.bindings_of(name)
        if not bindings:
            return self._take_variable(name, None)
        file, node = bindings[-1]
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            if not node.decorator_list:  # given to the name from elsewhere, as by `global`
                return self._take_variable(name, None)
            return self._take_definition(name, file, node)
        imports = [each for each in bindings if isinstance(each[1], (ast.Import, ast.ImportFrom))]
        if imports:
            return self._take_imports(name, imports)
        if _is_known_by_its_name(value, name, self.sources.name):
            return self._take_statement(file, file.top_statement_of(node))
        # `table += [...]`: what comes in between may have to do with it.
        return self._take_variable(
            name, bindings[0] if isinstance(node, ast.AugAssign) else (file, node)
        )

    # --- definitions ----------------------------------------------------------------------

    def _take_definition(self, name: str, file: SourceFile, node: Definition) -> Iterable[str]:
        dropped = list(self._prefects_decorators(file, node))
        start = first_line(node)
        lines = file.lines_of(start, node.end_lineno or start).splitlines(keepends=True)
        for decorator in dropped:
            for number in range(decorator.lineno, (decorator.end_lineno or 0) + 1):
                lines[number - start] = "\n"
        source = "".join(lines)
        line = start
        if node.col_offset:
            line, source = max(start - 1, 1), f"if True:\n{source}"
        source = without_defaults(source, node.name, self._take_held(file, node))
        bare = _without_decorators(node, dropped)
        if not (getattr(bare, "decorator_list", ()) or "get_type_hints" in file.text):
            bare = without_annotations(bare)
        self.pieces["definition", file.filename, node.lineno] = Piece(
            position=self._position(file, node),
            path=file.shown_as,
            line=line,
            source=source,
            essence=ast.unparse(bare),
            node=bare,
            gives=(node.name,),
            keeps_text=file.keeps_annotations_as_text,
            wrapped=_wrapped(name, self.sources.namespace.get(name)),
        )
        return [*global_names(bare), *self._registered(name)]

    def _take_held(self, file: SourceFile, node: Definition) -> set[str]:
        """Take in the values that a definition has now, other than those in its source.

        Returns:
            The attributes that hold those of its parameters' defaults that are among them.
        """
        where = f"{file.shown_as}, line {node.lineno}"
        value = plain_function(self.sources.namespace.get(node.name))
        kept = Kept(file, node)
        kept.look_at(value, node.name)
        if isinstance(node, ast.ClassDef):
            if isinstance(value, type):
                self.classes.append((value, dict(vars(value))))
                for name in removed_from(value, node):
                    raise NotPortable(
                        f"{where}: {node.name}.{name} was removed from"
                        " the class, whose source still has it, and to another version of Python"
                        " source travels.",
                        "Leave it in, or use the same version of Python on both sides.",
                    )
        elif not kept.is_of and self.sources.bindings_of(node.name)[-1][1] is not node:
            return set()  # a later definition has taken its name
        elif kept.is_itself and value.__name__ != node.name:
            kept.values[f"{node.name}.__name__"] = value.__name__
        self.kept_cells |= kept.cells
        if not isinstance(value, type):
            self.made[id(value)] = node.name
        for path in kept.values:
            # Last: other definitions may change it once more.
            layers = tuple(each for each in kept.layers.items() if f"{path}.".startswith(each[0]))
            position = self._at_the_end
            if kept.is_itself and path.endswith("defaults__"):
                position = self._position(file, node)  # decorators may call it
            self.variables[path] = Variable(position, path, where, layers)
        return kept.defaults

    def _prefects_decorators(self, file: SourceFile, node: Definition) -> Iterator[ast.expr]:
        """The decorators of a definition, and of methods in it, that are Prefect's or ours."""
        for each in ast.walk(node):
            if each is node or isinstance(file.scope_of(each), ast.ClassDef):
                for decorator in getattr(each, "decorator_list", ()):
                    if _is_prefects(_evaluate(decorator, self.sources.namespace)):
                        yield decorator

    def _registered(self, name: str) -> Iterator[str]:
        """Yield what was registered with a function: `@area.register` above another one."""
        for file in self.sources.files:
            for node in file.tree.body:
                for decorator in getattr(node, "decorator_list", ()):
                    target = decorator.func if isinstance(decorator, ast.Call) else decorator
                    if (
                        isinstance(target, ast.Attribute)
                        and target.attr == "register"
                        and isinstance(target.value, ast.Name)
                        and target.value.id == name
                        and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
                        and ("definition", file.filename, node.lineno) not in self.pieces
                    ):
                        yield from self._take_definition(node.name, file, node)

            for statement in file.tree.body:
                match statement:
                    case ast.Expr(ast.Call(ast.Attribute(ast.Name(id=owner), "register"))):
                        if owner == name:
                            yield from self._add_statement(file, statement)

    def _bound_again(self, name: str, file: SourceFile, node: Definition) -> Iterator[str]:
        """What gives the name of a definition to what it makes of it: `area = counted(area)`."""
        for other, each in self.sources.bindings_of(name):
            value = getattr(each, "value", None)
            if (
                isinstance(value, ast.Call)
                and self._position(other, each) > self._position(file, node)
                and not _is_prefects(_evaluate(value, self.sources.namespace))
            ):
                yield from self._add_statement(other, other.top_statement_of(each))

    # --- imports and other statements -----------------------------------------------------

    def _take_imports(self, name: str, found: list[tuple[SourceFile, ast.AST]]) -> list[str]:
        needed: list[str] = []
        for file, node in found:
            assert isinstance(node, (ast.Import, ast.ImportFrom))
            statement = file.top_statement_of(node)
            if statement is not node and _only_chooses(statement):
                if not _is_for_type_checkers(statement):
                    needed += self._take_statement(file, statement)
                continue
            for alias in node.names:
                if (alias.asname or alias.name.partition(".")[0]) == name:
                    self.take_import(file, node, alias)
        return needed

    def take_import(
        self, file: SourceFile, node: ast.Import | ast.ImportFrom, alias: ast.alias
    ) -> None:
        """Take in an import of this alone."""
        single = only(node, alias)
        source = ast.unparse(single)
        self.pieces["import", source] = Piece(
            position=self._position(file, node),
            path=file.shown_as,
            line=node.lineno,
            source=source + "\n",
            essence=source,
            node=single,
            gives=((alias.asname or alias.name).partition(".")[0],),
        )

    def _take_statement(self, file: SourceFile, statement: ast.stmt) -> list[str]:
        """Return a statement that runs far away as it did here."""
        # What it assigns is not a variable any more.
        for name in _stored(statement):
            self._seen.add(name)
            self.variables.pop(name, None)
        return self._add_statement(file, statement)

    def _add_statement(self, file: SourceFile, statement: ast.stmt) -> list[str]:
        self.pieces["statement", file.filename, statement.lineno] = Piece(
            position=self._position(file, statement),
            path=file.shown_as,
            line=statement.lineno,
            source=(ast.get_source_segment(file.text, statement) or "") + "\n",
            essence=ast.unparse(statement),
            node=statement,
            gives=tuple(_stored(statement)),
        )
        return global_names(statement)

    def _take_variable(self, name: str, where: tuple[SourceFile, ast.AST] | None) -> Iterable[str]:
        # One that the module itself does not assign comes last.
        position = self._at_the_end if where is None else self._position(*where)
        self.variables[name] = Variable(position, name)
        return ()

    @property
    def _at_the_end(self) -> tuple[int, int]:
        return len(self.sources.files), 0

    def _position(self, file: SourceFile, node: ast.AST) -> tuple[int, int]:
        return self.sources.files.index(file), getattr(node, "lineno", 0)


def _is_known_by_its_name(value: Any, name: str, module: str) -> bool:
    """Whether pickle would only name this value: a class or the like that a call has made."""
    if getattr(value, "__module__", None) != module:
        return False
    if isinstance(value, type):
        return value.__qualname__ == name
    return type(value).__module__ == "typing" and getattr(value, "__name__", None) == name


def _wrapped(name: str, value: Any) -> tuple[tuple[str, str], ...]:
    if isinstance(value, Task):
        return ((name, "Task"),)
    return ((name, "Flow"),) if isinstance(value, Flow) else ()


def _evaluate(expression: ast.expr, namespace: dict[str, Any]) -> Any:
    """Return what a name or an attribute stands for; for a call, what is called."""
    if isinstance(expression, ast.Call):
        called = expression.func
        if isinstance(called, ast.Attribute) and called.attr == "with_options":
            called = called.value  # the same task, or flow
        return _evaluate(called, namespace)
    if isinstance(expression, ast.Attribute):
        return getattr(_evaluate(expression.value, namespace), expression.attr, None)
    return namespace.get(expression.id) if isinstance(expression, ast.Name) else None


def only(node: ast.Import | ast.ImportFrom, alias: ast.alias) -> ast.Import | ast.ImportFrom:
    """Return an import of this alone."""
    single = copy.copy(node)
    single.names = [alias]
    return single


def _is_prefects(value: Any) -> bool:
    while isinstance(value, functools.partial):
        value = value.func
    for owner in (value, type(value)):
        module = getattr(owner, "__module__", None)
        if isinstance(module, str) and module.partition(".")[0] in ("prefect", "clustrix_prefect"):
            return True
    return False


def _only_chooses(statement: ast.stmt) -> bool:
    """Return whether a statement only tries imports, and notes which of them there were."""
    allowed = (
        ast.Import,
        ast.ImportFrom,
        ast.Assign,
        ast.AnnAssign,
        ast.If,
        ast.Try,
        ast.Pass,
        ast.FunctionDef,
        ast.AsyncFunctionDef,
        ast.ClassDef,
    )
    blocks = [
        inner
        for name in ("body", "handlers", "orelse", "finalbody")
        for block in getattr(statement, name, [])
        for inner in (block.body if isinstance(block, ast.ExceptHandler) else [block])
    ]
    return all(
        isinstance(inner, allowed)
        and (not isinstance(inner, (ast.If, ast.Try)) or _only_chooses(inner))
        for inner in blocks
    )


def _is_for_type_checkers(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test)


def _stored(statement: ast.stmt) -> Iterator[str]:
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def _without_decorators(node: Definition, dropped: list[ast.expr]) -> Definition:
    places = {(decorator.lineno, decorator.col_offset) for decorator in dropped}
    node = copy.deepcopy(node)
    for each in ast.walk(node):
        if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            each.decorator_list = [
                decorator
                for decorator in each.decorator_list
                if (decorator.lineno, decorator.col_offset) not in places
            ]
    return node
