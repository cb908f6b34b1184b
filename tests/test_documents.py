"""Examples in docstrings run and print what they say; so does the README's first program."""

import configparser
import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def modules_with_examples():
    """Names of all modules, in the folders that setup.cfg gathers under one name, whose text holds an example."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    names = []
    for line in setup["options"]["package_dir"].strip().splitlines():
        package, folder = (part.strip() for part in line.split("="))
        for file in sorted((ROOT / folder).rglob("*.py")):
            if ">>> " in file.read_text(encoding="utf-8"):
                parts = file.relative_to(ROOT / folder).with_suffix("").parts
                names.append(".".join([package, *parts]).removesuffix(".__init__"))
    return names


def python_blocks(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_of_a_module(name):
    """None is skipped: an example that cannot run cannot be trusted either."""
    module = importlib.import_module(name)
    tests = [test for test in doctest.DocTestFinder().find(module) if test.examples]
    assert tests
    for test in tests:
        assert not any(doctest.SKIP in example.options for example in test.examples), test.name
        assert doctest.DocTestRunner().run(test).failed == 0, test.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_on_a_page_is_python(page):
    for block in python_blocks(page):
        compile(block, page.name, "exec")


@pytest.mark.parametrize(
    "epochs", [3, pytest.param(None, marks=pytest.mark.slow)], ids=["few epochs", "as printed"]
)
def test_the_readmes_program_runs(epochs, capsys):
    (program,) = python_blocks(ROOT / "README.md")
    if epochs is not None:
        program, replaced = re.subn(r"epochs=\d+", f"epochs={epochs}", program)
        assert replaced == 1
    names = {}
    exec(compile(program, "README.md", "exec"), names)
    assert names["prediction"].shape == (500, 1)
    assert "input" in capsys.readouterr().out
    if epochs is None:
        table = names["table"]
        chosen = table.index[(table["group"] == "input") & table["selected"]].tolist()
        assert chosen == ["x1", "x4", "x8"]
