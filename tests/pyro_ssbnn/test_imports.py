"""The house: imports go one way, from room to room and from module to module."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = {
    ROOT / "pyro_ssbnn": "pyro_ssbnn",
    ROOT / "models": "pyro_ssbnn.models",
    ROOT / "guides": "pyro_ssbnn.guides",
    ROOT / "analysis": "pyro_ssbnn.analysis",
}
# Each room may import from those before it.
ROOMS = [
    "_version",
    "errors",
    "arguments",
    "checks",
    "registry",
    "isolation",
    "parallel",
    "traces",
    "display",
    "rows",
    "distributions",
    "priors",
    "likelihoods",
    "structure",
    "layers",
    "models",
    "guides",
    "posterior",
    "selection",
    "theory",
    "files",
    "inference",
    "published",
    "exact",
    "data",
    "analysis",
    "results",
    "compression",
    "sklearn",
    "cli",
    "__main__",
]


def modules():
    """Source file of every module by its dotted name; a package's ``__init__`` has the package's name."""
    found = {}
    for folder, name in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            dotted = ".".join([name, *parts]).removesuffix(".__init__")
            found[dotted] = path
    return found


MODULES = modules()


def imports(name):
    """Modules of the package that a module imports anywhere in it, also for types only or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    known = {n if n in MODULES else n.rpartition(".")[0] for n in found}
    return {n for n in known if n in MODULES and n != name}


@pytest.mark.parametrize("name", [n for n in MODULES if n != "pyro_ssbnn"])
def test_a_module_imports_only_from_rooms_before_its_own(name):
    room = name.split(".")[1]
    for other in imports(name):
        assert other != "pyro_ssbnn", f"{name} imports the front door"
        assert ROOMS.index(other.split(".")[1]) <= ROOMS.index(room), f"{name} imports {other}"


def test_no_module_imports_itself_in_a_circle():
    """Packages' ``__init__`` modules gather names and are left out; inside a room modules import modules."""
    graph = {n: {m for m in imports(n) if not is_package(m)} for n in MODULES if not is_package(n)}
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError
    assert set(order) == set(graph)


def is_package(name):
    return MODULES[name].stem == "__init__"
