"""Counts the walks that CONTRIBUTING names: `python tests/packaging/walks.py [FILE:FUNCTION:PARAMETER…]`.

A walk follows one value through the source, from a parameter of a function. In the order of the source, it enters each
function that is called with the value, or with what was made of it, once. It goes four functions deep, and neither into
the ground floor (`scoremux_files`) nor into what is done about an error. A stay is a run of such functions in one file;
a stay in a file that the walk has left is a return. Nothing is run: types come from annotations and constructors. Where
these do not tell (a queue, a protocol, another thread) the walk ends, and the page names a second start.
"""

import ast
import re
import sys
from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
DEPTH = 4
FOLDERS = ("client", "engine", "evidence", "export", "desk")
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
KEEPS = ("append", "add", "extend", "update", "put", "setdefault", "appendleft")
"""Methods after which their object holds the value."""


class Found(NamedTuple):
    """A function, a class or a whole module."""

    module: str
    node: Any


class Product:
    """All modules by dotted name, with what their names stand for."""

    def __init__(self) -> None:
        files = [file for top in FOLDERS for file in (ROOT / top).glob("scoremux*/**/*.py")]
        paths = {".".join(f.relative_to(ROOT).with_suffix("").parts[1:]): str(f.relative_to(ROOT)) for f in files}
        self.file = {name.removesuffix(".__init__"): path for name, path in paths.items()}
        self.tree = {name: ast.parse((ROOT / path).read_text(encoding="utf-8")) for name, path in self.file.items()}
        self._names: dict[str, dict[str, Found]] = {}
        for module, tree in self.tree.items():
            imports = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
            self._names[module] = {a.asname or a.name: Found(n.module or "", a) for n in imports for a in n.names}
            self._names[module] |= {
                n.name: Found(module, n) for n in tree.body if isinstance(n, (*FUNCTION, ast.ClassDef))
            }

    def find(self, module: str, name: str) -> Found | None:
        """Return what a name of a module stands for, None if it is not of the product."""
        found = self._names.get(module, {}).get(name)
        if found is None or not isinstance(found.node, ast.alias):
            return found
        below = f"{found.module}.{found.node.name}"
        return Found(below, self.tree[below]) if below in self.tree else self.find(found.module, found.node.name)

    def class_of(self, module: str, annotation: ast.expr | None) -> Found | None:
        """Return the first class of the product in an annotation; a list of objects counts as one of them."""
        words = re.findall(r"\w+", ast.unparse(annotation)) if annotation else []
        found = (self.find(module, word) for word in words)
        return next((one for one in found if one and isinstance(one.node, ast.ClassDef)), None)

    def member(self, owner: Found, name: str) -> Found | None:
        """Return what an attribute of a class or module stands for: a function, or the class of its values."""
        module, node = owner
        if not isinstance(node, ast.ClassDef):
            return self.find(module, name) if isinstance(node, ast.Module) else None
        for part in ast.walk(node):
            if isinstance(part, FUNCTION) and part.name == name:
                is_value = any("property" in ast.unparse(line) for line in part.decorator_list)
                return self.class_of(module, part.returns) if is_value else Found(module, part)
            if isinstance(part, ast.AnnAssign) and ast.unparse(part.target) in (name, f"self.{name}"):
                return self.class_of(module, part.annotation)
        for part in node.body:  # what `__init__` assigns
            if isinstance(part, FUNCTION) and part.name == "__init__" != name:
                visit = Visit(self, Found(module, part), set(), owner, print)
                for line in (n for n in ast.walk(part) if isinstance(n, ast.Assign)):
                    for target, value in pairs(line.targets[0], line.value):
                        if ast.unparse(target) == f"self.{name}" and f"self.{name}" not in ast.unparse(value):
                            return visit.type_of(value)
        bases = [self.class_of(module, base) for base in node.bases]
        return next((found for base in bases if base and (found := self.member(base, name))), None)


class Walk:
    """One walk. steps: the file and name of each function that it enters, in order."""

    def __init__(self, product: Product, starts: Iterable[str]) -> None:
        self._product, self._entered, self._depth = product, set[Any](), DEPTH
        self.steps: list[tuple[str, str]] = []
        for start in starts:
            path, names, parameter = start.split(":")
            module = next(name for name, file in product.file.items() if file == path)
            owner, _, name = names.rpartition(".")
            holder = product.find(module, owner) if owner else Found(module, product.tree[module])
            function = product.member(holder, name) if holder else None
            assert holder and function and parameter in parameters(function.node), f"there is no {start}"
            self._enter(function, {parameter}, holder)

    def stays(self) -> list[tuple[str, list[str]]]:
        """Return each stay: its file, and the functions that the walk enters there."""
        return [(file, [name for _, name in run]) for file, run in groupby(self.steps, key=lambda step: step[0])]

    def returns(self) -> int:
        """Return how many stays are in a file that the walk has left."""
        return len(self.stays()) - len({file for file, _ in self.steps})

    def _enter(self, function: Found, followed: set[str], owner: Found | None) -> None:
        module, node = function
        if node not in self._entered and self._depth and not module.startswith("scoremux_files"):
            self._entered.add(node)
            self.steps.append((self._product.file[module], node.name))
            self._depth -= 1
            Visit(self._product, function, followed, owner, self._enter).read(node.body)
            self._depth += 1


