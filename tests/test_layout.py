"""How the packages are laid out: imports run one way, and a file's name tells which file it is."""

import ast
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = {"safevla": ROOT / "safevla", "safevla_envs": ROOT / "envs/safevla_envs"}


def module_name(path, package):
    parts = (package, *path.relative_to(SOURCES[package]).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source, modules):
    """Modules that a module imports anywhere but for type checking, lazily or not."""
    tree = ast.parse(source)
    hidden = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield from [m for m in (whole, node.module) if m in modules][:1]


def graph(package):
    paths = sorted(SOURCES[package].rglob("*.py"))
    modules = {module_name(path, package): path.read_text() for path in paths}
    return {name: set(imports(text, modules)) - {name} for name, text in modules.items()}


def cycle(edges):
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return error.args[1]
    return None


def test_a_circle_would_be_found():
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) is not None
    text = "if TYPE_CHECKING:\n    import p.a\ndef f():\n    from p import b\n"
    assert list(imports(text, {"p", "p.a", "p.b"})) == ["p.b"]


@pytest.mark.parametrize("package", SOURCES)
def test_imports_run_one_way(package):
    assert cycle(graph(package)) is None


@pytest.mark.parametrize("package", SOURCES)
def test_a_file_name_occurs_once(package):
    names = Counter(path.name for path in SOURCES[package].rglob("*.py"))
    assert [n for n, count in names.items() if count > 1 and n != "__init__.py"] == []
