"""The code that decides a step's result: the modules that it imports, and the data files that these read.

A module counts if the step's `step.py` imports it, directly or through other modules, at the top or inside a
function, or names it in a text, as `python -m` takes it. Imports under `TYPE_CHECKING` do not count. A module that
uses `__file__` reads data files: all files in its folder and below count, except Python sources, Markdown and PNG.

Comments, docstrings, descriptions of parameters and layout of a module do not count. The digest does not depend on
the Python version: the images of one pipeline may have different ones.
"""

import ast
import hashlib
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from importlib.util import resolve_name
from pathlib import Path
from typing import NamedTuple

PACKAGE = "gradsift.components"
NO_DATA = {".py", ".md", ".png"}


class Module(NamedTuple):
    """A module's part in a step's code: digests of its files, by their names, and the names that it imports."""

    digests: dict[str, str]
    imports: set[str]


@cache
def code_digest(step: str) -> str:
    """Return the digest of a step's code, as it is installed."""
    return digest_of_code(step, Path(str(files(PACKAGE))))


@cache
def module_digest(name: str) -> str:
    """Return the digest of a module's code, and that of the modules that it imports, as they are installed."""
    return _digest_from(name, Path(str(files(PACKAGE))))


def digest_of_code(step: str, components: Path) -> str:
    """Return the digest of a step's code.

    Args:
        step: the step's package name.
        components: the folder of the package `gradsift.components`; nothing is imported from it.

    Raises:
        ModuleNotFoundError: the step has no `step.py`.
    """
    start = f"{PACKAGE}.{step}.step"
    if _source(start, components) is None:
        raise ModuleNotFoundError(f"There is no module {start!r} in {components}.", name=start)
    return _digest_from(start, components)


def _digest_from(start: str, components: Path) -> str:
    digests: dict[str, str] = {}
    seen: set[str] = set()
    waiting = {start}
    while waiting:
        name = waiting.pop()
        seen.add(name)
        path = _source(name, components)
        if path is not None:
            module = _read(name, path, components)
            digests |= module.digests
            waiting |= {name.rpartition(".")[0], *module.imports} - seen
    return hashlib.sha256(repr(sorted(digests.items())).encode()).hexdigest()


def _source(name: str, components: Path) -> Path | None:
    """Return the file of a module, or None where `name` is not one of the package."""
    if re.fullmatch(rf"{re.escape(PACKAGE)}(\.\w+)*", name) is None:
        return None
    base = components.joinpath(*name.removeprefix(PACKAGE).split("."))
    return next((path for path in (base / "__init__.py", base.with_suffix(".py")) if path.is_file()), None)


def _read(name: str, path: Path, components: Path) -> Module:
    tree = _Running().visit(ast.parse(path.read_bytes()))
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    digests = {name: hashlib.sha256(_text(tree).encode()).hexdigest()}
    if any(isinstance(node, ast.Name) and node.id == "__file__" for node in ast.walk(tree)):
        for file in _data_files(path.parent):
            digests[file.relative_to(components).as_posix()] = hashlib.sha256(file.read_bytes()).hexdigest()
    return Module(digests, set(_imports(tree, package)))


class _Running(ast.NodeTransformer):
    """Leaves out of a module what has no effect: docstrings, descriptions, imports for type checks."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> ast.AST | None:
        return None if node.arg == "description" else self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | None:
        if "TYPE_CHECKING" in (getattr(node.test, "id", None), getattr(node.test, "attr", None)):
            node.body = []
        return self.generic_visit(node)


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Yield every name that may be a module's: `from a import b` imports `a`, and `a.b` if that is one."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                source = resolve_name("." * level + (module or ""), package)
                yield from (source, *(f"{source}.{alias.name}" for alias in names))
            case ast.Constant(value=str(text)):
                yield text


def _text(value: object) -> str:
    """Return a syntax tree as text, without its empty fields: newer Python versions add some."""
    if isinstance(value, ast.AST):
        fields = [
            f"{name}={_text(field)}" for name, field in ast.iter_fields(value) if field not in (None, [])
        ]
        return f"{type(value).__name__}({','.join(fields)})"
    if isinstance(value, list):
        return f"[{','.join(map(_text, value))}]"
    return repr(value)


def _data_files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        hidden = path.name.startswith(".") or path.parent.name == "__pycache__"
        if path.is_file() and path.suffix not in NO_DATA and not hidden:
            yield path