class Visit:
    """Reads one function in the order in which it runs, and enters what it calls with the value."""

    def __init__(
        self, product: Product, function: Found, followed: set[str], owner: Found | None, enter: Callable[..., Any]
    ) -> None:
        self._product, self._module, self._followed, self._enter = product, function.module, followed, enter
        names = parameters(function.node)
        self._types = {name: product.class_of(self._module, annotation) for name, annotation in names.items()}
        if owner and isinstance(owner.node, ast.ClassDef) and names:
            self._types[next(iter(names))] = owner

    def read(self, nodes: Iterable[Any]) -> None:
        """Read statements and expressions, in the order in which they run."""
        for node in nodes:
            if isinstance(node, (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)):
                results = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
                self.read([*node.generators, *results])
            elif isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension)):
                self._bind([node.target], node.iter)
                self.read([*getattr(node, "ifs", ()), *getattr(node, "body", ()), *getattr(node, "orelse", ())])
            elif isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.NamedExpr)):
                self._bind(node.targets if isinstance(node, ast.Assign) else [node.target], node.value)
            elif isinstance(node, ast.withitem) and node.optional_vars:
                self._bind([node.optional_vars], node.context_expr)
            elif not isinstance(node, (ast.Raise, ast.ExceptHandler)):
                self.read(ast.iter_child_nodes(node))
                if isinstance(node, ast.Call):
                    self._call(node)

    def type_of(self, node: Any) -> Found | None:
        """Return the class of an expression's value, or the function, class or module that it names."""
        if isinstance(node, ast.Name):
            return self._types.get(node.id) or self._product.find(self._module, node.id)
        if isinstance(node, ast.Attribute):
            owner = self.type_of(node.value)
            return self._product.member(owner, node.attr) if owner else None
        if isinstance(node, ast.Call):
            found = self.type_of(node.func)
            if found is None or not isinstance(found.node, FUNCTION):
                return found
            is_self = isinstance(found.node.returns, ast.Name) and found.node.returns.id == "Self"
            return (
                self.type_of(node.func.value) if is_self else self._product.class_of(found.module, found.node.returns)
            )  # type: ignore[attr-defined]
        return self.type_of(node.value) if isinstance(node, (ast.Await, ast.Subscript)) else None

    def _bind(self, targets: list[Any], value: Any) -> None:
        self.read([value] if value else [])
        for whole in targets:
            for target, part in pairs(whole, value):
                if isinstance(target, ast.Name):
                    self._types[target.id] = self.type_of(part) or self._types.get(target.id)
                if self._has(part):
                    self._hold(target)

    def _hold(self, target: Any) -> None:
        """Follow the names of a target: a name, a tuple of names, or the object of an attribute or item."""
        while isinstance(target, (ast.Attribute, ast.Subscript, ast.Starred)):
            target = target.value
        for part in target.elts if isinstance(target, (ast.Tuple, ast.List)) else ():
            self._hold(part)
        self._followed |= {target.id} if isinstance(target, ast.Name) else set()

    def _has(self, node: Any) -> bool:
        return node is not None and any(isinstance(p, ast.Name) and p.id in self._followed for p in ast.walk(node))

    def _call(self, call: ast.Call) -> None:
        arguments = [(None, part) for part in call.args] + [(part.arg, part.value) for part in call.keywords]
        receiver = call.func.value if isinstance(call.func, ast.Attribute) else None
        if not (self._has(receiver) or any(self._has(part) for _, part in arguments)):
            return
        if isinstance(call.func, ast.Attribute) and call.func.attr in KEEPS:
            self._hold(receiver)
        for _, part in arguments:  # a function that is handed on, to `map` for one, is called with the value
            handed = self.type_of(part) if isinstance(part, (ast.Name, ast.Attribute)) else None
            if handed and isinstance(handed.node, FUNCTION):
                self._enter(handed, set(parameters(handed.node)), None)
        function, owner = self.type_of(call.func), self.type_of(receiver)
        if function and isinstance(function.node, ast.ClassDef):
            function, owner = self._product.member(function, "__init__"), function
        if function and isinstance(function.node, FUNCTION):
            names = list(parameters(function.node))
            is_bound = owner is not None and names[:1] in (["self"], ["cls"])
            followed = {names[0]} if is_bound and self._has(receiver) else set()
            for place, (keyword, part) in enumerate(arguments, start=is_bound):
                if self._has(part):
                    followed |= {keyword} if keyword else set(names[place : place + 1])
            if followed:
                self._enter(function, followed, owner)


def parameters(function: Any) -> dict[str, ast.expr | None]:
    """Return the parameters of a function with their annotations."""
    arguments = function.args
    listed = [*arguments.posonlyargs, *arguments.args, arguments.vararg, *arguments.kwonlyargs, arguments.kwarg]
    return {part.arg: part.annotation for part in listed if part}


def pairs(target: Any, value: Any) -> list[tuple[Any, Any]]:
    """Return targets with their values: `a, b = x, y` has two."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        return list(zip(target.elts, value.elts, strict=True))
    return [(target, value)]


def named_walks() -> list[tuple[str, list[str], tuple[int, int]]]:
    """Return the walks of the page: what they follow, their starts, and the most stays and returns."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \| (`[^|]+:[^|]+:[^|]+`) \|.*\| (\d+) / (\d+) \|$", page, re.MULTILINE)
    return [(value, re.findall(r"`([^`]+)`", starts), (int(stays), int(back))) for value, starts, stays, back in rows]


if __name__ == "__main__":
    for value, starts, most in [("", sys.argv[1:], None)] if sys.argv[1:] else named_walks():
        walk = Walk(Product(), starts)
        print(f"{value}: {len(walk.stays())} stays, {walk.returns()} returns; at most {most}")
        for file, names in walk.stays():
            print(f"  {file}: {', '.join(names)}")
